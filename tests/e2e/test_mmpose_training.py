"""PMPose nano trains on SynthCrowd from its MMPose config: an epoch teaches something, two processes resume exactly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

ROOT = Path(__file__).resolve().parents[2]
AP_AFTER_AN_EPOCH, MEAN_EX_OKS_AFTER_AN_EPOCH = 0.001, 0.15
"""After the 285 steps it was 0.0044 and 0.25, and 0 and 0.016 before."""

pytestmark = pytest.mark.slow

SHORT = """
_base_ = ["mmpose/pmpose_nano.py"]
train_dataloader = dict(batch_size={batch})
val_dataloader = dict(num_workers=0)
train_cfg = dict(max_iters={steps}, val_interval={interval})
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=20, end=10000, T_max={steps}, eta_min_ratio=0.01),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={interval}))
log_processor = dict(window_size=1)
"""


def python(folder, *arguments):
    """Run Python in ``folder``, on one thread and without a GPU."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "pipeline"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def render(folder, split, count):
    python(folder, "-m", "bmp.synthcrowd", "--output", "output/synthcrowd", "--splits", split, "--count", count)
    return len(json.loads((folder / "output" / "synthcrowd" / f"{split}.json").read_text())["annotations"])


def logged(work_dir):
    """Return what the runs in ``work_dir`` wrote, the lines of training and those of validation."""
    files = sorted(work_dir.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if "loss" in line], [line for line in lines if "coco/AP" in line]


def test_an_epoch_lowers_the_loss_and_raises_the_ap(tmp_path):
    people = render(tmp_path, "train", 600)
    render(tmp_path, "val", 48)
    steps = people // 8
    (tmp_path / "short.py").write_text(SHORT.format(batch=8, steps=steps, interval=steps))
    # The first validation is of a network that has seen nothing yet.
    untrained = SHORT.format(batch=1, steps=1, interval=1)
    (tmp_path / "untrained.py").write_text(untrained + "optim_wrapper['optimizer']['lr'] = 0.0\n")
    python(tmp_path, "-m", "bmp.training", "untrained.py", "--work-dir", "untrained")
    python(tmp_path, "-m", "bmp.training", "short.py", "--work-dir", "work")
    (_, (before,)), (losses, (after,)) = logged(tmp_path / "untrained"), logged(tmp_path / "work")
    values = torch.tensor([line["loss"] for line in losses])
    assert len(values) == steps
    assert values[-30:].mean() < 0.85 * values[:10].mean()
    assert before["coco/AP"] < AP_AFTER_AN_EPOCH < after["coco/AP"], (before, after)
    assert before["ex_oks_edge/mean"] < MEAN_EX_OKS_AFTER_AN_EPOCH < after["ex_oks_edge/mean"], (before, after)


def test_two_processes_train_and_resume_exactly(tmp_path):
    """Stopped after a checkpoint and gone on with, they end with the weights of two that were not disturbed."""
    render(tmp_path, "train", 6)
    render(tmp_path, "val", 3)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "bmp.training")
    (tmp_path / "short.py").write_text(SHORT.format(batch=2, steps=4, interval=2))

    def train(work_dir, *options):
        python(tmp_path, *launcher, "short.py", "--work-dir", work_dir, *options)

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
