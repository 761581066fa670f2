"""Files are found by their path, and by their path within the package's own configs."""

from pathlib import Path

import pytest

from bmp.config import packaged

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lite.py", "lite.py"),
        ("lite", "lite.py"),
        (Path("models") / "sam2_nano.yaml", "models/sam2_nano.yaml"),
        ("train/rtmdet_ins_nano", "train/rtmdet_ins_nano.py"),
        ("none.py", None),
        ("models", None),  # a folder is no file
        ("models/sam2_nano", None),
        ("", None),
        ("..", None),
    ],
)
def test_files_of_the_package(name, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert packaged(name) == (None if found is None else CONFIGS / found)


def test_a_file_of_the_users_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sam2_nano.yaml").touch()
    assert packaged("models/sam2_nano.yaml") == Path("models/sam2_nano.yaml")
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.touch()
    assert packaged(elsewhere) == packaged(str(elsewhere)) == elsewhere
