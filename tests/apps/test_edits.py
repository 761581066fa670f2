"""Rows that somebody edits: to whom a pixel belongs."""

import pytest
import torch

from bmp.apps.edits import share_pixels
from bmp.io.segmentations import to_mask
from bmp.ops.masks import to_rle

SIZE = 20, 30


def row(box, score=0.5, **fields):
    x1, y1, x2, y2 = box
    bits = torch.zeros(1, *SIZE, dtype=torch.bool)
    bits[:, y1:y2, x1:x2] = True
    (mask,) = to_rle(bits)
    return {"segmentation": mask, "mask_score": score, **fields}


@pytest.mark.parametrize(
    ("rows", "owner"),  # of the pixels that all of them have
    [
        ([row((0, 0, 9, 9), 0.9), row((5, 5, 14, 14), 0.1, edited=["mask"], revision=1)], 1),
        ([row((0, 0, 9, 9), edited=["mask"], revision=3), row((5, 5, 14, 14), edited=["mask"], revision=2)], 0),
        ([row((0, 0, 9, 9), 0.9), row((5, 5, 14, 14), 0.1), row((20, 1, 25, 4), edited=["box"], revision=1)], 0),
        ([row((0, 0, 9, 9)), row((5, 5, 9, 9), 0.1, edited=["mask"], revision=1), row((5, 5, 30, 20))], 1),
    ],
)
def test_pixels_go_to_who_was_edited_last_and_else_to_the_surer_mask(rows, owner):
    shared = share_pixels(rows, *SIZE)
    masks = torch.stack([to_mask(each["segmentation"], *SIZE) for each in shared])
    drawn = torch.stack([to_mask(each["segmentation"], *SIZE) for each in rows])
    assert int(masks.sum(0).max()) == 1
    assert torch.equal(masks.any(0), drawn.any(0))
    assert bool(masks[owner, 6, 6])
    for each, before, mask, whole in zip(shared, rows, masks, drawn, strict=True):
        assert each["area"] == int(mask.sum())
        assert each.get("drawn") == (None if torch.equal(mask, whole) else before["segmentation"])


def test_who_gives_way_gives_the_pixels_back_and_nothing_happens_where_nobody_was_edited():
    first, second = row((0, 0, 9, 9), 0.9), row((5, 5, 14, 14), 0.1, edited=["mask"], revision=1)
    taken, _ = share_pixels([first, second], *SIZE)
    back, _ = share_pixels([taken, {**second, "segmentation": None}], *SIZE)
    assert (back["segmentation"], "drawn" in back) == (first["segmentation"], False)
    assert share_pixels([first, first], *SIZE) == [first, first]
