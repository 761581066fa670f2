"""Heatmap decodings and targets: on maps whose answer is plain."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmp.ops.heatmaps import (
    decode_dark_udp,
    decode_expected_oks,
    find_maxima,
    gaussian_targets,
    oks_targets,
    oks_variances,
)

_inside = st.tuples(st.floats(16, 31), st.floats(16, 47))


def _gaussian(x, y, variance=4.0, height=64, width=48):
    xs, ys = torch.arange(width), torch.arange(height)
    return torch.exp(-((xs - x) ** 2 + (ys[:, None] - y) ** 2) / (2 * variance))


def test_the_first_of_equal_cells_is_the_maximum():
    maps = torch.zeros(2, 1, 3, 4)
    maps[1, 0, 1, 2] = maps[1, 0, 2, 0] = 5
    places, values = find_maxima(maps)
    assert places.tolist() == [[[0, 0]], [[2, 1]]]
    assert values.tolist() == [[0], [5]]


@pytest.mark.slow
@given(_inside)
def test_dark_finds_the_centre_of_a_gaussian_between_cells(center):
    places, scores = decode_dark_udp(_gaussian(*center)[None, None])
    torch.testing.assert_close(places[0, 0], torch.tensor(center), atol=0.02, rtol=0)
    assert scores.item() == _gaussian(*center).max()


@pytest.mark.parametrize("maps", [torch.zeros(64, 48), torch.ones(64, 48), torch.arange(3072.0).view(64, 48)])
def test_dark_stays_at_the_maximum_of_a_map_without_a_peak(maps):
    places, _ = decode_dark_udp(maps[None, None])
    expected, _ = find_maxima(maps[None, None])
    assert places.isfinite().all()
    assert (places - expected).abs().max() <= 5


@pytest.mark.slow
@given(_inside, st.integers(-5, 5), st.integers(-5, 5))
def test_decodings_move_along_with_the_map(center, right, down):
    maps = torch.stack([_gaussian(*center), _gaussian(center[0] + right, center[1] + down)])[:, None]
    for decode in (decode_dark_udp, lambda maps: decode_expected_oks(maps, [0.05])):
        places, scores = decode(maps)
        torch.testing.assert_close(places[1] - places[0], torch.tensor([[right, down]]).float(), atol=0.02, rtol=0)
        torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=0)


def test_expected_oks_prefers_much_mass_to_one_high_cell():
    maps = torch.zeros(1, 1, 64, 48)
    maps[0, 0, 10, 10] = 0.2
    maps[0, 0, 40:43, 30:33] = 0.09
    assert find_maxima(maps)[0].tolist() == [[[10, 10]]]
    places, scores = decode_expected_oks(maps, [0.1])
    torch.testing.assert_close(places, torch.tensor([[[31.0, 41.0]]]))
    torch.testing.assert_close(scores, torch.tensor([[0.09]]))


@pytest.mark.slow
@pytest.mark.parametrize("corner", [(0, 0), (47, 63), (0, 63), (47, 0)])
def test_expected_oks_stays_on_the_edge(corner):
    places, _ = decode_expected_oks(_gaussian(*corner)[None, None], [0.1])
    assert places.tolist() == [[list(map(float, corner))]]


def test_each_keypoint_has_its_own_kernel():
    maps = torch.zeros(1, 2, 64, 48)
    maps[..., 20, 20] = 0.3
    maps[..., 40:44, 30:34] = 0.04
    places, _ = decode_expected_oks(maps, [0.01, 0.1])
    assert places[0, 0].tolist() == [20, 20]
    assert places[0, 1].tolist() != [20, 20]


def test_variances_stay_within_what_a_grid_can_show():
    variances = oks_variances([0.001, 0.079, 10.0], 64, 48)
    assert variances[0] == 0.55
    assert variances[1] == pytest.approx((2 * 0.079) ** 2 * 2 * (64 / 1.25 * 48 / 1.25) ** 0.5)
    assert variances[2] == 3.0


def test_targets_peak_at_one_near_the_keypoint_and_vanish_far_outside():
    keypoints = torch.tensor([[20.3, 30.6], [-1.5, 30.0], [200.0, -80.0]])
    maps = oks_targets(keypoints, 64, 48, [0.05, 0.05, 0.05])
    assert maps.shape == (3, 64, 48)
    places, values = find_maxima(maps)
    assert values[:2].tolist() == [1, 1]
    assert values[2] < 1e-3
    assert places[:2].tolist() == [[20, 31], [0, 30]]


def test_the_codec_is_its_own_inverse():
    keypoints = torch.rand(5, 17, 2) * torch.tensor([36.0, 52.0]) + 6
    places, _ = decode_expected_oks(oks_targets(keypoints, 64, 48))
    # A parabola through cells one apart misses a narrow peak by up to a tenth of a cell.
    torch.testing.assert_close(places, keypoints, atol=0.1, rtol=0)


@pytest.mark.parametrize(("sigma", "kernel"), [(2.0, 11), (1.0, 5)])
def test_a_drawn_gaussian_is_found_where_it_was_drawn(sigma, kernel):
    keypoints = torch.tensor([[[20.3, 30.8], [11.0, 12.0], [40.5, 50.25]]])
    maps = gaussian_targets(keypoints, 64, 48, sigma)
    assert maps[0, 1].max() == maps[0, 1, 12, 11] == 1
    assert maps[0, 0].max() < 1
    places, _ = decode_dark_udp(maps, blur_kernel_size=kernel)
    torch.testing.assert_close(places, keypoints, atol=0.02, rtol=0)
