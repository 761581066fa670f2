"""The head that finds people in an encoder's levels: geometry, whom it is told of, and its settings."""

import pytest
import torch

from bmp import UserError
from bmp.models.people_head import PeopleHead, people_head

SMALL = dict(level_channels=(4, 4, 4), channels=16)


def levels(count=2, side=16):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, 4, size, size, generator=generator) for size in (side, side // 2, side // 4)]


def test_cells_lie_where_the_image_is():
    assert PeopleHead.points(2, 4)[[0, 3, 7]].tolist() == [[0.125, 0.25], [0.875, 0.25], [0.875, 0.75]]


def test_boxes_are_around_their_cells_and_of_a_middling_size_at_first():
    head = people_head(SMALL)
    found = head(levels())
    assert found.scores.shape == (2, 64)
    assert found.scores.sigmoid().max() < 0.05
    middles = (found.boxes[..., :2] + found.boxes[..., 2:]) / 2
    torch.testing.assert_close(middles, head.points(8, 8).expand(2, -1, -1), atol=0.05, rtol=0)
    torch.testing.assert_close(
        found.boxes[..., 2:] - found.boxes[..., :2], torch.full((2, 64, 2), 0.3), atol=0.1, rtol=0
    )


@torch.no_grad()
def test_a_mask_is_drawn_where_its_cell_is():
    """A network that looks at nothing but how far to the right a cell lies: all to the right of it is inside."""
    head = people_head(SMALL)
    kernels = torch.zeros(2, sum(head._kernel_sizes))
    first, second, third, *_ = kernels.split(head._kernel_sizes, dim=1)
    first[:, 0] = second[:, 0] = third[:, 0] = 1.0  # first channel in, first channel out
    maps = torch.zeros(8, 16, 16)
    drawn = head.draw(maps, kernels, torch.tensor([[0.5, 0.5], [0.25, 0.9]]))
    inside = torch.arange(16) + 0.5 > torch.tensor([8, 4])[:, None]
    assert torch.equal(drawn > 0, inside[:, None].expand(-1, 16, -1))
    assert head.draw(maps, kernels[:0], torch.zeros(0, 2)).shape == (0, 16, 16)


@torch.no_grad()
def test_what_lies_under_known_people_is_not_seen():
    head = people_head(SMALL)
    for fill in head.fills:
        fill.normal_()
    known = torch.zeros(2, 1, 32, 32)
    known[:, :, :, :16] = 1
    first = levels()
    other = [level.clone() for level in first]
    for level in other:
        level[..., : level.shape[-1] // 2] += 9  # somebody else under the same mask
    torch.testing.assert_close(head(first, known).scores, head(other, known).scores)
    assert not torch.allclose(head(first).scores, head(other).scores)
    assert not torch.allclose(head(first, known).scores, head(first).scores)
    torch.testing.assert_close(head(first, 0 * known).scores, head(first).scores)


@torch.no_grad()
def test_images_of_a_batch_do_not_meet():
    head = people_head(SMALL)
    whole = head(levels())
    alone = head([level[1:] for level in levels()])
    torch.testing.assert_close(whole.boxes[1:], alone.boxes)
    torch.testing.assert_close(whole.maps[1:], alone.maps)


def test_it_is_as_large_as_said():
    assert 0.2e6 < sum(each.numel() for each in people_head("models/people_head_nano.py").parameters()) < 0.25e6


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({**SMALL, "level_channels": (4, 4)}, "level_channels: expected 3 numbers"),
        ({**SMALL, "channels": 24}, "channels: expected a multiple of 16, got 24"),
        ({**SMALL, "depth": -1}, "depth, mask_channels: expected at least 0 and 1"),
        ({**SMALL, "chanels": 3}, "PeopleHead has no argument 'chanels'"),
        ({"channels": 16}, "model: expected level_channels"),
        ("nano.py", "expected a config with model = dict"),
    ],
)  # fmt: skip
def test_wrong_settings(model, message):
    with pytest.raises(UserError, match=message) as caught:
        people_head(model)
    assert "\n" not in str(caught.value)


def test_levels_of_another_encoder():
    with pytest.raises(UserError, match=r"encoder: its levels have \(4, 4, 5\) channels, and these weights are for"):
        people_head(SMALL)([*levels()[:2], torch.zeros(2, 5, 4, 4)])
