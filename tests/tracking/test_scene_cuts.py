"""Where scenes end: pictures of plain colours, noise and shifts."""

import pytest
import torch

from bmp.structures import Image
from bmp.tracking.scene_cuts import is_cut, scene_of


def picture(red, green=0, blue=0, height=48, width=64, dark_right=False):
    pixels = torch.zeros(height, width, 3, dtype=torch.uint8) + torch.tensor([red, green, blue], dtype=torch.uint8)
    if dark_right:
        pixels[:, width // 2 :] //= 3
    return scene_of(Image(pixels))


@pytest.mark.parametrize(
    ("before", "after", "cut"),
    [
        (picture(200), picture(200), False),
        (picture(200), picture(208), False),
        (picture(20, 20, 20), picture(200, 200, 200), True),
        (picture(200), picture(0, 100, 0), False),  # colours differ, brightness does not
        (picture(200, 200, 200), picture(200, 200, 200, dark_right=True), True),
        (picture(200), picture(200, height=50), True),
        (picture(0), picture(0), False),
    ],
)
def test_cuts(before, after, cut):
    assert is_cut(before, after) is cut
    assert is_cut(after, before) is cut


def test_a_fast_pan_is_no_cut():
    generator = torch.Generator().manual_seed(0)
    world = torch.nn.functional.interpolate(
        torch.randint(0, 256, (1, 3, 12, 30), generator=generator).float(), (192, 480), mode="bilinear"
    )[0].permute(1, 2, 0)
    one, other = (Image(world[:, x : x + 256].to(torch.uint8)) for x in (0, 24))
    assert not is_cut(scene_of(one), scene_of(other))


def test_what_is_seen_of_a_large_frame_is_what_is_seen_of_a_small_one():
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (64, 64, 3), generator=generator).to(torch.uint8)
    large = small.repeat_interleave(16, dim=0).repeat_interleave(16, dim=1)
    one, other = scene_of(Image(small)), scene_of(Image(large))
    assert one.luma == pytest.approx(other.luma, abs=0.01)
    assert one.colours == pytest.approx(other.colours, abs=1e-6)
    assert one.colours.sum(axis=1) == pytest.approx(1)
