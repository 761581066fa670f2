"""People are painted out of the picture and of the ground truth, and nothing else changes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mmdet", reason="needs the extra openmmlab", exc_type=ImportError)

from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope

from bmp.training.detector.transforms import PaintOutPeople

SIZE = (40, 60)
LEFT, MIDDLE, RIGHT = (5, 2, 35, 18), (8, 20, 32, 38), (10, 42, 30, 58)  # top, left, bottom, right


def scene(*people: tuple[int, int, int, int], ignored: tuple[bool, ...] | None = None) -> dict[str, Any]:
    """Rectangular people on noise without any black."""
    masks = np.zeros((len(people), *SIZE), np.uint8)
    for mask, (top, left, bottom, right) in zip(masks, people, strict=True):
        mask[top:bottom, left:right] = 1
    boxes = [(left, top, right, bottom) for top, left, bottom, right in people]
    return {
        "img": np.random.default_rng(0).integers(1, 256, (*SIZE, 3), np.uint8),
        "gt_bboxes": HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        "gt_bboxes_labels": np.zeros(len(people), np.int64),
        "gt_masks": BitmapMasks(masks, *SIZE),
        "gt_ignore_flags": np.array(ignored or (False,) * len(people), bool),
        "img_path": "somewhere",
    }


def paint(results: dict[str, Any], seed: int = 0, **options: Any) -> dict[str, Any]:
    step = PaintOutPeople(**{"prob": 1.0, "roughness": 0.0, **options})
    np.random.seed(seed)
    return step.transform(results)


def rows_agree(results: dict[str, Any]) -> bool:
    rows = len(results["gt_bboxes"])
    return all(len(results[key]) == rows for key in ("gt_bboxes_labels", "gt_masks", "gt_ignore_flags"))


def test_configs_of_mmdet_find_it():
    with DefaultScope.overwrite_default_scope("mmdet"):
        assert isinstance(TRANSFORMS.build({"type": "PaintOutPeople"}), PaintOutPeople)


@pytest.mark.parametrize("seed", range(20))
def test_painted_people_are_black_and_gone_the_others_are_untouched(seed):
    before = scene(LEFT, MIDDLE, RIGHT)
    after = paint(before, seed)
    boxes = after["gt_bboxes"].tensor.tolist()
    assert len(boxes) < 3
    assert rows_agree(after)
    gone = np.zeros(SIZE, bool)
    for mask, box in zip(before["gt_masks"].masks, before["gt_bboxes"].tensor.tolist(), strict=True):
        if box not in boxes:
            gone |= mask.astype(bool)
    assert not after["img"][gone].any()
    np.testing.assert_array_equal(after["img"][~gone], before["img"][~gone])
    assert after["img_path"] == "somewhere"


def test_all_may_go():
    sizes = {len(paint(scene(LEFT, MIDDLE, RIGHT), seed)["gt_bboxes"]) for seed in range(30)}
    assert sizes == {0, 1, 2}
    nobody = next(after for seed in range(30) if not len((after := paint(scene(LEFT, RIGHT), seed))["gt_bboxes"]))
    assert nobody["gt_masks"].masks.shape == (0, *SIZE)
    assert nobody["gt_bboxes"].tensor.shape == (0, 4)


def test_nobody_in_the_picture_is_fine():
    before = scene()
    after = paint(before)
    assert after["img"] is before["img"]
    assert rows_agree(after)


def test_the_input_stays_as_it_was():
    before, same = scene(LEFT, (8, 15, 32, 38), RIGHT), scene(LEFT, (8, 15, 32, 38), RIGHT)
    paint(before, roughness=0.2)
    np.testing.assert_array_equal(before["img"], same["img"])
    np.testing.assert_array_equal(before["gt_masks"].masks, same["gt_masks"].masks)
    assert torch.equal(before["gt_bboxes"].tensor, same["gt_bboxes"].tensor)


@pytest.mark.slow
@pytest.mark.parametrize(("prob", "painted"), [(0.0, 0), (0.5, 100), (1.0, 200)])
def test_how_often(prob, painted):
    count = sum(len(paint(scene(LEFT, RIGHT), seed, prob=prob)["gt_bboxes"]) < 2 for seed in range(200))
    assert abs(count - painted) <= (0 if prob in (0, 1) else 25)


@pytest.mark.slow
def test_the_large_go_sooner():
    large, small = (2, 2, 38, 30), (10, 40, 22, 46)
    one_left = [after for seed in range(200) if len((after := paint(scene(large, small), seed))["gt_bboxes"]) == 1]
    small_left = sum(after["gt_bboxes"].tensor[0, 0].item() == 40 for after in one_left)
    assert small_left > 0.8 * len(one_left) > 50


def test_ignored_regions_are_never_painted_and_stay():
    for seed in range(10):
        after = paint(scene(LEFT, RIGHT, ignored=(True, False)), seed)
        assert after["gt_bboxes"].tensor.tolist() == [[2, 5, 18, 35]]
        assert after["img"][5:35, 2:18].all()


@pytest.mark.parametrize(
    ("behind", "left_of_them"),
    [
        ((8, 20, 32, 38), [[24, 8, 38, 32]]),  # four columns of eighteen are painted: the box follows
        ((8, 6, 32, 26), []),  # less than 30 % of them is left
    ],
)
def test_whoever_is_painted_over_keeps_what_is_left(behind, left_of_them):
    front = (2, 2, 38, 24)
    for seed in range(40):
        after = paint(scene(front, behind), seed)
        boxes = after["gt_bboxes"].tensor.tolist()
        if [2.0, 2.0, 24.0, 38.0] not in boxes and after["img"][20, 25:26].all():
            break
    else:
        pytest.fail("no seed paints the one in front alone")
    assert boxes == left_of_them
    assert not (after["gt_masks"].masks[:, (after["img"] == 0).all(-1)]).any()


@pytest.mark.slow
def test_few_pixels_are_nobody():
    front, behind = (2, 2, 38, 24), (8, 20, 16, 28)  # 32 of 64 pixels are left
    for least, expected in ((32, 1), (33, 0)):
        counts = set()
        for seed in range(40):
            after = paint(scene(front, behind), seed, min_pixels=least)
            if (after["img"][:, :24] == 0).any() and after["img"][10, 25].all():
                counts.add(len(after["gt_bboxes"]))
        assert counts == {expected}


@pytest.mark.slow
@given(seed=st.integers(0, 2**32 - 1))
def test_rough_masks_stay_near_the_true_ones(seed):
    before = scene((8, 10, 32, 50))
    after = paint(before, seed, roughness=0.1)
    black, mask = (after["img"] == 0).all(-1), before["gt_masks"].masks[0].astype(bool)
    assert (black & mask).sum() / (black | mask).sum() > 0.6
    assert not black[:2].any()
    assert black[16:24, 20:40].all()


def test_rough_masks_leave_rims_and_reach_beyond():
    missed = reached = 0
    for seed in range(30):
        before = scene((8, 10, 32, 50))
        after = paint(before, seed, roughness=0.1)
        black, mask = (after["img"] == 0).all(-1), before["gt_masks"].masks[0].astype(bool)
        missed += (mask & ~black).sum() > 20
        reached += (black & ~mask).sum() > 20
    assert missed > 3
    assert reached > 3


def test_the_seed_decides():
    first, second, other = (paint(scene(LEFT, MIDDLE, RIGHT), seed, roughness=0.1)["img"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
