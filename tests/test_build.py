"""Configs become pipelines, and mistakes are answered with what exists."""

import io
import logging
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import PIL.Image
import pytest
import torch

from bmp import BMP, UserError
from bmp.build import _ROLES, _Assembly, build, build_part, load, resolve_device, weights_of
from bmp.cli import main
from bmp.config import config_names, load_config, parse_overrides
from bmp.registry import DETECTORS
from bmp.stages import Detector, ImageEncoder, Prompter

FAKES = dict(
    detector=dict(type="fakes.FakeDetector"),
    pose=dict(type="fakes.FakePose"),
    segmenter=dict(type="fakes.FakeSegmenter"),
    suppressor=dict(type="OKSSuppressor"),
)


def _png():
    PIL.Image.new("RGB", (8, 8)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


PNG = _png()


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


MADE = []


class Encoder:
    """A part to share; counts how often it is made."""

    def __init__(self, size: int = 1, friend: "ImageEncoder | None" = None):
        MADE.append(self)
        self.size, self.friend = size, friend

    def levels(self, images):
        raise AssertionError("never called")


class Pair:
    """A stage with parts, whose roles only its annotations tell."""

    def __init__(
        self,
        first: Detector,
        encoder: Encoder | None = None,
        many: Sequence[Prompter] = (),
        named: Mapping[str, Prompter] | None = None,
        settings: Mapping[str, Any] | None = None,
        model: str | Path | Mapping[str, Any] = "",
    ):
        self.first, self.encoder, self.many, self.named = first, encoder, many, named
        self.settings, self.model = settings, model

    def detect(self, images):
        return self.first.detect(images)


def made_by_a_function(kind: str = "encoder"):
    return Encoder() if kind == "encoder" else 3


ENCODER = dict(type=f"{__name__}.Encoder")
FAKE, VISIBLE = dict(type="fakes.FakeDetector"), dict(type="MaxVisibility", count=2)


def pair(**arguments):
    return dict(type=f"{__name__}.Pair", **(dict(first=FAKE) | arguments))


def test_weights_are_those_given_and_those_by_default():
    detector = dict(type="LiteDetector", weights="own.tflite")
    assert list(weights_of(detector)) == ["own.tflite", "mediapipe/pose_landmark_full.tflite"]
    nested = dict(
        type="MaskPromptedSegmenter", segmenter=dict(type="SAM2Segmenter", checkpoint="random", encoder="sam")
    )
    shared = dict(sam=dict(type="SAM2Encoder", checkpoint="a.pt"))
    assert list(weights_of(nested, shared)) == ["a.pt"]
    settings = dict(type="somewhere.Else", checkpoint="b.pth", model=dict(type="not.There"))
    assert list(weights_of(settings)) == ["b.pth"]


def test_annotations_say_what_a_part_is_for():
    raw = dict(type="whatever", first=FAKE)
    found = build(_config(detector=pair(many=[VISIBLE, VISIBLE], named={"a": VISIBLE}, settings=raw))).detector
    assert type(found.first).__name__ == "FakeDetector"
    assert [prompter.count for prompter in found.many] == [2, 2]
    assert found.named["a"].count == 2
    assert found.settings == raw  # a dict is wanted, so none of it is built
    # A path can `resolve`, as a rule of overlaps can, and is none.
    for plain in (raw, {"channels": 8}, "models/samp_nano.py"):
        assert build(_config(detector=pair(model=plain))).detector.model == plain


@pytest.mark.parametrize("encoder", [ENCODER | dict(size=7), dict(type=f"{__name__}.made_by_a_function")])
def test_a_shared_part_is_made_once_and_given_to_all(encoder):
    MADE.clear()
    model = build(_config(shared=dict(sam=encoder), detector=pair(encoder="sam"), redetector=pair(encoder="sam")))
    assert model.detector.encoder is model.redetector.encoder is MADE[0]
    assert len(MADE) == 1


def test_shared_parts_may_have_shared_parts():
    MADE.clear()
    shared = dict(outer=ENCODER | dict(friend="inner"), inner=ENCODER | dict(size=2))
    model = build(_config(shared=shared, detector=pair(encoder="outer"), redetector=pair(encoder="inner")))
    assert model.detector.encoder.friend is model.redetector.encoder
    assert len(MADE) == 2


def test_a_whole_stage_may_be_shared():
    model = build(_config(shared=dict(mine=FAKE), detector="mine", redetector="mine"))
    assert model.detector is model.redetector


def test_a_part_alone_takes_shared_parts_too():
    found = build_part(pair(encoder="sam"), DETECTORS, shared=dict(sam=ENCODER, unused=ENCODER))
    assert isinstance(found.encoder, Encoder)


def circle(*names):
    return {name: ENCODER | dict(friend=after) for name, after in zip(names, (*names[1:], names[0]), strict=True)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(shared=dict(sam=ENCODER), detector=pair(encoder="sma")), r"pipeline.detector.encoder: expected a dict with a type or the name of a shared part, got 'sma'; did you mean 'sam'\? there is: sam in pipeline.shared"),
        (dict(detector=pair(encoder="sam")), "pipeline.detector.encoder: expected a dict with a type, got 'sam'; with --set"),
        (dict(shared=dict(sam=ENCODER)), "pipeline.shared.sam: no stage uses it"),
        (dict(shared=dict(sam=ENCODER, more=ENCODER), detector=pair(encoder="sam")), "pipeline.shared.more: no stage uses it"),
        (dict(shared=dict(sam=FAKE), detector=pair(encoder="sam")), "pipeline.detector.encoder: shared part 'sam': expected an Encoder or None, got FakeDetector, which is a detector"),
        (dict(shared=circle("a", "b"), detector=pair(encoder="a")), "pipeline.shared: a -> b -> a go round in a circle"),
        (dict(shared=circle("a"), detector=pair(encoder="a")), "pipeline.shared: a -> a go round"),
        (dict(shared=dict(sam=dict(size=3)), detector=pair(encoder="sam")), "pipeline.shared.sam: expected a type; there is: .*SAM2Encoder"),
        (dict(shared=dict(sam="other"), detector=pair(encoder="sam")), "pipeline.shared.sam: expected a type"),
        (dict(shared=dict(sam=dict(type="SAM2Encode")), detector=pair(encoder="sam")), "pipeline.shared.sam: there is no part 'SAM2Encode'; did you mean 'SAM2Encoder'"),
        (dict(shared=dict(sam=ENCODER | dict(sise=3)), detector=pair(encoder="sam")), "pipeline.shared.sam: Encoder has no argument 'sise'; did you mean 'size'"),
        (dict(shared=dict(sam=ENCODER | dict(size="3")), detector=pair(encoder="sam")), "pipeline.shared.sam.size: expected a whole number, got '3'"),
        (dict(shared=[ENCODER]), "pipeline.shared: expected a dict of parts by name, got"),
        (dict(shared=dict(sam=dict(type=f"{__name__}.made_by_a_function", kind="number")), detector=pair(first="sam")), "pipeline.detector.first: shared part 'sam': expected a Detector, got int"),
        (dict(detector=pair(first=VISIBLE)), "pipeline.detector.first: expected a Detector, got MaxVisibility, which is a prompter"),
        (dict(detector=pair(first=dict(type="LiteDetectr"))), "pipeline.detector.first: there is no detector 'LiteDetectr'; did you mean 'LiteDetector'"),
        (dict(detector=pair(many=[VISIBLE, FAKE])), r"pipeline.detector.many\[1\]: expected a Prompter, got FakeDetector"),
        (dict(detector=pair(many=VISIBLE)), "pipeline.detector.many: expected a list, each a Prompter, got"),
        (dict(detector=dict(type=f"{__name__}.made_by_a_function")), "pipeline.detector: expected a Detector, got Encoder"),
        (dict(detector=dict(type=3)), "pipeline.detector.type: expected the name of a class, or its dotted path, got 3"),
    ],
)  # fmt: skip
def test_mistakes_about_parts_are_one_line_before_anything_is_made(changes, words):
    MADE.clear()
    with pytest.raises(UserError, match=words) as caught:
        build(_config(**changes))
    assert "\n" not in str(caught.value)
    assert len(MADE) <= ("made_by_a_function" in str(changes))  # of a function only its result tells


def test_no_name_means_two_parts():
    names = [name for registry in set(_ROLES.values()) for name in registry.module_dict]
    assert sorted(names) == sorted(set(names))


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """A folder to work in, and Python's path as it is for the command ``bmp``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(Path.cwd()))])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


OWN_STAGE = "import own_helper\nclass Mine:\n    def detect(self, images): ...\n"


def test_a_stage_in_the_working_folder_is_found_last(working_folder):
    (working_folder / "own_stage_here.py").write_text(OWN_STAGE)
    (working_folder / "own_helper.py").write_text("")
    (working_folder / "fakes.py").write_text("raise SystemExit('hijacked')")
    (working_folder / "fractions.py").write_text("raise SystemExit('hijacked')")
    before = list(sys.path)
    build(_config())
    assert sys.path == before  # nothing of the working folder is asked for
    model = build(_config(detector=dict(type="own_stage_here.Mine")))
    assert type(model.detector).__name__ == "Mine"
    assert sys.path == [*before, str(working_folder)]
    sys.modules.pop("fractions", None)
    import fractions

    assert not fractions.__file__.startswith(str(working_folder))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (", "own_broken.Mine' cannot be imported: SyntaxError: "),
        ("import nowhere_at_all", "cannot be imported: No module named 'nowhere_at_all'; is its folder on PYTHONPATH"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("", "cannot be imported: AttributeError: .*Mine"),
    ],
)
def test_a_stage_that_cannot_be_imported_is_one_line(working_folder, text, words):
    (working_folder / "own_broken.py").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        build(_config(detector=dict(type="own_broken.Mine")))
    assert "\n" not in str(caught.value)


class Typed:
    """A stage of a user's own with a value of each kind."""

    def __init__(
        self,
        count: int = 1,
        share: float = 0.5,
        name: str = "x",
        flip: bool = False,
        size: tuple[int, int] = (1, 1),
        mode: Literal["fast", "good"] = "fast",
        folder: Path | None = None,
        anything=None,
    ):
        self.values = {name: value for name, value in locals().items() if name != "self"}

    def detect(self, images):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rounds=two", "pipeline.rounds: expected a whole number, got 'two'"),
        ("rounds=None", "pipeline.rounds: expected a whole number, got None"),
        ("rounds=1.5", "pipeline.rounds: expected a whole number, got 1.5"),
        ("rounds=true", "pipeline.rounds: expected a whole number, got True"),
        ("rounds=[1]", r"pipeline.rounds: expected a whole number, got \[1\]"),
        ("repose=1", "pipeline.repose: expected True or False, got 1"),
        ("repose=yes", "pipeline.repose: expected True or False, got 'yes'"),
        ("suppressor.threshold=high", "pipeline.suppressor.threshold: expected a number, got 'high'"),
        ("suppressor.threshold=true", "pipeline.suppressor.threshold: expected a number, got True"),
        ("suppressor.keypoints=17", "pipeline.suppressor.keypoints: expected a KeypointSet, got 17"),
        ("suppressor=none", "pipeline.suppressor: expected a Suppressor, got None"),
        ("suppressor=[1]", r"pipeline.suppressor: expected a Suppressor, got \[1\]"),
        ("detector.count=[1, 2]", r"pipeline.detector.count: expected a whole number, got \[1, 2\]"),
        ("detector.share={'a': 1}", "pipeline.detector.share: expected a number, got {'a': 1}"),
        ("detector.name=3", "pipeline.detector.name: expected text, got 3"),
        ("detector.name=None", "pipeline.detector.name: expected text, got None"),
        ("detector.size=[1, 2, 3]", r"pipeline.detector.size: expected \(a whole number, a whole number\), got \[1, 2, 3\]"),
        ("detector.size=[1, 'b']", r"pipeline.detector.size\[1\]: expected a whole number, got 'b'"),
        ("detector.mode=slow", "pipeline.detector.mode: expected 'fast' or 'good', got 'slow'"),
        ("detector.folder=3", "pipeline.detector.folder: expected a path or None, got 3"),
    ],
)  # fmt: skip
def test_values_are_checked_before_anything_is_built(setting, words, tmp_path, capsys):
    own = tmp_path / "own.py"
    own.write_text(f"pipeline = dict(**{FAKES | dict(detector=dict(type=f'{__name__}.Typed'))!r}, rounds=2)\n")
    (tmp_path / "photo.png").write_bytes(PNG)
    given = ["--config", str(own), "--input", str(tmp_path / "photo.png"), "--output", str(tmp_path / "out")]
    assert main([*given, "--set", f"pipeline.{setting}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"bmp: {words}.*\n", err)


def test_values_arrive_as_the_annotations_want_them():
    values = dict(count=3, share=1, size=[3, 4], folder="a/b", anything=["x", {"type": "y"}], mode="good")
    found = build(_config(detector=dict(type=f"{__name__}.Typed", **values))).detector.values
    assert found["size"] == (3, 4)
    assert found["folder"] == Path("a/b")
    assert found["anything"] == values["anything"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in config_names() if load_config(name).get("pipeline")])
def test_the_values_of_every_preset_pass(name):
    pipeline = dict(load_config(name).pipeline)
    assembly = _Assembly(pipeline.pop("shared", {}), "cpu")
    assembly.call(BMP, pipeline, "pipeline")
    assembly.expect_all_used()


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
    assert config.pipeline.suppressor == {**load_config("lite.py").pipeline.suppressor, "keypoint_threshold": 0.1}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("pipelin.rounds", "the config has no 'pipelin'; did you mean 'pipeline'"),
        ("rounds", "the config has no 'rounds'"),
        ("pipeline.supressor.threshold", "pipeline has no 'supressor'; did you mean 'suppressor'"),
        ("pipeline.rounds.more", "pipeline.rounds is a plain value, 1"),
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
def test_importing_bmp_is_quick_and_loads_no_network_library(tmp_path):
    """Step by step in one process: the package and its command, its API, what quietens OpenMMLab, reading weights, all stages."""
    torch.save({"model": torch.nn.Linear(1, 1).state_dict()}, tmp_path / "a.pth")
    code = """
        import sys

        def loaded(*names):
            assert not set(names) & set(sys.modules), set(names) & set(sys.modules)

        import bmp, bmp.cli
        openmmlab = ("mmengine", "mmcv", "mmdet", "mmpose", "mmpretrain")
        loaded("torch", "cv2", "supervision", "sam2", *openmmlab)
        from bmp import BMP
        import bmp.models.openmmlab
        loaded("supervision", "sam2", *openmmlab)
        from bmp.checkpoints.loading import load_state_dict
        load_state_dict(sys.argv[1])
        loaded(*openmmlab)
        import bmp.build, bmp.detectors, bmp.poses, bmp.segmenters
        loaded("torchvision", "torch._dynamo", "scipy", "matplotlib", "supervision", "sam2", *openmmlab[1:])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.pth")], check=True)


def test_a_users_config_may_start_from_one_of_the_package(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("_base_ = ['lite.py']\npipeline = dict(rounds=7)\n")
    config = load_config(own)
    assert config.pipeline.rounds == 7
    assert config.pipeline.detector.type == "LiteDetector"
    (tmp_path / "lite.py").write_text("pipeline = dict(detector=dict(type='Mine'))\n")
    assert load_config(own).pipeline == dict(rounds=7, detector=dict(type="Mine"))  # beside the file comes first


def test_the_log_tells_the_device_and_says_nothing_unasked(caplog, capsys):
    caplog.set_level("INFO", logger="bmp")
    build(_config(), "cpu")
    assert "device cpu, for stages whose config names no other" in caplog.messages
    assert capsys.readouterr() == ("", "")
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("bmp").handlers)
