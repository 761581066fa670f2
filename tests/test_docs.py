"""The pages are followed line by line, in the order of README's links, in one folder that looks like a fresh checkout.

Every block is ``bash`` or ``python``. A comment before a block says what is done with it here:

- none: it is run;
- ``<!-- not run: REASON -->``: its commands are parsed by their programs, and the configs that they name are loaded;
- ``<!-- file: NAME -->``: it is written to that file, for the blocks after it.
"""

import argparse
import ast
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from mmengine.registry import DefaultScope

import bmp
from bmp import UserError
from bmp.checkpoints import sources as weights
from bmp.config import load_config, parse_overrides
from bmp.console import Parser

ROOT = Path(__file__).resolve().parents[1]

DOCUMENTS = [
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", ".github/**/*.md", "third_party/**/README.md")
    for page in sorted(ROOT.glob(pattern))
]
IN_A_CHECKOUT = (
    "benchmarks",
    "configs",
    "docs",
    "pipeline",
    "third_party",
    "Makefile",
    "requirements.txt",
    "run_bmp.py",
)
FEW = 4
PICTURES = ("grace_hopper.jpg", "parts_portrait.jpg")
# Programs of others: that their options are right, the pages have to know themselves.
OTHERS = {"cd", "docker", "git", "pip", "source", "tensorboard", "pre-commit"}


class Block(NamedTuple):
    page: str
    language: str
    remark: str  # "", "not run: REASON" or "file: NAME"
    text: str


def blocks(document):
    pattern = r"^ *(?:<!-- ((?:not run|file): [^\n]+) -->\n *)?```(\w*)\n(.*?)^ *```"
    found = re.finditer(pattern, (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    return [
        Block(document, language, remark or "", textwrap.dedent(text))
        for remark, language, text in (each.groups() for each in found)
    ]


def in_reading_order():
    """README, the pages in the order in which it links to them, and all others."""
    linked = re.findall(r"\]\(([\w/]+\.md)", (ROOT / "README.md").read_text())
    return list(dict.fromkeys(["README.md", *linked, *DOCUMENTS]))


ALL = [block for page in in_reading_order() for block in blocks(page)]


def commands(text):
    """The commands of a block as words, without comments."""
    lines = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [words for words in lines if words]


class Parsed(BaseException):
    """Carries the options out of a program that is only to parse them; no ``except Exception`` of its may stop it."""


def start(words):
    """Run a command of ours in this process, as if typed in the current folder; return its exit code."""
    program, *arguments = words
    program = Path(program).name
    if program == "bmp":
        program, arguments = "python", ["-m", "bmp.cli", *arguments]
    assert program in ("python", "python3"), f"nobody knows how to check {shlex.join(words)!r}"
    module = arguments.pop(0) == "-m" if arguments[0] == "-m" else False
    name, *arguments = arguments
    path, argv, scopes = list(sys.path), sys.argv, DefaultScope._instance_dict
    sys.argv, DefaultScope._instance_dict = [name, *arguments], OrderedDict()
    try:
        if module and name.startswith("bmp."):
            # The module as it was imported: run anew, it would register its classes a second time.
            package = importlib.util.find_spec(name).submodule_search_locations is not None
            return importlib.import_module(f"{name}.__main__" if package else name).main()
        if module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(name).resolve().parent))
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    finally:
        sys.path[:], sys.argv, DefaultScope._instance_dict = path, argv, scopes
    return 0


def _only_parse(parse):
    def parse_only(parser, *arguments, **named):
        raise Parsed(parse(parser, *arguments, **named))

    return parse_only


def options_of(words, monkeypatch):
    """What a command's own parser makes of its options; fails if it refuses them."""
    with monkeypatch.context() as patch:
        for parser in (argparse.ArgumentParser, Parser):
            patch.setattr(parser, "parse_args", _only_parse(parser.parse_args))
        try:
            code = start(words)
        except Parsed as parsed:
            return parsed.args[0]
    raise AssertionError(f"{shlex.join(words)}: exit code {code}")


def check(words, monkeypatch):
    """Check a command that is not run: its options and the configs that it names."""
    program = Path(words[0]).name
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word and word[0] != "-"} <= set(targets)
    elif program == "torchrun":
        from torch.distributed.run import parse_args

        launched = parse_args(words[1:])
        module = ["-m"] if launched.module else []
        check(["python", *module, launched.training_script, *launched.training_script_args], monkeypatch)
    elif program not in OTHERS and not words[1].startswith("$"):
        options = options_of(words, monkeypatch)
        if config := getattr(options, "config", None):
            load_config(config, parse_overrides(getattr(options, "set", [])))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with what a fresh clone has, where the programs find the package of this checkout."""
    for name in IN_A_CHECKOUT:
        if name != "docs":
            (tmp_path / name).symlink_to(ROOT / name)
    # Of the pictures two: the pages let people be found in all of them, and drawn crowds take a minute a time.
    for path in [*(ROOT / "docs").glob("*.py"), *(ROOT / "docs" / "images" / name for name in PICTURES)]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("bmp.synthcrowd.__main__._ON_SHEET", FEW)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # else the generator starts a process for each core
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "pipeline"), str(tmp_path)]))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:  # those of the folder, which is gone soon
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def _put_in(text):
    """Let the shell put what programs print, ``$(python -c ...)``, into the commands of a block, and run no others."""
    say = "printf '%q ' python \"$@\"; echo"
    python = f'python() {{ if [ "$1" = -c ]; then "{sys.executable}" "$@"; else {say}; fi; }}; set -e\n'
    done = subprocess.run(["bash", "-c", python + text], capture_output=True, text=True)
    assert done.returncode == 0, text + done.stderr
    return done.stdout


def _fewer(words):
    """Let a command draw four crowds where it is to draw more, which takes it half a second each."""
    pairs = zip(["", *words], words, strict=False)
    return [str(min(int(word), FEW)) if option == "--count" else word for option, word in pairs]


def run(block, names):
    """Run a block as a reader does; ``names`` are those that the page's blocks of Python have defined so far."""
    if block.language == "python":
        exec(compile(block.text, block.page, "exec"), names)
    else:
        for words in commands(_put_in(block.text) if "$(" in block.text else block.text):
            code = start(_fewer(words))
            assert code == 0, f"{block.page}: {shlex.join(words)}: exit code {code}"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # all pages one after the other
def test_the_pages_can_be_followed_line_by_line(checkout):
    pytest.importorskip("mmpose.apis", reason="needs the extra openmmlab", exc_type=ImportError)
    pytest.importorskip("ai_edge_litert")
    try:
        weights.resolve("mediapipe/ssd_mobilenet_v2_open_images.tflite")
    except UserError as error:
        pytest.skip(f"the weights of the lite stages cannot be had: {error}")
    names = {block.page: {"__name__": "__main__"} for block in ALL}
    for block in ALL:
        if block.remark.startswith("file: "):
            Path(block.remark.removeprefix("file: ")).write_text(block.text)
        elif not block.remark:
            run(block, names[block.page])
    # What the pages promise about these runs.
    assert {path.name for path in Path("bmp-output").iterdir()} >= {"people.json", "overlays", "people.png"}
    assert {path.name for path in Path("output/found").iterdir()} >= {"people.json", "overlays", "traces"}
    assert len(list(Path("output/drawn").iterdir())) == len(list(Path("output/found-by-mmpose").iterdir())) == 4
    assert Path("output/pose/iter_4.pth").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in ALL if block.remark.startswith("not run")], ids=lambda b: b.page)
def test_what_is_not_run_is_parsed(block, checkout, monkeypatch):
    if block.language == "python":
        for statement in ast.parse(block.text).body:
            # A program that the remark names need not be installed.
            other = isinstance(statement, ast.Import) and statement.names[0].name in block.remark.lower()
            if isinstance(statement, ast.Import | ast.ImportFrom) and not other:
                exec(compile(ast.Module([statement], []), block.page, "exec"), {})
        return
    for words in commands(block.text):
        check(words, monkeypatch)


def test_every_block_is_run_or_says_why_not():
    assert {block.language for block in ALL} <= {"bash", "python"}
    assert len(ALL) > 20
    for block in ALL:
        fences = re.findall(r"^ *```", (ROOT / block.page).read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(block.page)), f"{block.page}: a block without a language, or not closed"


def test_the_documented_stage_is_ten_lines():
    (stage,) = (block.text for block in ALL if block.remark == "file: largest.py")
    assert len([line for line in stage.splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_targets_exist(document):
    text = (ROOT / document).read_text()
    for target, section in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", text):
        page = (ROOT / document).parent / target if target else ROOT / document
        assert page.exists(), target
        if section:
            titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
            assert section in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE)) <= targets


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if not page.startswith("third_party")])
def test_python_files_that_are_named_exist(document):
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    written = {block.remark.removeprefix("file: ") for block in ALL}
    folders = [ROOT / name for name in ("", "configs", "configs/mmpose", "pipeline", "pipeline/bmp", "docs")]
    for name in re.findall(r"`(?:\.\./)?(?!tools/)([\w+/]+\.py)`", text):  # tools/ is MMPose's
        assert name in written or any((folder / name).is_file() for folder in folders), name


class TestRelease:
    """One version, and what tells others about it."""

    def test_the_changelog_starts_with_unreleased_and_then_has_this_version_with_its_date(self):
        titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
        assert titles[0] == "Unreleased"
        assert re.fullmatch(rf"{re.escape(bmp.__version__)} - \d{{4}}-\d\d-\d\d", titles[1])

    def test_the_citation_has_this_version_and_its_date(self):
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        assert citation["version"] == bmp.__version__
        assert f"## {bmp.__version__} - {citation['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text()

    def test_the_package_has_the_version_of_the_module(self):
        metadata = pytest.importorskip("hatchling.metadata.core")
        plugins = pytest.importorskip("hatchling.plugin.manager")
        assert metadata.ProjectMetadata(str(ROOT), plugins.PluginManager()).version == bmp.__version__

    def test_ci_runs_targets_of_make_with_every_python_that_is_supported(self):
        workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
        runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
        assert {"make lint", "make test-fast", "make test"} == set(runs)
        supported = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
        assert workflow["jobs"]["fast"]["strategy"]["matrix"]["python"] == supported

    def test_hooks_of_pre_commit_are_programs_of_the_environment(self):
        (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        assert local["repo"] == "local"
        assert all(hook["language"] == "system" for hook in local["hooks"])
        assert all(hook["entry"].startswith((".venv/bin/", "make ")) for hook in local["hooks"])
