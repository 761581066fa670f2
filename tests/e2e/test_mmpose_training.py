"""PMPose nano trains on SynthCrowd from its MMPose config: it learns something, two processes resume exactly.

SAMP's crop mode takes two steps at full size.
"""

import json
import resource

import pytest
import torch
from program import main_in, together

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from bmp.synthcrowd.__main__ import main as synthcrowd
from bmp.training.__main__ import main as training

TRAINED = 0.04
"""Mean Ex-OKS: it was 0.016 before any training, 0.06 after 40 steps, and 0.24 after 60 with four photos."""

pytestmark = pytest.mark.slow

SHORT = """
_base_ = ["mmpose/pmpose_nano.py"]
train_dataloader = dict(batch_size={batch})
val_dataloader = dict(num_workers=0)
train_cfg = dict(max_iters={steps}, val_interval={interval})
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=10, end=10000, T_max={steps}, eta_min_ratio=0.01),
]
optim_wrapper = dict(optimizer=dict(lr=3e-3))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={interval}))
log_processor = dict(window_size=1)
"""
ON_WHAT_IT_WAS_TRAINED_WITH = """
train_dataloader["num_workers"] = 0
val_dataloader["dataset"] = dict(ann_file="train.json")
val_evaluator = [
    dict(type="CocoMetric", ann_file="output/synthcrowd/train.json", score_mode="keypoint", nms_mode="none"),
    dict(type="ExOKSMetric", ann_file="output/synthcrowd/train.json"),
]
"""

CROP_MODE = """
_base_ = ["mmpose/samp_crop_b.py"]
model = dict(backbone=dict(checkpoint="random"))
data_root = "output/synthcrowd"
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, ann_file="train.json", data_prefix=dict(img=""), part=None),
)
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=2)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(_delete_=True, type="CheckpointHook", by_epoch=False, interval=2, save_optimizer=False),
)
log_processor = dict(by_epoch=False)
val_dataloader = val_evaluator = val_cfg = test_dataloader = test_evaluator = test_cfg = None
"""


def render(folder, split, count):
    options = ("--output", "output/synthcrowd", "--splits", split, "--count", count, "--workers", 1)
    code, _, err = main_in(folder, *options, main=synthcrowd)
    assert code == 0, err


def logged(work_dir):
    """Return what the runs in ``work_dir`` wrote, the lines of training and those of validation."""
    files = sorted(work_dir.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if "loss" in line], [line for line in lines if "coco/AP" in line]


def test_training_lowers_the_loss_and_raises_the_numbers(tmp_path):
    """On the few people that it is trained with: what an epoch of thousands teaches takes minutes."""
    render(tmp_path, "train", 2)
    render(tmp_path, "val", 1)
    (tmp_path / "short.py").write_text(SHORT.format(batch=4, steps=40, interval=20) + ON_WHAT_IT_WAS_TRAINED_WITH)
    code, _, err = main_in(tmp_path, "short.py", "--work-dir", "work", main=training)
    assert code == 0, err
    losses, (half, whole) = logged(tmp_path / "work")
    values = torch.tensor([line["loss"] for line in losses])
    assert len(values) == 40
    assert values[-15:].mean() < 0.85 * values[:5].mean()
    assert 0 <= half["coco/AP"] <= whole["coco/AP"]  # forty steps from nothing bring no pose within its thresholds
    assert half["ex_oks_edge/mean"] < whole["ex_oks_edge/mean"] > TRAINED


def test_two_processes_train_and_resume_exactly(tmp_path):
    """Stopped after a checkpoint and gone on with, they end with the weights of two that were not disturbed."""
    render(tmp_path, "train", 3)
    render(tmp_path, "val", 2)
    (tmp_path / "short.py").write_text(SHORT.format(batch=2, steps=4, interval=2))

    def train(work_dir, *options):
        for code, _, err in together(tmp_path, "short.py", "--work-dir", work_dir, *options, main=training):
            assert code == 0, err

    train("undisturbed")
    train("resumed", "--set", "train_cfg.max_iters=2")
    train("resumed", "--resume", "--export", "resumed.safetensors")
    first, second = (
        torch.load(tmp_path / name / "iter_4.pth", weights_only=False) for name in ("undisturbed", "resumed")
    )
    for part in ("state_dict", "ema_state_dict"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())
    losses, numbers = logged(tmp_path / "resumed")
    assert [line["iter"] for line in losses] == [1, 2, 3, 4]
    assert [line["step"] for line in numbers] == [2, 4]
    assert (tmp_path / "resumed.safetensors").is_file()


def test_two_steps_of_samps_crop_mode_at_full_size(tmp_path):
    """SAM's ViT-B with made-up weights on crops of 256 x 192; seconds and memory are printed with ``pytest -s``."""
    pytest.importorskip("segment_anything", reason="the package segment_anything is not installed")
    render(tmp_path, "train", 2)
    (tmp_path / "crop.py").write_text(CROP_MODE)
    code, _, err = main_in(tmp_path, "crop.py", "--work-dir", "work", main=training)
    assert code == 0, err
    losses, _ = logged(tmp_path / "work")
    assert len(losses) == 2
    assert all(0 < line["loss"] < 100 and line["grad_norm"] > 0 for line in losses)
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nseconds a step: {[round(line['time'], 1) for line in losses]}, peak memory {gigabytes:.1f} GB")
    assert gigabytes < 16  # of the whole process, which has run other tests
    state = torch.load(tmp_path / "work" / "iter_2.pth", weights_only=False)["state_dict"]
    assert state["backbone.layers.11.attn.qkv.weight"].shape == (3 * 768, 768)
    assert float(state["backbone.adapter.with_coarser.0.scale"].abs().max()) > 0  # starts at zero
