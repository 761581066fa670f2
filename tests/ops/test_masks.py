"""Masks: overlaps, boxes, similarity, clean-up, run lengths."""

import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as coco_mask
from torch import Tensor

from bmp.ops import masks
from bmp.structures import Image
from bmp.structures.mask_windows import MaskWindows, boxes_of_tensor


def _drawn(*pictures: str) -> Tensor:
    """Masks from lines of ``#`` and ``.``, separated by blanks."""
    return torch.tensor([[[c == "#" for c in line] for line in picture.split()] for picture in pictures])


def _none(height: int = 2, width: int = 3) -> Tensor:
    return torch.zeros(0, height, width, dtype=torch.bool)


@st.composite
def some_masks(draw: st.DrawFn, at_least: int = 0) -> Tensor:
    shape = (draw(st.integers(at_least, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    return torch.from_numpy(draw(npst.arrays(np.bool_, shape)))


@st.composite
def ranked_masks(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Masks with scores that all differ."""
    bits = draw(some_masks())
    order = draw(st.permutations(range(len(bits))))
    return bits, torch.tensor(order, dtype=torch.float32) / 10


@pytest.mark.parametrize(
    ("bits", "scores", "expected"),
    [
        (_none(), [], _none()),
        (_drawn("##. #.."), [0.1], _drawn("##. #..")),
        (_drawn("##.", ".##"), [0.9, 0.8], _drawn("##.", "..#")),
        (_drawn("##.", ".##"), [0.8, 0.9], _drawn("#..", ".##")),
        (_drawn("##.", ".##"), [0.5, 0.5], _drawn("##.", "..#")),
        (_drawn("##.", "##."), [0.5, 0.6], _drawn("...", "##.")),
        (_drawn("###", "##.", "#.."), [0.0, 0.0, 1.0], _drawn(".##", "...", "#..")),
    ],
)
def test_exclusive(bits: Tensor, scores: list[float], expected: Tensor) -> None:
    assert torch.equal(masks.exclusive(bits, torch.tensor(scores)), expected)


@settings(deadline=None)
@given(ranked_masks())
def test_exclusive_masks_are_disjoint_parts_with_the_same_union(case: tuple[Tensor, Tensor]) -> None:
    bits, scores = case
    resolved = masks.exclusive(bits, scores)
    assert (resolved.sum(dim=0) <= 1).all()
    assert not (resolved & ~bits).any()
    assert torch.equal(masks.union(resolved), masks.union(bits))


@settings(deadline=None)
@given(ranked_masks(), st.randoms(use_true_random=False))
def test_exclusive_does_not_depend_on_row_order(case: tuple[Tensor, Tensor], random: object) -> None:
    bits, scores = case
    rows = list(range(len(bits)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    moved = masks.exclusive(bits[rows], scores[rows])
    assert torch.equal(moved, masks.exclusive(bits, scores)[rows])


@settings(deadline=None)
@given(ranked_masks())
def test_exclusive_twice_is_exclusive_once(case: tuple[Tensor, Tensor]) -> None:
    bits, scores = case
    once = masks.exclusive(bits, scores)
    assert torch.equal(masks.exclusive(once, scores), once)


@pytest.mark.slow
@settings(deadline=None)
@given(ranked_masks())
def test_exclusive_leaves_its_argument_alone(case: tuple[Tensor, Tensor]) -> None:
    bits, scores = case
    before = bits.clone()
    masks.exclusive(bits, scores)
    assert torch.equal(bits, before)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(_none(), _drawn("... ...")[0]), (_drawn("#.. ...", "#.. ..#"), _drawn("#.. ..#")[0])],
)
def test_union(bits: Tensor, expected: Tensor) -> None:
    assert torch.equal(masks.union(bits), expected)


@pytest.mark.parametrize("bits", [_none(), _drawn("#.. ...", "#.. ..#")])
def test_paint_out_blackens_the_masks_and_nothing_else(bits: Tensor) -> None:
    image = Image(torch.arange(1, 19, dtype=torch.uint8).reshape(2, 3, 3))
    before = image.pixels.clone()
    painted = masks.paint_out(image, bits).pixels
    hidden = masks.union(bits)
    assert not painted[hidden].any()
    assert torch.equal(painted[~hidden], before[~hidden])
    assert torch.equal(image.pixels, before)


def test_paint_out_refuses_masks_of_another_size() -> None:
    with pytest.raises(ValueError, match="expected masks of 2x3 pixels"):
        masks.paint_out(Image(torch.zeros(2, 3, 3, dtype=torch.uint8)), _none(3, 2))


def test_a_mask_over_columns_3_to_5_has_edges_3_and_6() -> None:
    bits = torch.zeros(1, 10, 8, dtype=torch.bool)
    bits[0, 7:9, 3:6] = True
    assert masks.to_boxes(bits).tolist() == [[3, 7, 6, 9]]


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (_none(), []),
        (_drawn("... ..."), [[0, 0, 0, 0]]),
        (_drawn("#.. ..."), [[0, 0, 1, 1]]),
        (_drawn("... ..."[:7], "..# #..", "... .#."), [[0, 0, 0, 0], [0, 0, 3, 2], [1, 1, 2, 2]]),
        (_drawn("### ###"), [[0, 0, 3, 2]]),
    ],
)
@pytest.mark.parametrize("to_boxes", [masks.to_boxes, lambda bits: boxes_of_tensor(bits).float()])
def test_to_boxes(to_boxes, bits: Tensor, expected: list[list[float]]) -> None:
    found = to_boxes(bits)
    assert found.shape == (len(bits), 4)
    assert found.dtype == torch.float32
    assert found.tolist() == expected


@settings(deadline=None)
@given(some_masks())
def test_boxes_are_the_tightest(bits: Tensor) -> None:
    for mask, (x1, y1, x2, y2) in zip(bits, masks.to_boxes(bits).int().tolist(), strict=True):
        assert mask.sum() == mask[y1:y2, x1:x2].sum()
        if mask.any():
            inside = mask[y1:y2, x1:x2]
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (_none(), _none(), torch.zeros(0, 0)),
        (_none(), _drawn("### ###"), torch.zeros(0, 1)),
        (_drawn("### ###"), _none(), torch.zeros(1, 0)),
        (_drawn("##. ..."), _drawn(".## ...", "##. ...", "... ###"), torch.tensor([[1 / 3, 1.0, 0.0]])),
        (_drawn("... ..."), _drawn("... ...", "### ..."), torch.zeros(1, 2)),
    ],
)
def test_iou(first: Tensor, second: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(masks.iou(first, second), expected)


@settings(deadline=None)
@given(some_masks(), st.integers(1, 40))
def test_iou_does_not_depend_on_the_chunk(bits: Tensor, chunk: int) -> None:
    brute = torch.tensor(
        [[float((a & b).sum()) / max(1.0, float((a | b).sum())) for b in bits] for a in bits], dtype=torch.float32
    ).reshape(len(bits), len(bits))
    torch.testing.assert_close(masks.iou(bits, bits), brute)
    assert torch.equal(masks.iou(bits, bits, chunk=chunk), masks.iou(bits, bits))


def test_iou_refuses_masks_of_another_size() -> None:
    with pytest.raises(ValueError, match="masks of one size"):
        masks.iou(_none(2, 3), _none(3, 2))


@pytest.mark.parametrize(
    ("bits", "max_area", "expected"),
    [
        (_none(), 5, _none()),
        (_drawn("### #.# ###"), 0, _drawn("### #.# ###")),
        (_drawn("### #.# ###"), 1, _drawn("### ### ###")),
        (_drawn("#### #..# ####"), 1, _drawn("#### #..# ####")),
        (_drawn("#### #..# ####"), 2, _drawn("#### #### ####")),
        # two gaps that touch at a corner are one hole of 2 pixels
        (_drawn("#### #.## ##.# ####"), 1, _drawn("#### #.## ##.# ####")),
        (_drawn("#### #.## ##.# ####"), 2, _drawn("#### #### #### ####")),
        # a hole at the edge is a hole as well, and a neighbour in the batch is not one's own
        (_drawn("##. ###", "... ..."), 1, _drawn("### ###", "... ...")),
        (_drawn("### ##.", ".## ###"), 1, _drawn("### ###", "### ###")),
    ],
)
def test_fill_holes(bits: Tensor, max_area: int, expected: Tensor) -> None:
    assert torch.equal(masks.fill_holes(bits, max_area), expected)


@pytest.mark.parametrize(
    ("bits", "max_area", "expected"),
    [
        (_none(), 5, _none()),
        (_drawn("#.# ..#"), 0, _drawn("#.# ..#")),
        (_drawn("#.# ..#"), 1, _drawn("..# ..#")),
        (_drawn("#.# ..#"), 2, _drawn("... ...")),
        (_drawn("#.. .#."), 1, _drawn("#.. .#.")),
        (_drawn("... #..", "#.. ..."), 1, _drawn("... ...", "... ...")),
        (_drawn("### ###"), 6, _drawn("... ...")),
        (_drawn("### ###"), 5, _drawn("### ###")),
    ],
)
def test_remove_specks(bits: Tensor, max_area: int, expected: Tensor) -> None:
    assert torch.equal(masks.remove_specks(bits, max_area), expected)


@settings(deadline=None)
@given(some_masks(), st.integers(0, 10))
def test_each_mask_is_cleaned_for_itself(bits: Tensor, max_area: int) -> None:
    together = masks.remove_specks(bits, max_area)
    apart = [masks.remove_specks(bits[row : row + 1], max_area) for row in range(len(bits))]
    assert torch.equal(together, torch.cat([bits[:0], *apart]))


@settings(deadline=None)
@given(some_masks(), st.integers(0, 10))
def test_filling_holes_is_removing_specks_of_the_background(bits: Tensor, max_area: int) -> None:
    filled = masks.fill_holes(bits, max_area)
    assert torch.equal(filled, ~masks.remove_specks(~bits, max_area))
    assert not (bits & ~filled).any()


@settings(deadline=None)
@given(some_masks(), st.integers(0, 8))
def test_clean_up_in_windows_is_that_of_the_whole_mask(bits: Tensor, max_area: int) -> None:
    bits = torch.nn.functional.pad(bits, (9, 8, 7, 10))
    for pixels, ours in (
        (bits, masks.small_components(bits, max_area)),
        (~bits, masks.fill_holes(bits, max_area) & ~bits),
    ):
        for mask, small in zip(pixels.numpy(), ours.numpy(), strict=True):
            _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
            expected = (statistics[labels, cv2.CC_STAT_AREA] <= max_area) & (labels > 0)
            np.testing.assert_array_equal(small, expected)


@st.composite
def within_windows(draw: st.DrawFn) -> tuple[Tensor, MaskWindows]:
    """Whole masks, and the same in windows that are larger than need be."""
    bits = draw(some_masks())
    tight = MaskWindows.of(bits)
    loose = [
        (slice(max(0, rows.start - 1), rows.stop), slice(columns.start, columns.stop + 1))
        for rows, columns in tight.windows()
    ]
    corners = tuple((columns.start, rows.start) for rows, columns in loose)
    patches = tuple(mask[window] for mask, window in zip(bits, loose, strict=True))
    windows = MaskWindows(*tight.shape[1:], corners, patches, bits.device)
    return bits, draw(st.sampled_from([tight, windows]))


@settings(deadline=None)
@given(within_windows())
def test_windows_give_what_whole_masks_give(both: tuple[Tensor, MaskWindows]) -> None:
    bits, windows = both
    assert torch.equal(windows.whole(), bits)
    scores = torch.linspace(0, 1, len(bits))
    assert torch.equal(masks.exclusive(windows, scores).whole(), masks.exclusive(bits, scores))
    assert torch.equal(masks.union(windows), masks.union(bits))
    assert torch.equal(masks.to_boxes(windows), masks.to_boxes(bits))
    assert torch.equal(masks.areas(windows), masks.areas(bits))
    assert masks.to_rle(windows) == masks.to_rle(bits)
    pixels = torch.full((*bits.shape[1:], 3), 7, dtype=torch.uint8)
    assert torch.equal(masks.paint_out(Image(pixels), windows).pixels, masks.paint_out(Image(pixels), bits).pixels)
    assert (pixels == 7).all()
    assert torch.equal(windows[bits.flatten(1).any(1)].whole(), bits[bits.flatten(1).any(1)])
    assert torch.equal(MaskWindows.concat([windows[1:], windows[:1]]).whole(), torch.cat([bits[1:], bits[:1]]))


@settings(deadline=None)
@given(some_masks())
def test_run_lengths_are_those_of_pycocotools(bits: Tensor) -> None:
    expected = [coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in bits]
    assert [rle["counts"] for rle in masks.to_rle(bits)] == [rle["counts"].decode() for rle in expected]


@pytest.mark.parametrize("size", [(300, 400), (686, 948), (100, 3000), (64, 64), (1500, 90)])
@pytest.mark.parametrize("cells", [(64, 64), (48, 64)])
def test_soft_masks_are_enlarged_as_the_library_does(size: tuple[int, int], cells: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(size))
    soft = torch.randn(4, *cells, generator=generator)
    for row, (top, left) in enumerate([(0, 0), (20, 30), (40, 50)]):
        own = torch.zeros(cells, dtype=torch.bool)
        own[top : top + 9, left : left + 12] = True
        soft[row][~own] = -1
    soft[3] = -1
    for threshold in (0.0, 0.5):
        expected = torch.nn.functional.interpolate(soft[:, None], size, mode="bilinear")[:, 0] > threshold
        assert torch.equal(masks.enlarged(soft, *size, threshold).whole(), expected)


@pytest.mark.parametrize("size", [(300, 400), (64, 48), (100, 35), (31, 200), (1, 1)])
@pytest.mark.parametrize("cells", [(64, 64), (48, 64), (1, 1)])
def test_masks_are_shrunk_as_the_library_does(size: tuple[int, int], cells: tuple[int, int]) -> None:
    bits = torch.rand(4, *size, generator=torch.Generator().manual_seed(sum(size))) > 0.5
    for mask, (top, left) in zip(bits, [(0, 0), (0.5, 0.3), (0.9, 0.95)], strict=False):
        own = torch.zeros_like(mask)
        own[int(top * size[0]) : int(top * size[0]) + 40, int(left * size[1]) : int(left * size[1]) + 30] = True
        mask &= own
    bits[3] = False
    options = dict(mode="bilinear", antialias=True)
    expected = torch.nn.functional.interpolate(bits[:, None].float(), cells, **options)[:, 0]
    torch.testing.assert_close(masks.shrunk(MaskWindows.of(bits), *cells), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("max_area", [0, 1, 2, 5, 30])
def test_parts_found_by_pooling_are_those_of_connected_components(max_area: int) -> None:
    generator = torch.Generator().manual_seed(max_area)
    for share in (0.02, 0.2, 0.4, 0.6, 0.95):
        bits = torch.rand(2, 13, 17, generator=generator) < share
        assert torch.equal(masks.small_parts_by_pooling(bits, max_area), masks.small_components(bits, max_area))
        filled = bits | masks.small_parts_by_pooling(~bits, max_area)
        assert torch.equal(filled, masks.fill_holes(bits, max_area))
    snake = torch.zeros(1, 9, 9, dtype=torch.bool)  # a part as long as it is large
    snake[0, 0], snake[0, 1, 8], snake[0, 2], snake[0, 3, 0], snake[0, 4] = True, True, True, True, True
    for area in (28, 29):
        found = masks.small_parts_by_pooling(snake, area)
        assert torch.equal(found, snake if area == 29 else torch.zeros_like(snake))
    assert masks.small_parts_by_pooling(snake[:0], 3).shape == (0, 9, 9)


@settings(deadline=None)
@given(some_masks())
def test_changes_found_together_are_those_of_each_mask(bits: Tensor) -> None:
    windows = MaskWindows.of(bits)
    together = list(masks.changes_together(windows.patches))
    for found, expected in zip(together, masks._changes(windows), strict=True):
        np.testing.assert_array_equal(found, expected)


@settings(deadline=None)
@given(some_masks())
def test_rle_round_trip_through_json(bits: Tensor) -> None:
    rles = json.loads(json.dumps(masks.to_rle(bits)))
    height, width = bits.shape[1:]
    assert [rle["size"] for rle in rles] == [[height, width]] * len(bits)
    assert torch.equal(masks.from_rle(rles, height, width), bits)


def test_run_lengths_go_down_the_columns() -> None:
    # COCO counts pixels outside, inside, outside, ... in column-major order
    bits = _drawn(".#. ##.")
    assert torch.equal(masks.from_rle([{"size": [2, 3], "counts": [1, 3, 2]}], 2, 3), bits)
    (rle,) = masks.to_rle(bits)
    assert torch.equal(masks.from_rle([{**rle, "counts": rle["counts"].encode()}], 2, 3), bits)


def test_from_rle_refuses_another_size() -> None:
    with pytest.raises(ValueError, match=r"expected masks of 3x2 pixels, got size \[2, 3\]"):
        masks.from_rle([{"size": [2, 3], "counts": [6]}], 3, 2)
