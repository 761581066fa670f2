"""What travels in the wheel works without the checkout: the package, its presets and their bases."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    (wheel,) = builder.build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_it_holds_the_package_and_nothing_else(installed):
    (package, metadata) = sorted(path.name for path in installed.iterdir())
    assert package == "bmp"
    assert metadata.endswith(".dist-info")
    assert (installed / "bmp" / "py.typed").is_file()
    names = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.py")}
    assert {
        path.relative_to(installed / "bmp" / "configs") for path in (installed / "bmp" / "configs").rglob("*.py")
    } == names


@pytest.mark.slow
def test_presets_are_found_from_anywhere(installed, tmp_path):
    code = "from bmp.config import config_names, load_config; from bmp.models.configs import load_model_config as model\nfor n in config_names(): load_config(n)\nmodel('models/pmpose_b.py', 'mmpose'); import bmp; print(bmp.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(installed / "bmp" / "__init__.py")
