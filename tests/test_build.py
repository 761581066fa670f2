"""Configs become pipelines, and mistakes are answered with what exists."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from bmp import BMP, UserError
from bmp.build import build, load, resolve_device
from bmp.config import config_names, load_config, parse_overrides

FAKES = dict(
    detector=dict(type="fakes.FakeDetector"),
    pose=dict(type="fakes.FakePose"),
    segmenter=dict(type="fakes.FakeSegmenter"),
    suppressor=dict(type="OKSSuppressor"),
)


def _config(**changes):
    return dict(pipeline=FAKES | changes)


class Needy:
    """A stage with an argument it cannot do without, a device, and a part of its own."""

    def __init__(self, size, device="nowhere", prompter=None, keypoints=()):
        self.size, self.device, self.prompter, self.keypoints = size, device, prompter, keypoints

    def detect(self, images):
        raise AssertionError("never called")


def test_parts_are_built_and_bound():
    model = build(
        _config(detector=dict(type=f"{__name__}.Needy", size=3, prompter=dict(type="MaxVisibility", count=2)))
    )
    assert isinstance(model, BMP)
    assert type(model.detector).__name__ == "Needy"
    assert model.detector.size == 3
    assert model.detector.device == "cpu"
    assert model.detector.prompter.count == 2


def test_a_device_in_the_config_stays():
    model = build(_config(detector=dict(type=f"{__name__}.Needy", size=3, device="meta")), "cpu")
    assert model.detector.device == "meta"


def test_a_class_may_stand_for_its_name():
    assert build(_config(detector=dict(type=Needy, size=1))).detector.size == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(suppressor=dict(type="OKSSupressor")), "pipeline.suppressor: there is no suppressor 'OKSSupressor'; did you mean 'OKSSuppressor'"),
        (dict(segmenter=dict(type="SAM9")), "pipeline.segmenter: there is no segmenter 'SAM9'; there is: .*LiteSegmenter"),
        (dict(suppressor=dict(threshold=0.5)), "pipeline.suppressor: expected a type; there is: .*OKSSuppressor"),
        (dict(segmenter="dict(type='LiteSegmenter')"), "pipeline.segmenter: expected a dict with a type, got .*LiteSegmenter"),
        (dict(suppressor=dict(type="OKSSuppressor", treshold=0.5)), "has no argument 'treshold'; did you mean 'threshold'"),
        (dict(detector=dict(type=f"{__name__}.Needy")), "Needy needs size"),
        (dict(detector=dict(type="nowhere.Detector")), "cannot be imported: No module named 'nowhere'; is its folder on PYTHONPATH"),
        (dict(detector=dict(type="fakes.Nobody")), "cannot be imported: .*Nobody"),
        (dict(round=3), "pipeline: BMP has no argument 'round'; did you mean 'rounds'"),
        (dict(rounds=0), "at least 1"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_with_what_exists(changes, words):
    with pytest.raises(UserError, match=words) as caught:
        build(_config(**changes))
    assert "\n" not in str(caught.value)


def test_a_config_without_pipeline_says_how_to_start():
    with pytest.raises(UserError, match="_base_"):
        build({})


CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize("name", sorted(path.name for path in (CONFIGS / "train").glob("*.py")))
def test_every_training_parses_and_has_what_a_runner_needs(name):
    config = load_config(f"train/{name}")
    assert {"model", "train_dataloader", "train_cfg", "optim_wrapper", "default_scope"} <= set(config.keys())
    assert all(
        (config.get(f"val_{part}") is None) == (config.get("val_cfg") is None) for part in ("dataloader", "evaluator")
    )


def test_every_config_of_the_package_parses():
    names = config_names()
    assert "lite.py" in names
    for name in names:
        load_config(name)


def test_configs_import_nothing_but_the_standard_library():
    for name in config_names():
        text = load_config(name).text
        imported = set(re.findall(r"^\s*(?:from|import)\s+(\w+)", text, re.MULTILINE))
        assert imported <= sys.stdlib_module_names, f"{name} imports {imported}"


def test_a_config_is_found_by_name_with_or_without_ending_and_by_path(tmp_path):
    assert load_config("lite").pipeline == load_config("lite.py").pipeline
    own = tmp_path / "own.py"
    own.write_text("pipeline = dict(rounds=7)\n")
    assert load_config(own).pipeline.rounds == 7
    assert load_config(str(own)).pipeline.rounds == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [("pipeline = dict(", "cannot be read: SyntaxError"), ("_base_ = ['gone.py']\n", "cannot be read: .*gone.py")],
)
def test_a_broken_config_is_one_line(tmp_path, text, words):
    own = tmp_path / "own.py"
    own.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        load_config(own)
    assert "\n" not in str(caught.value)


def test_a_config_that_does_not_exist_lists_those_that_do():
    with pytest.raises(UserError, match=r"'light.py' does not exist; did you mean 'lite.py'\? there is: .*lite.py"):
        load_config("light.py")


def test_overrides_are_typed():
    assert parse_overrides(["a=1", "b.c=0.5", "d=true", "e=None", "f=x.pth", "g=[1, 2]", "h={'type': 'A'}", "i=a=b", "j="]) == {
        "a": 1, "b.c": 0.5, "d": True, "e": None, "f": "x.pth", "g": [1, 2], "h": {"type": "A"}, "i": "a=b", "j": "",
    }  # fmt: skip
    with pytest.raises(UserError, match="expected key=value"):
        parse_overrides(["pipeline.rounds"])


def test_overrides_reach_the_pipeline():
    config = load_config(
        "lite.py", {"pipeline.rounds": 5, "pipeline.suppressor.keypoint_threshold": 0.1, "pipeline.repose": True}
    )
    assert config.pipeline.rounds == 5
    assert config.pipeline.repose is True
    assert config.pipeline.suppressor == dict(type="OKSSuppressor", threshold=0.8, keypoint_threshold=0.1)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("pipelin.rounds", "the config has no 'pipelin'; did you mean 'pipeline'"),
        ("rounds", "the config has no 'rounds'"),
        ("pipeline.supressor.threshold", "pipeline has no 'supressor'; did you mean 'suppressor'"),
        ("pipeline.rounds.more", "pipeline.rounds is a plain value, 2"),
    ],
)
def test_overrides_of_what_does_not_exist_are_refused(key, words):
    with pytest.raises(UserError, match=words):
        load_config("lite.py", {key: 1})


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:99", "xla"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(UserError, match=name):
        resolve_device(name)


@pytest.mark.parametrize(("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_is_the_best_device_there_is(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == best


def test_a_number_is_a_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("1") == "cuda:1"
    with pytest.raises(UserError, match="'cuda:2': this machine has 2 CUDA devices"):
        resolve_device("2")


def test_load_builds_from_a_file(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(f"_base_ = []\npipeline = dict(**{FAKES!r})\n")
    assert load(own, overrides={"pipeline.rounds": 3}).rounds == 3


@pytest.mark.slow
def test_importing_bmp_is_quick_and_loads_no_network_library():
    code = textwrap.dedent(
        """
        import sys, bmp
        heavy = {"torch", "mmengine", "mmcv", "mmdet", "mmpose", "sam2", "cv2", "supervision"} & set(sys.modules)
        assert not heavy, heavy
        from bmp import BMP
        heavy = {"mmcv", "mmdet", "mmpose", "sam2", "supervision", "mmengine"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_users_config_may_start_from_one_of_the_package(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("_base_ = ['lite.py']\npipeline = dict(rounds=7)\n")
    config = load_config(own)
    assert config.pipeline.rounds == 7
    assert config.pipeline.detector.type == "LiteDetector"
    (tmp_path / "lite.py").write_text("pipeline = dict(detector=dict(type='Mine'))\n")
    assert load_config(own).pipeline == dict(rounds=7, detector=dict(type="Mine"))  # beside the file comes first
