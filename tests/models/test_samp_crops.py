"""SAMP's crop mode: SAM's encoder on a person's tokens, its taps, what learns, and an MMPose model of it."""

import math

import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)
pytest.importorskip("segment_anything", reason="the package segment_anything is not installed")

import segment_anything
import tiny_models
from mmengine.structures import InstanceData, PixelData
from mmpose.engine.optim_wrappers.layer_decay_optim_wrapper import get_num_layer_for_vit
from mmpose.structures import PoseDataSample

from bmp import UserError
from bmp.models.configs import load_model_config
from bmp.models.samp_crops import SAMPBackbone
from bmp.models.topdown import build_topdown
from bmp.poses.mmpose import MMPoseEstimator
from bmp.structures import Detections, Image

TINY = dict(model="tiny", taps=(0, 1), channels=16, stem_channels=(4, 8, 8, 8))


@pytest.fixture(autouse=True)
def tiny_sam(monkeypatch):
    monkeypatch.setitem(segment_anything.sam_model_registry, "tiny", tiny_models.sam1)


def section():
    config = load_model_config("models/samp_crop_b.py", "mmpose")
    config["model"]["backbone"].update(TINY)
    config["model"]["head"].update(in_channels=16)
    return config


def test_levels_of_a_crop():
    levels = SAMPBackbone(**TINY).eval()(torch.zeros(2, 3, 256, 192))
    assert [tuple(level.shape) for level in levels] == [(2, 16, 64, 48), (2, 16, 32, 24), (2, 16, 16, 12)]


@pytest.mark.slow
def test_at_sams_own_size_the_tokens_are_those_of_its_encoder_with_global_attention():
    backbone = SAMPBackbone(**{**TINY, "taps": (1,), "stem_channels": None}).eval()
    torch.manual_seed(0)
    sam = tiny_models.sam1().image_encoder  # not the weights, which are made up with another state
    for name in ("patch_embed", "pos_embed", "blocks"):
        setattr(sam, name, getattr(backbone, "layers" if name == "blocks" else name))
    with torch.no_grad():
        backbone.pos_embed.normal_()
        for layer in backbone.layers:
            layer.attn.rel_pos_h.normal_()
        crops = torch.rand(1, 3, 128, 128)
        tokens = sam.patch_embed(crops) + sam.pos_embed
        for block in sam.blocks:
            tokens = block(tokens)
        expected = backbone.projections[0](backbone.norms[0](tokens).permute(0, 3, 1, 2))
        torch.testing.assert_close(backbone(crops)[2], expected)


@pytest.mark.parametrize(("trained", "learning"), [("all", [True, True]), ("none", [False, False]), (1, [False, True])])
def test_what_learns(trained, learning):
    backbone = SAMPBackbone(**TINY, trained=trained)
    assert [layer.mlp.lin1.weight.requires_grad for layer in backbone.layers] == learning
    assert backbone.pos_embed.requires_grad == (trained == "all")
    assert backbone.projections[0].weight.requires_grad
    assert backbone.tap_scores.requires_grad
    assert not SAMPBackbone(**TINY, tap_weights="equal").tap_scores.requires_grad


def test_the_decay_of_rates_finds_the_blocks():
    names = [f"backbone.{name}" for name, _ in SAMPBackbone(**TINY).named_parameters()]
    depths = {get_num_layer_for_vit(name, 14) for name in names}
    assert depths == {0, 1, 2, 13}


def test_dropped_layers_leave_the_mean_as_it_is():
    torch.manual_seed(0)
    backbone = SAMPBackbone(**{**TINY, "taps": (0,)}, drop_path_rate=0.5)
    tokens = torch.rand(4000, 1, 1, 4)
    dropped = backbone.train()._layer(lambda each: each * 3, tokens, 0.25)
    kept = (dropped != tokens).flatten(1).any(1).float().mean()
    assert kept.item() == pytest.approx(0.75, abs=0.03)
    assert (dropped.mean() / tokens.mean()).item() == pytest.approx(3, abs=0.1)


def _targets(people):
    samples = []
    for _ in range(people):
        sample = PoseDataSample()
        locations = torch.rand(1, 17, 2) * torch.tensor([47.0, 63.0])
        ones = torch.ones(1, 17)
        sample.gt_instance_labels = InstanceData(
            keypoint_weights=ones, keypoint_locations=locations, presence=ones, presence_weights=ones,
            visibility=ones, visibility_weights=ones,
        )  # fmt: skip
        maps = torch.zeros(17, 64, 48)
        x, y = locations[0].round().long().unbind(1)
        maps[torch.arange(17), y, x] = 1
        sample.gt_fields = PixelData(heatmaps=maps)
        samples.append(sample)
    return samples


@pytest.mark.slow
def test_all_three_levels_have_losses_and_gradients():
    model = build_topdown(section()["model"], "random").train().requires_grad_(True)
    losses = model.head.loss(model.backbone(torch.rand(2, 3, 256, 192)), _targets(2))
    maps = {name for name in losses if name.startswith(("loss_kpt", "loss_scores"))}
    assert maps == {f"loss_{kind}{level}" for kind in ("kpt", "scores") for level in ("", "1", "2")}
    sum(losses.values()).backward()
    assert all(layer.weight.grad.any() for layer in model.head.auxiliary)
    assert all(math.isfinite(value.item()) for value in losses.values())


@pytest.mark.slow
def test_it_runs_as_any_estimator_of_mmpose():
    pose = MMPoseEstimator(section(), "random", flip_test=False)
    image = Image(torch.randint(0, 256, (90, 70, 3), dtype=torch.uint8))
    (found,) = pose.estimate([image], [Detections(torch.tensor([[5.0, 5, 60, 80]]), torch.ones(1))])
    assert found.keypoints.shape == (1, 17, 2)
    assert found.expected_oks is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(taps=(0, 2)), "taps: expected some of the 2 blocks of tiny, from 0"),
        (dict(taps=()), "taps: expected some"),
        (dict(tap_weights="best"), "tap_weights: expected 'learned' or 'equal'"),
        (dict(model="vit_x"), "model 'vit_x' does not exist"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(UserError, match=message):
        SAMPBackbone(**{**TINY, **options})
