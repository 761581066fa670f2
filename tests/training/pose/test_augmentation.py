"""The augmentations of the published training: what they hide, what they leave, and by how much masks change."""

import numpy as np
import pytest

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmpose.registry import TRANSFORMS

import bmp.training.pose  # noqa: F401 -- registers


def _transform(kind, **options):
    return TRANSFORMS.build({"type": kind, **options})


def _mask():
    mask = np.zeros((200, 160), bool)
    mask[20:180, 40:120] = True
    return mask


def _noisy(mask, count=40, **options):
    np.random.seed(0)
    transform = _transform("MaskNoise", **options)
    return [transform({"mask": mask})["mask"] for _ in range(count)]


def test_masks_grow_and_shrink():
    mask = _mask()
    before = mask.copy()
    change = [int(each.sum()) - int(mask.sum()) for each in _noisy(mask)]
    assert min(change) < 0 < max(change)
    np.testing.assert_array_equal(mask, before)
    # Ten cells of which fewer than half are lost, fifty of which fewer than a tenth are won.
    assert min(change) > -0.75 * mask.sum()
    assert max(change) < 0.4 * (~mask).sum()


@pytest.mark.slow
def test_whole_cells_change_sides_where_outlines_do_not_move(monkeypatch):
    """Every mask is either larger or smaller, never both."""
    mask = _mask()
    for noisy in _noisy(mask):
        lost, won = (mask & ~noisy).sum(), (noisy & ~mask).sum()
        assert lost == 0 or won == 0
    unchanged = sum(np.array_equal(noisy, mask) for noisy in _noisy(mask, lost=0.0, won=0.0))
    assert 10 < unchanged < 30  # the outline still moves


@pytest.mark.parametrize("mask", [None, np.zeros((9, 9), bool)])
def test_nothing_to_disturb(mask):
    results = {"mask": mask}
    assert _transform("MaskNoise")(results)["mask"] is mask


def test_a_tiny_mask_is_never_lost():
    mask = np.zeros((60, 60), bool)
    mask[30:33, 30:33] = True
    assert all(noisy.any() for noisy in _noisy(mask))


def _person():
    keypoints = np.stack(np.meshgrid(np.arange(42.0, 120, 4), np.arange(22.0, 180, 8)), -1).reshape(1, -1, 2)
    return {
        "img": np.full((200, 160, 3), 200, np.uint8),
        "bbox": np.float32([[40, 20, 120, 180]]),
        "keypoints": keypoints,
        "keypoints_visibility": np.full(keypoints.shape[:2], 2),
    }


def _check_hidden(before, after):
    black = (after["img"] == 0).all(-1)
    assert black.any()
    assert (after["img"][~black] == 200).all()
    x, y = before["keypoints"].astype(int)[0].T
    np.testing.assert_array_equal(after["keypoints_visibility"][0] == 1, black[y, x])
    assert (before["img"] == 200).all()
    assert (before["keypoints_visibility"] == 2).all()
    return black


@pytest.mark.slow
def test_edges_are_black_and_the_box_is_what_is_left():
    np.random.seed(0)
    for _ in range(10):
        person = _person()
        after = _transform("EdgesBlackout", prob=1.0, mask_ratio_range=(0.2, 0.4), context_size=1.25)(person)
        black = _check_hidden(person, after)
        x1, y1, x2, y2 = after["bbox"][0].round().astype(int)
        assert not black[y1:y2, x1:x2].any()
        assert black.sum() == black.size - (x2 - x1) * (y2 - y1)
        # Of 100 x 200 pixels around the person a fifth to two fifths of each side are hidden.
        assert 80 * 0.5 <= x2 - x1 <= 80
        assert 160 * 0.5 <= y2 - y1 <= 160
        assert after["bbox"].dtype == np.float32


def test_patches_are_cells_of_the_box():
    np.random.seed(0)
    person = _person()
    after = _transform("PatchesBlackout", prob=1.0, grid_size=(8, 4), mask_ratio=0.25)(person)
    black = _check_hidden(person, after)
    assert black.sum() == 8 * 20 * 20
    cells = black[20:180, 40:120].reshape(8, 20, 4, 20).all((1, 3))
    assert cells.sum() == 8
    np.testing.assert_array_equal(after["bbox"], person["bbox"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["EdgesBlackout", "PatchesBlackout"])
def test_chance_and_labels_without_visibility(kind):
    np.random.seed(0)
    person = _person()
    assert _transform(kind, prob=0.0)(person) is person
    del person["keypoints_visibility"]
    assert "keypoints_visibility" not in _transform(kind, prob=1.0)(person)
    changed = sum(_transform(kind, prob=0.5)(person) is not person for _ in range(100))
    assert 30 < changed < 70
