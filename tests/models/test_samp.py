"""Geometry, the start, and the parts of SAMP's shared mode: where features come from, and what supervises them."""

import math

import pytest
import torch

from bmp import UserError
from bmp.config import load_config, packaged
from bmp.models.samp import SharedSAMP, grid_points, normalized, resized, samp_network, sample

SMALL = dict(level_channels=(4, 4, 4), crop=(32, 32), channels=8, stem_channels=(4, 8, 8, 8))


def small(**changes):
    return samp_network({**SMALL, **changes})


def inputs(network, people=2):
    generator = torch.Generator().manual_seed(1)
    levels = [torch.randn(1, 4, size, size, generator=generator) for size in (16, 8, 4)]
    crops = torch.rand(people, 4, 32, 32, generator=generator)
    centers, sizes = torch.rand(people, 2, generator=generator) * 40 + 20, torch.full((people, 2), 30.0)
    return network.sampled(network.project(levels), centers, sizes, (80, 100)), crops


def test_a_column_is_read_where_it_lies():
    """The example that can be done by hand: a level whose value is its column."""
    level = torch.arange(32.0).expand(1, 1, 8, 32)
    points = grid_points(torch.tensor([[110.0, 50.0]]), torch.tensor([[90.0, 60.0]]), 3, 12)
    row = sample(level, points, 100, 220)[0, 0, 1]
    expected = 16 - 0.5 + (torch.arange(12) / 11 - 0.5) * 90 / 220 * 32
    torch.testing.assert_close(row, expected, atol=1e-4, rtol=0)
    assert row[[0, 11]].tolist() == pytest.approx([8.95, 22.05], abs=0.01)


def test_a_turned_window_is_turned_clockwise():
    points = grid_points(torch.tensor([[10.0, 20.0]]), torch.tensor([[4.0, 2.0]]), 2, 2, torch.tensor([math.pi / 2]))
    # The left upper corner goes to the right upper one: y points down.
    torch.testing.assert_close(points[0, 0, 0], torch.tensor([11.0, 18.0]))


def test_nobody():
    network = small().eval()
    features, crops = inputs(network, 0)
    found = network(features, crops)
    assert found.scores[0].shape == (0, 17, 8, 8)
    assert found.scalars.shape == (3, 0, 17)


def test_it_begins_as_the_plain_features():
    network = small().eval()
    features, crops = inputs(network)
    fused = network.adapter(features, crops)
    assert all(torch.equal(one, two) for one, two in zip(fused, features, strict=True))


def test_resizing_keeps_edges_on_edges():
    ramp = torch.linspace(0, 1, 5).expand(1, 1, 5, 5)
    torch.testing.assert_close(resized(ramp, (9, 9))[0, 0, 0], torch.linspace(0, 1, 9))


def test_all_levels_are_supervised_and_one_is_used():
    network = small()
    features, crops = inputs(network)
    assert [scores.shape[-1] for scores in network.train()(features, crops).scores] == [8, 4, 2]
    assert len(network.eval()(features, crops).scores) == 1
    assert len(small(auxiliary=False).train()(features, crops).scores) == 1


@pytest.mark.parametrize(
    ("alpha", "mask_channel", "changes"), [(0.25, True, True), (0.5, False, True), (0.0, False, False)]
)
def test_the_mask_counts_by_its_channel_and_by_the_features(alpha, mask_channel, changes):
    network = small(alpha=alpha, mask_channel=mask_channel).eval()
    with torch.no_grad():
        for block in (*network.adapter.with_details, *network.adapter.with_coarser):
            block.scale.fill_(1.0)
        network.heads[0].weight.normal_()
    features, crops = inputs(network)
    masked = crops.clone()
    masked[:, 3, :, :16] = 0
    crops[:, 3] = 1
    first, second = network(features, crops).scores[0], network(features, masked).scores[0]
    assert (not torch.equal(first, second)) == changes


def test_expected_oks_does_not_change_the_features():
    network = small().train()
    features, crops = inputs(network)
    network(features, crops).scalars[2].sum().backward()
    assert not network.projections[0].weight.grad.any()
    assert network.scalars.out.weight.grad.any()


def test_heatmaps_tell_nothing_else():
    network = small(head="heatmaps").train()
    found = network(*inputs(network))
    assert found.scalars is None
    assert [scores.shape[-1] for scores in found.scores] == [8, 4, 2]
    assert not [name for name in network.state_dict() if name.startswith("scalars")]


def test_the_fingerprint_is_kept_with_the_weights():
    network, other = small(), small()
    network.fingerprint = "ab" * 32
    other.load_state_dict(network.state_dict())
    assert other.fingerprint == "ab" * 32


def test_colours_are_sams():
    grey = torch.full((1, 3, 2, 2), 124, dtype=torch.uint8)
    made = normalized(grey, torch.ones(1, 2, 2))
    assert made.shape == (1, 4, 2, 2)
    assert made[0, 0].abs().max() < 0.02
    assert torch.equal(made[0, 3], torch.ones(2, 2))


@pytest.mark.parametrize("stem", [(4, 8, 8, 8), None])
@pytest.mark.parametrize("fusion", ["blocks", "sum"])
@pytest.mark.parametrize("taps", [(0, 1, 2), (2, 2, 2)])
def test_variants_for_the_ablations_run(stem, fusion, taps):
    network = small(stem_channels=stem, fusion=fusion, taps=taps).eval()
    assert network(*inputs(network)).scores[0].shape == (2, 17, 8, 8)


def test_the_packaged_networks_are_as_large_as_said():
    sizes = {
        name: sum(each.numel() for each in samp_network(f"models/{name}.py").parameters())
        for name in ("samp_nano", "samp_b+")
    }
    assert 0.15e6 < sizes["samp_nano"] < 0.25e6
    assert 0.8e6 < sizes["samp_b+"] < 1.3e6


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({**SMALL, "crop": (100, 96)}, "crop: expected height and width, multiples of 16 from 32 on"),
        ({**SMALL, "taps": (0, 1, 3)}, "taps: expected three of the 3 levels"),
        ({**SMALL, "alpha": 2}, "alpha: expected a number in"),
        ({**SMALL, "head": "simple"}, "head: expected 'probabilistic' or 'heatmaps', got 'simple'"),
        ({**SMALL, "fusion": "blend"}, "fusion: expected 'blocks' or 'sum', got 'blend'"),
        ({**SMALL, "stem_channels": (4, 4)}, "stem_channels: expected 4 numbers"),
        ({**SMALL, "chanels": 3}, "SharedSAMP has no argument 'chanels'"),
        ({"channels": 8}, "model: expected level_channels"),
        ("nano.py", "expected a config with model = dict"),
    ],
)  # fmt: skip
def test_wrong_settings(model, message):
    with pytest.raises(UserError, match=message) as caught:
        samp_network(model)
    assert "\n" not in str(caught.value)


def test_levels_of_another_encoder():
    with pytest.raises(UserError, match=r"encoder: its levels have \(4, 4\) channels, and these weights are for"):
        small().project([torch.zeros(1, 4, 4, 4)] * 2)


def test_it_is_a_module_of_its_own_weights_only():
    assert isinstance(small(), SharedSAMP)
    assert not any("stem" in name for name in small(stem_channels=None).state_dict())


_ARMS = sorted(path.stem for path in packaged("train/samp_arms/full.py").parent.glob("*.py"))


@pytest.mark.slow
def test_every_arm_of_the_ablations_builds_a_network_of_its_own():
    models = {arm: load_config(f"train/samp_arms/{arm}.py").model for arm in _ARMS}
    assert len(_ARMS) == 12
    assert len({str(model) for model in models.values()}) == 12
    for model in models.values():
        assert samp_network(model.network).crop == (128, 96)
