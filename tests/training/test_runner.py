"""Training from a config: it runs, it is resumed exactly, and its weights come back as any other weight."""

import hashlib
import json
import re
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from program import together
from pycocotools import mask as rle
from safetensors import safe_open

pytest.importorskip("mmdet.models", reason="needs the extra openmmlab", exc_type=ImportError)

from bmp.checkpoints.loading import load_state_dict
from bmp.checkpoints.saving import export
from bmp.checkpoints.sources import Packaged, Weight, resolve
from bmp.config import load_config
from bmp.detectors.mmdet import MMDetDetector
from bmp.errors import UserError
from bmp.models.rtmdet_ins import fits
from bmp.structures import Image
from bmp.training.__main__ import main
from bmp.training.runner import train
from bmp.training.settings import provenance, read_config

TINY = """
_base_ = ["train/rtmdet_ins_nano.py"]
model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=[32, 64, 128], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16),
)
train_dataloader = dict(batch_size=2, num_workers=0)
train_cfg = dict(max_iters=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
log_processor = dict(window_size=1)
"""
WITHOUT_VALIDATION = "".join(
    f"{split}_{part} = None\n" for split in ("val", "test") for part in ("dataloader", "cfg", "evaluator")
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Pictures of up to three ellipses, the last one of nobody, as SynthCrowd writes its people."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 5), ("val", 2)):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(count):
            rng = np.random.default_rng([len(split), number])
            picture = rng.integers(1, 256, (160, 160, 3), np.uint8)
            file = f"{split}/{number:06d}.jpg"
            images.append({"id": number + 1, "file_name": file, "height": 160, "width": 160})
            for person in range(0 if number == count - 1 else 3):
                mask = np.zeros((160, 160), np.uint8)
                cv2.ellipse(mask, (30 + 45 * person, 80), (15, 50), 0, 0, 360, 1, -1)
                picture[mask > 0] = rng.integers(1, 256, 3)
                encoded = rle.encode(np.asfortranarray(mask))
                annotation = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0}
                annotation |= {"bbox": rle.toBbox(encoded).tolist(), "area": float(rle.area(encoded))}
                annotation["segmentation"] = {"size": [160, 160], "counts": encoded["counts"].decode()}
                annotations.append(annotation)
            cv2.imwrite(str(root / file), picture)
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def tiny(tmp_path) -> str:
    """The config of a training of a few small steps."""
    path = tmp_path / f"{tmp_path.name}.py"
    path.write_text(TINY + WITHOUT_VALIDATION)
    return str(path)


def losses(work_dir: Path) -> list[float]:
    (log,) = work_dir.glob("*/vis_data/scalars.json")
    return [line["loss"] for line in map(json.loads, log.read_text().splitlines()) if "loss" in line]


@pytest.mark.slow
def test_the_nano_detector_is_small_and_read_sparingly():
    detector = MMDetDetector("models/rtmdet_ins_nano.py", "random", score_threshold=0.0)
    assert fits(detector._model)
    assert detector._dense is not None
    assert 2.3e6 < sum(parameter.numel() for parameter in detector._model.parameters()) < 2.7e6
    (people,) = detector.detect([Image(torch.zeros(200, 320, 3, dtype=torch.uint8))])
    assert people.masks.shape[1:] == (200, 320)


@pytest.mark.slow
def test_from_config_to_detector(tmp_path, data, monkeypatch, capsys):
    """Trains, validates, exports, resolves by name, detects."""
    config = tmp_path / "tiny.py"
    config.write_text(TINY)
    package = tmp_path / "package"
    command = [str(config), "--work-dir", str(tmp_path / "work"), "--set", f"data_root={data}"]
    assert main([*command, "--export", str(package / "tiny.safetensors")]) == 0
    assert len(losses(tmp_path / "work")) == 4
    assert np.isfinite(losses(tmp_path / "work")).all()

    monkeypatch.setattr("bmp.checkpoints.sources._PACKAGED", package)
    monkeypatch.setattr(
        "bmp.checkpoints.sources._TABLE", (Weight("nano/t", Packaged("tiny.safetensors"), "Apache-2.0"),)
    )
    file = resolve("nano/t")
    with safe_open(file, "pt") as content:
        description = content.metadata()
    assert description["config"] == "tiny.py"
    assert (description["iterations"], description["seed"]) == ("4", "0")
    assert re.fullmatch(r"train\.json sha256 [0-9a-f]{64}, val\.json sha256 [0-9a-f]{64}", description["data"])

    halves = load_state_dict(file)
    trained = load_state_dict(tmp_path / "work" / "iter_4.pth")
    assert halves.keys() == trained.keys()
    assert all(tensor.dtype in (torch.float16, torch.int64) for tensor in halves.values())
    model = load_config(config).model
    monkeypatch.setattr("bmp.detectors.mmdet.fold_batch_norms", lambda *_: None)  # after which these are others
    detector = MMDetDetector(
        {"model": {**model, "bbox_head": {**model.bbox_head, "type": "RTMDetInsSepBNHead"}},
         "test_dataloader": load_config("models/rtmdet_ins_nano.py").test_dataloader},
        "nano/t",
    )  # fmt: skip
    for name, tensor in detector._model.state_dict().items():
        assert tensor.dtype in (torch.float32, torch.int64)
        torch.testing.assert_close(tensor, trained[name], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_loss_falls(tmp_path, tiny, data):
    overrides = {"data_root": str(data), "train_cfg.max_iters": 30, "train_dataloader.batch_size": 4}
    config = read_config(tiny, overrides, tmp_path / "work")
    config.default_hooks.checkpoint.interval = 30
    config.param_scheduler = [dict(type="ConstantLR", factor=1.0)]
    config.optim_wrapper.optimizer.lr *= 4  # so that thirty steps are enough
    steps = config.train_dataloader.dataset.dataset.pipeline
    for step in steps:
        step.update({key: (160, 160) for key in ("scale", "size", "crop_size") if key in step})
    config.train_dataloader.dataset.dataset.pipeline = [step for step in steps if step.type != "PaintOutPeople"]
    train(config)
    assert DefaultScope.get_current_instance() is None
    values = losses(tmp_path / "work")
    assert np.mean(values[-8:]) < 0.85 * np.mean(values[:8])


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, tiny, data):
    """Stops after an iteration that is no checkpoint's, goes on with workers that load ahead."""
    undisturbed = train(read_config(tiny, {"data_root": str(data), "train_cfg.max_iters": 5}, tmp_path / "a"))
    part = {"data_root": str(data), "train_cfg.max_iters": 3, "default_hooks.checkpoint.save_last": False}
    assert train(read_config(tiny, part, tmp_path / "b")).name == "iter_2.pth"
    rest = {"data_root": str(data), "train_cfg.max_iters": 5, "train_dataloader.num_workers": 1}
    resumed = train(read_config(tiny, rest, tmp_path / "b"), resume=True)
    assert undisturbed.name == resumed.name == "iter_5.pth"
    first, second = (torch.load(file, weights_only=False) for file in (undisturbed, resumed))
    for part in ("state_dict", "ema_state_dict"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(tensor, second[part][name]) for name, tensor in first[part].items())
    assert any(
        (first["state_dict"][name.removeprefix("module.")] != tensor).any()
        for name, tensor in first["ema_state_dict"].items()
        if name.startswith("module.")
    )


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path, tiny, data):
    options = ("--work-dir", "work", "--set", f"data_root={data}", "--set", "train_cfg.max_iters=2")
    for code, _, err in together(tmp_path, tiny, *options, "--export", "two.safetensors", main=main):
        assert code == 0, err
    assert load_state_dict(tmp_path / "two.safetensors")


def test_missing_data_name_the_command_that_makes_them(tmp_path, capsys):
    assert main(["train/rtmdet_ins_nano.py", "--set", f"data_root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path}/train.json: expected the training's annotations, found none" in error
    assert f"python -m bmp.synthcrowd --output {tmp_path} --extras --overwrite --splits train" in error


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "there", "complaint"),
    [
        ("rtmdet_ins_nano", [], "{0}/train.json: expected the training's annotations, found none; make them with `python -m bmp.synthcrowd --output {0} --extras --overwrite --splits train` and `python -m bmp.synthcrowd --output {0} --extras --overwrite --splits val`, or give the folder of others with --set data_root=DIR"),
        ("rtmdet_ins_nano", ["train.json"], "{0}/val.json: expected the training's annotations, found none; make them with `python -m bmp.synthcrowd --output {0} --extras --overwrite --splits val`"),
        ("sam_nano_base", [], "{0}/train_pieces.json: expected the training's annotations, found none; make them with `python -m bmp.synthcrowd --output {0} --extras --overwrite --splits train` and `python -m bmp.synthcrowd --output {0} --extras --overwrite --splits val`"),
        ("sam_nano_base", ["train.json", "val.json"], "{0}/train_pieces.json: expected the training's annotations, found none; make them with `python -m bmp.synthcrowd --output {0} --extras --overwrite --splits train`"),
        ("sam_nano_mask_refine", [], "{0}/train.json: expected the training's annotations, found none; make them with `python -m bmp.synthcrowd --output {0} --extras --overwrite --splits train` and `python"),
        ("sam_nano_mask_refine", ["keypoints/train.json"], "{0}/train.json: expected the training's annotations"),
        ("sam_nano_mask_refine", ["train.json", "val.json"], "{0}/keypoints/train.json: expected the keypoints that an estimator finds, found none; make them with `python -m bmp.inference.keypoints --config nano.py --masks --images {0} --dataset {0}/train.json --output {0}/keypoints/train.json` and `python -m bmp.inference.keypoints --config nano.py --masks --images {0} --dataset {0}/val.json --output {0}/keypoints/val.json`, or name another file in train_dataloader.dataset.dataset.sources.synthcrowd.keypoints"),
        ("sam_pose2seg_b+", [], "{0}/keypoints/coco_train2017.json: expected the keypoints that an estimator finds, found none; make them with `python -m bmp.inference.keypoints --config keypoints/coco.py --set dataset.root={0}/coco --output {0}/keypoints/coco_train2017.json` and `python -m bmp.inference.keypoints --config keypoints/cihp.py "),
    ],
)  # fmt: skip
def test_a_missing_file_comes_with_what_makes_it(config, there, complaint, tmp_path):
    _touch(tmp_path, *there)
    with pytest.raises(UserError) as error:
        read_config(f"train/{config}.py", {"data_root": str(tmp_path)})
    assert str(error.value).startswith(complaint.format(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data_root", "remedy"),
    [
        ("data", "put them there, or give the folder they are in with --set data_root=DIR"),
        ("elsewhere", "put them there, or name another file in train_dataloader.dataset.dataset.ann_file"),
    ],
)
def test_the_generator_is_for_its_own_data_only(data_root, remedy, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(f"""
_base_ = ["train/rtmdet_ins_nano.py"]
data_root = {str(tmp_path / data_root)!r}
train_dataloader = dict(dataset=dict(dataset=dict(data_root={str(tmp_path / "data")!r})))
""")
    with pytest.raises(UserError) as error:
        read_config(own)
    assert str(error.value) == (
        f"{tmp_path}/data/train.json: expected the training's annotations, found none; {remedy}"
    )


def test_data_and_start_of_a_fine_tuning_are_described(tmp_path):
    files = ["train.json", "val.json", "keypoints/train.json", "keypoints/val.json"]
    _touch(tmp_path, *files)
    empty = hashlib.sha256(b"").hexdigest()
    config = read_config("train/sam_nano_mask_refine.py", {"data_root": str(tmp_path)})
    description = provenance(config)
    assert sorted(description["data"].split(", ")) == sorted(f"{file} sha256 {empty}" for file in files)
    assert description["start"] == "nano/sam2-nano.safetensors"
    assert str(tmp_path) not in str(description)

    own = tmp_path / "own.safetensors"
    own.write_bytes(b"weights")
    overrides = {"data_root": str(tmp_path), "model.checkpoint": str(own)}
    description = provenance(read_config("train/sam_nano_mask_refine.py", overrides))
    assert description["start"] == f"own.safetensors sha256 {hashlib.sha256(b'weights').hexdigest()}"


def test_a_backbone_that_starts_from_weights_is_described(tmp_path):
    _touch(tmp_path, "train.json", "val.json")
    own = tmp_path / "earlier.pth"
    own.write_bytes(b"weights")
    start = {"model.backbone.init_cfg": {"type": "Pretrained", "checkpoint": str(own), "prefix": "backbone."}}
    description = provenance(read_config("train/pmpose_nano.py", {"data_root": str(tmp_path), **start}))
    assert description["start"] == f"earlier.pth sha256 {hashlib.sha256(b'weights').hexdigest()}"


def test_data_without_a_file_are_described_by_their_config(tmp_path):
    names = [f"keypoints/{name}.json" for name in ("coco_train2017", "cihp_train")]
    _touch(tmp_path, *names)
    description = provenance(read_config("train/sam_pose2seg_b+.py", {"data_root": str(tmp_path)}))
    data = description["data"].split(", ")
    assert [each.split()[0] for each in data[:2]] == names
    assert data[2:] == ["COCO split=train2017 part=rest", "CIHP split=train", "COCO split=train2017 part=held_out"]
    assert (description["epochs"], description["start"]) == ("15", "sam2.1_hiera_base_plus.pt")
    assert "iterations" not in description
    assert str(tmp_path) not in str(description)


def test_a_detectors_training_starts_from_nothing(data):
    assert "start" not in provenance(read_config("train/rtmdet_ins_nano.py", {"data_root": str(data)}))


@pytest.mark.parametrize("scope", [None, "mmpose"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_default_scope_is_left_alone(scope, fails, tmp_path, monkeypatch):
    class Runner:
        @classmethod
        def from_cfg(cls, config):
            init_default_scope(config.default_scope)
            return cls()

        def train(self):
            assert DefaultScope.get_current_instance().scope_name == "mmdet"
            if fails:
                raise RuntimeError
            (tmp_path / "last_checkpoint").write_text("iter_2.pth")

    monkeypatch.setattr("mmengine.runner.Runner", Runner)
    with DefaultScope.overwrite_default_scope(scope):
        with pytest.raises(RuntimeError) if fails else nullcontext():
            train(Config(dict(work_dir=str(tmp_path), default_scope="mmdet")))
        assert getattr(DefaultScope.get_current_instance(), "scope_name", None) == scope


def test_the_folder_of_the_data_moves_every_path(tiny, data, tmp_path):
    config = read_config("train/rtmdet_ins_nano.py", {"data_root": str(data)}, tmp_path)
    assert config.data_root == config.train_dataloader.dataset.dataset.data_root == str(data)
    assert config.val_evaluator.ann_file == f"{data}/val.json"
    assert "output/" not in re.sub("work_dir.*", "", config.pretty_text)


def test_a_training_is_not_overwritten(tiny, data, tmp_path, capsys):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "last_checkpoint").write_text("iter_2.pth")
    assert main([tiny, "--work-dir", str(tmp_path / "work"), "--set", f"data_root={data}"]) == 2
    assert "has a training; go on with --resume, or choose another --work-dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lite.py"], "expected a training, found no model, train_dataloader"),
        (["train/none.py"], "does not exist"),
        (["train/rtmdet_ins_nano.py", "--set", "train_cgf.max_iters=1"], "did you mean 'train_cfg'"),
        (["train/rtmdet_ins_nano.py", "--set", "iterations=1"], "has no 'iterations'"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_configs_name_their_work_dirs(data):
    config = read_config("train/rtmdet_ins_nano.py", {"data_root": str(data)})
    assert config.work_dir == "output/train/rtmdet_ins_nano"


def test_weights_beyond_half_precision_are_refused(tmp_path):
    torch.save({"state_dict": {"bn.running_var": torch.tensor([1e5])}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"bn\.running_var: expected weights within half precision"):
        export(tmp_path / "a.pth", tmp_path / "a.safetensors", {})
    assert not (tmp_path / "a.safetensors").exists()


def test_tied_weights_are_exported(tmp_path):
    tied = torch.ones(3)
    torch.save({"state_dict": {"a": tied, "b": tied, "count": torch.tensor(7)}}, tmp_path / "a.pth")
    export(tmp_path / "a.pth", tmp_path / "new" / "a.safetensors", {"seed": "0"})
    state = load_state_dict(tmp_path / "new" / "a.safetensors")
    assert {name: tensor.dtype for name, tensor in state.items()} == {
        "a": torch.float16, "b": torch.float16, "count": torch.int64,
    }  # fmt: skip
    assert (tmp_path / "new" / "a.safetensors").stat().st_mode & 0o044 == 0o044
