"""Boxes: formats, sizes, overlap, windows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bmp.ops import boxes

NONE = torch.zeros(0, 4)


def _row(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float32)


@st.composite
def some_boxes(draw: st.DrawFn, at_least: int = 0) -> Tensor:
    """Boxes of whole quarter pixels, so that float32 is exact."""
    corner = st.integers(-400, 400).map(lambda quarter: quarter / 4)
    size = st.integers(0, 400).map(lambda quarter: quarter / 4)
    rows = draw(st.lists(st.tuples(corner, corner, size, size), min_size=at_least, max_size=6))
    return torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=torch.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("xywh", "xyxy"),
    [
        (NONE, NONE),
        (_row(3, 4, 3, 5), _row(3, 4, 6, 9)),
        (_row(-2, -1, 0, 0), _row(-2, -1, -2, -1)),
    ],
)
def test_formats_convert_into_each_other(xywh: Tensor, xyxy: Tensor) -> None:
    assert torch.equal(boxes.xywh_to_xyxy(xywh), xyxy)
    assert torch.equal(boxes.xyxy_to_xywh(xyxy), xywh)


@settings(deadline=None)
@given(some_boxes())
def test_conversion_round_trip(given_boxes: Tensor) -> None:
    assert torch.equal(boxes.xywh_to_xyxy(boxes.xyxy_to_xywh(given_boxes)), given_boxes)


@pytest.mark.parametrize(
    ("given_boxes", "expected"), [(NONE, []), (_row(3, 4, 6, 9), [15.0]), (_row(3, 4, 3, 9), [0.0])]
)
def test_area(given_boxes: Tensor, expected: list[float]) -> None:
    assert boxes.area(given_boxes).tolist() == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (NONE, NONE, torch.zeros(0, 0)),
        (NONE, _row(0, 0, 1, 1), torch.zeros(0, 1)),
        (_row(0, 0, 1, 1), NONE, torch.zeros(1, 0)),
        (_row(0, 0, 4, 2), _row(2, 0, 6, 2), torch.tensor([[1 / 3]])),
        (_row(0, 0, 4, 2), _row(4, 0, 6, 2), torch.tensor([[0.0]])),
        (_row(5, 5, 5, 5), _row(5, 5, 5, 5), torch.tensor([[0.0]])),
    ],
)
def test_iou(first: Tensor, second: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(boxes.iou(first, second), expected)


@pytest.mark.slow
@settings(deadline=None)
@given(some_boxes(), some_boxes())
def test_iou_is_symmetric_and_bounded(first: Tensor, second: Tensor) -> None:
    overlap = boxes.iou(first, second)
    torch.testing.assert_close(overlap, boxes.iou(second, first).T)
    assert ((overlap >= 0) & (overlap <= 1)).all()


@pytest.mark.parametrize(
    ("given_boxes", "factor", "expected"),
    [
        (NONE, 0.5, NONE),
        (_row(10, 20, 14, 30), 0.0, _row(10, 20, 14, 30)),
        (_row(10, 20, 14, 30), 0.5, _row(8, 15, 16, 35)),
        (_row(10, 20, 14, 30), 0.25, _row(9, 17.5, 15, 32.5)),
        (_row(10, 20, 14, 30), -0.25, _row(11, 22.5, 13, 27.5)),
        (_row(10, 20, 10, 20), 0.5, _row(10, 20, 10, 20)),
    ],
)
def test_inflate(given_boxes: Tensor, factor: float, expected: Tensor) -> None:
    torch.testing.assert_close(boxes.inflate(given_boxes, factor), expected)


@settings(deadline=None)
@given(some_boxes())
def test_inflate_by_half_makes_four_times_the_area(given_boxes: Tensor) -> None:
    torch.testing.assert_close(boxes.area(boxes.inflate(given_boxes, 0.5)), 4 * boxes.area(given_boxes))


@pytest.mark.parametrize(
    ("given_boxes", "expected"),
    [
        (NONE, NONE),
        (_row(1, 2, 3, 4), _row(1, 2, 3, 4)),
        (_row(-5, -5, 50, 50), _row(0, 0, 20, 10)),
        (_row(30, 40, 50, 60), _row(20, 10, 20, 10)),
    ],
)
def test_clip_to_a_picture_10_high_and_20_wide(given_boxes: Tensor, expected: Tensor) -> None:
    assert torch.equal(boxes.clip(given_boxes, height=10, width=20), expected)


@pytest.mark.parametrize(
    ("given_boxes", "centres", "sizes"),
    [
        (NONE, torch.zeros(0, 2), torch.zeros(0, 2)),
        (_row(0, 0, 30, 40), [[15.0, 20.0]], [[37.5, 50.0]]),
        (_row(0, 0, 3, 40), [[1.5, 20.0]], [[37.5, 50.0]]),
        (_row(10, 10, 40, 20), [[25.0, 15.0]], [[37.5, 50.0]]),
    ],
)
def test_fit_aspect_three_to_four(given_boxes: Tensor, centres: object, sizes: object) -> None:
    centre, size = boxes.fit_aspect(given_boxes, aspect=3 / 4, padding=1.25)
    torch.testing.assert_close(centre, torch.as_tensor(centres))
    torch.testing.assert_close(size, torch.as_tensor(sizes))


@pytest.mark.slow
@settings(deadline=None)
@given(some_boxes(at_least=1), st.sampled_from([0.5, 0.75, 1.0, 2.0]))
def test_fit_aspect_holds_the_box_tightly(given_boxes: Tensor, aspect: float) -> None:
    centre, size = boxes.fit_aspect(given_boxes, aspect)
    extent = given_boxes[:, 2:] - given_boxes[:, :2]
    torch.testing.assert_close(size[:, 0], size[:, 1] * aspect)
    torch.testing.assert_close((size - extent).min(dim=1).values, torch.zeros(len(size)))
    torch.testing.assert_close(centre, (given_boxes[:, 2:] + given_boxes[:, :2]) / 2)


@pytest.mark.slow
@settings(deadline=None)
@given(some_boxes(), st.integers(-200, 200), st.integers(-200, 200))
def test_windows_move_with_their_boxes(given_boxes: Tensor, right: int, down: int) -> None:
    shift = torch.tensor([right, down], dtype=torch.float32)
    centre, size = boxes.fit_aspect(given_boxes, 0.75, 1.25)
    moved_centre, moved_size = boxes.fit_aspect(given_boxes + shift.repeat(2), 0.75, 1.25)
    torch.testing.assert_close(moved_centre, centre + shift)
    torch.testing.assert_close(moved_size, size)


@pytest.mark.parametrize("change", [lambda b: boxes.inflate(b, 0.5), lambda b: boxes.clip(b, 2, 2)])
def test_arguments_stay_as_they_are(change: object) -> None:
    given_boxes = _row(0, 0, 4, 4)
    change(given_boxes)  # type: ignore[operator]
    assert torch.equal(given_boxes, _row(0, 0, 4, 4))
