"""ProbPose-s: the official file's names and shapes, as they are published, fit the network of its config."""

import json
import math

import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmengine.registry import DefaultScope
from mmpose.registry import MODELS

from bmp.config import load_config
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models import pmpose  # noqa: F401 -- registers
from bmp.models.configs import load_model_config
from bmp.ops.heatmaps import oks_variances
from bmp.poses.mmpose import MMPoseEstimator

WIDTH, KEYPOINTS = 384, 17


def _norm(name, channels):
    values = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return values | {f"{name}.num_batches_tracked": ()}


def _affine(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def official():
    """Names and shapes of ``ProbPose-s.pth``."""
    shapes = {"backbone.pos_embed": (1, 192, WIDTH)}
    shapes |= _affine("backbone.patch_embed.projection", WIDTH, 3, 16, 16)
    for number in range(12):
        layer = f"backbone.layers.{number}"
        shapes |= _affine(f"{layer}.ln1", WIDTH) | _affine(f"{layer}.ln2", WIDTH)
        shapes |= _affine(f"{layer}.attn.qkv", 3 * WIDTH, WIDTH) | _affine(f"{layer}.attn.proj", WIDTH, WIDTH)
        shapes |= _affine(f"{layer}.ffn.layers.0.0", 4 * WIDTH, WIDTH)
        shapes |= _affine(f"{layer}.ffn.layers.1", WIDTH, 4 * WIDTH)
    shapes |= _affine("backbone.ln1", WIDTH)
    for number, channels in ((0, WIDTH), (3, 256)):
        shapes[f"head.deconv_layers.{number}.weight"] = (channels, 256, 4, 4)
        shapes |= _norm(f"head.deconv_layers.{number + 1}", 256)
    shapes |= _affine("head.final_layer", KEYPOINTS, 256, 1, 1)
    for branch in ("probability", "visibility", "oks", "error"):
        for number in (0, 4, 8):
            shapes |= _affine(f"head.{branch}_layers.{number}", WIDTH, WIDTH, 3, 3)
            shapes |= _norm(f"head.{branch}_layers.{number + 1}", WIDTH)
        shapes |= _affine(f"head.{branch}_layers.12", KEYPOINTS, WIDTH, 1, 1)
    return shapes


@pytest.mark.slow
def test_names_and_shapes_are_the_official_ones():
    section = load_model_config("models/probpose_s.py", "mmpose")["model"]
    with DefaultScope.overwrite_default_scope("mmpose"), torch.device("meta"):
        state = MODELS.build(section).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == official()
    assert len(state) == 255
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(math.prod(shape) for name, shape in official().items() if not name.endswith(buffers)) == 40_255_445


def test_they_are_those_of_pmpose_s_but_for_the_keypoints(shared):
    shapes = json.loads((shared / "reference/checkpoints/PMPose-s-1.0.0.json").read_text())["state_dict"]
    ours = official()
    assert ours.keys() == shapes.keys()
    for name, shape in shapes.items():
        assert list(ours[name]) == [KEYPOINTS if size == 23 else size for size in shape], name


@pytest.mark.slow
def test_an_official_file_loads_into_the_preset(tmp_path):
    state = {name: torch.full(shape, 0.25, dtype=torch.float16) for name, shape in official().items()}
    torch.save({"meta": {"epoch": 210}, "state_dict": state}, tmp_path / "ProbPose-s.pth")
    preset = load_config("probpose.py").pipeline.pose.to_dict()
    assert preset.pop("type") == "MMPoseEstimator"
    assert preset.pop("checkpoint") == "ProbPose-s.pth"
    pose = MMPoseEstimator(checkpoint=str(tmp_path / "ProbPose-s.pth"), **preset)
    assert len(pose.keypoints) == KEYPOINTS
    assert pose._alpha == 0
    assert all((value == 0.25).all() for value in pose._model.backbone.parameters())
    del state["head.oks_layers.12.weight"]
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: does not fit"):
        MMPoseEstimator(checkpoint=str(tmp_path / "other.pth"), **preset)


def test_widths_and_kernels_are_the_published_ones():
    face, shoulder, elbow, wrist, hip, knee, ankle = 0.55, 2.2138, 1.8389, 1.3636, 3.0, 2.6849, 2.8098
    expected = [face] * 5 + [value for value in (shoulder, elbow, wrist, hip, knee, ankle) for _ in range(2)]
    variances = oks_variances(COCO_KEYPOINTS.sigmas, 64, 48)
    assert list(variances) == pytest.approx(expected, abs=5e-5)
    assert [math.ceil(3 * value) for value in variances] == [2] * 5 + [7, 7, 6, 6, 5, 5, 9, 9, 9, 9, 9, 9]
