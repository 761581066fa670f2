"""Files are found by their path, and by their path within the package's own configs."""

import copy
import gc
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mmengine.config import Config

from bmp import UserError
from bmp.config import load_config, packaged, read_config_file

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


@pytest.mark.parametrize(
    "name", ["lite", "lite.py", "nano.py", "ochuman.py", "models/sam2_nano.yaml", "train/sam_nano_base"]
)
def test_no_file_in_the_working_folder_replaces_one_of_the_package(name, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    local = tmp_path / (name if Path(name).suffix else f"{name}.py")
    local.parent.mkdir(exist_ok=True)
    local.write_text("raise SystemExit('hijacked')")
    (tmp_path / name).touch()
    assert packaged(name).parent.is_relative_to(CONFIGS)
    assert caplog.messages == [f"{name} means the package's; the file of that name in the working folder is ./{name}"]
    assert packaged(f"./{name}") == packaged(Path(name)) == Path(name)
    assert packaged(str(tmp_path / name)) == tmp_path / name


def test_other_files_are_found_by_their_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "lite.py").touch()
    assert packaged("mine/lite.py") == packaged("mine/lite") == Path("mine/lite.py")
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.touch()
    assert packaged(elsewhere) == packaged(str(elsewhere)) == elsewhere


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


BASES = {
    "own": "_base_ = ['lite.py']; x = 1",
    "own_list": "x = 1  # é\n_base_ = [\n    'middle.py',\n]\ny = [\n    '{{ fileDirname }}', '{{fileBasename}}',\n]\n",
    "middle": "_base_ = 'lite.py'\npipeline = dict(rounds=3)\nz = {{_base_.pipeline.suppressor}}\n",
    "both": "_base_ = ['middle.py', 'mmdet::_base_/schedules/schedule_1x.py']\n",
    "computed": "_base_ = ['mid' + 'dle_beside.py']\n",
    "middle_beside": "a = 1\n",
}


def test_bases_are_found_beside_and_in_the_package_wherever_they_stand(tmp_path, monkeypatch):
    write(tmp_path, **BASES)
    monkeypatch.chdir("/")
    assert load_config(tmp_path / "own.py").pipeline.detector.type == "LiteDetector"
    listed = load_config(tmp_path / "own_list.py")
    assert listed.pipeline.rounds == 3
    assert listed.z.type == "OKSSuppressor"
    assert listed.y == [str(tmp_path), "own_list.py"]
    assert load_config(tmp_path / "computed.py").a == 1


@pytest.mark.slow
def test_bases_of_other_packages_keep_their_scope(tmp_path):
    pytest.importorskip("mmdet")
    found = load_config(write(tmp_path, **BASES) / "both.py")
    assert found.pipeline.rounds == 3
    assert found.optim_wrapper.optimizer.type == "SGD"


@pytest.mark.slow
def test_configs_are_read_by_many_threads_at_once(tmp_path):
    write(tmp_path, **BASES)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(load_config, [tmp_path / "own.py", "nano.py", tmp_path / "middle.py"] * 8))
    assert [config.pipeline.rounds for config in found] == [1, 2, 3] * 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("_base_ = ['gone.py']", "FileNotFoundError: its base 'gone.py' is neither beside it nor among"),
        ("_base_ = ['it.py']", "ValueError: its bases go round in a circle, it.py -> it.py"),
        ("_base_ = ['other.py']", "ValueError: its bases go round in a circle, it.py -> other.py -> it.py"),
        ("_base_ = ['broken.py', 'lite.py']", "SyntaxError: .*broken.py, line 2"),
        ("_base_ = 3", "TypeError"),
        ("_base_ = ['lite.py', 'nano.py']", "KeyError: .*Duplicate key"),
    ],
)
def test_mistakes_about_bases_are_one_line(tmp_path, text, words):
    write(tmp_path, it=text, other="_base_ = ['it.py']", broken="x = 1\n)")
    with pytest.raises(UserError, match=f"it.py cannot be read: {words}") as caught:
        read_config_file(tmp_path / "it.py")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_config_that_fails_leaves_no_file_open(tmp_path):
    """mmengine copies a config to a file, which an exception that is kept would hold open."""

    def left_open():
        return {id(each) for each in gc.get_objects() if isinstance(each, io.BufferedRandom) and not each.closed}

    (tmp_path / "broken.py").write_text("1 / 0")
    before = left_open()
    with pytest.raises(UserError, match="ZeroDivisionError") as kept:
        read_config_file(tmp_path / "broken.py")
    assert left_open() <= before, kept


def test_the_text_of_a_config_says_the_same_and_takes_no_time(monkeypatch):
    """Each checkpoint of a training holds it; formatting it would take longer than an iteration of a small network."""
    monkeypatch.setattr("mmengine.config.config.FormatCode", None)
    config = load_config("lite.py")
    assert Config.fromstring(copy.deepcopy(config).pretty_text, ".py").to_dict() == config.to_dict()
