"""What the README and the docs show is run as it stands there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import cbook

from bmp import UserError
from bmp.checkpoints import sources as weights
from bmp.config import load_config, parse_overrides

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("run_bmp.py", "ablations.py")
DOCUMENTS = [str(page.relative_to(ROOT)) for page in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))]


@pytest.fixture
def workplace(tmp_path):
    """A folder with a photo, where the lite preset works and ``bmp`` is on the path."""
    pytest.importorskip("ai_edge_litert")
    try:
        weights.resolve("mediapipe/pose_detection.tflite")
        weights.resolve("mediapipe/pose_landmark_full.tflite")
    except UserError as error:
        pytest.skip(f"the weights of the lite stages cannot be had: {error}")
    shutil.copy(cbook._get_data_path("sample_data/grace_hopper.jpg"), tmp_path / "photo.jpg")
    return tmp_path


def blocks(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


def run(workplace, *command):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), str(workplace)])}
    done = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bmp_commands(document):
    """Every ``bmp`` command of a document, with the program replaced by how it is started here."""
    lines = [line for block in blocks(document, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [[sys.executable, "-m", "bmp.cli", *line.split()[1:]] for line in lines if line.startswith("bmp ")]


@pytest.mark.slow
def test_python_in_the_readme_runs(workplace):
    snippets = blocks("README.md", "python")
    assert snippets
    for snippet in snippets:
        run(workplace, sys.executable, "-c", snippet)


@pytest.mark.slow
def test_the_documented_stage_of_ones_own_works(workplace):
    stage, config, library = blocks("docs/stages.md", "python")
    (workplace / "largest.py").write_text(stage)
    (workplace / "largest_config.py").write_text(config)
    (command,) = bmp_commands("docs/stages.md")
    assert "photo.jpg: 1 person" in run(workplace, *command)
    assert (workplace / "found" / "people.json").is_file()
    run(workplace, sys.executable, "-c", library + "\nassert len(people) == 1")


def test_the_documented_stage_is_ten_lines():
    stage = blocks("docs/stages.md", "python")[0]
    assert len([line for line in stage.splitlines() if line.strip()]) <= 10


@pytest.mark.slow
def test_the_examples_for_mmpose_work(tmp_path):
    """In a folder with the package's configs, as a checkout has them: evaluate, infer, train, use what was trained."""
    pytest.importorskip("mmpose.apis", reason="needs the extra openmmlab", exc_type=ImportError)
    try:
        weights.resolve("nano/rtmdet-ins-nano.safetensors")
        weights.resolve("nano/pmpose-nano.safetensors")
    except UserError as error:
        pytest.skip(f"the nano networks cannot be had: {error}")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    # Whatever the programs are called where this runs.
    programs = f'python() {{ "{sys.executable}" "$@"; }}; bmp() {{ "{sys.executable}" -m bmp.cli "$@"; }}; set -e\n'
    data, evaluate, train, use = blocks("docs/mmpose.md", "bash")
    _, infer = blocks("docs/mmpose.md", "python")
    run(tmp_path, "bash", "-c", programs + data)
    run(tmp_path, "bash", "-c", programs + evaluate)
    (numbers,) = (tmp_path / "work_dirs" / "bmp_nano").glob("*/*.json")
    assert json.loads(numbers.read_text())["coco/AP"] > 0
    assert run(tmp_path, sys.executable, "-c", infer).count(" people [") == 24
    assert len(list((tmp_path / "output" / "drawn").iterdir())) == 24
    assert len(list((tmp_path / "output" / "found").iterdir())) == 24
    run(tmp_path, "bash", "-c", programs + train)
    assert (tmp_path / "output" / "first" / "iter_4.pth").is_file()
    run(tmp_path, "bash", "-c", programs + use)
    assert (tmp_path / "output" / "people" / "people.json").is_file()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_targets_exist(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert ((ROOT / document).parent / target).exists(), target
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE)) <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_configs_exist_and_have_what_is_set(document):
    text = (ROOT / document).read_text().replace("\\\n", " ")
    commands = re.findall(r"^.*(?:bmp\.train|bmp\.predict_keypoints|run_bmp\.py|ablations\.py) .*$", text, re.MULTILINE)
    for words in map(shlex.split, (command.strip("`*|. ") for command in commands if "`" not in command)):
        names = [
            word for word in words if re.fullmatch(r"(?:configs/)?[\w+/]+\.py", word) and not word.endswith(PROGRAMS)
        ]
        settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
        for name in names:
            load_config(name, parse_overrides(settings))
