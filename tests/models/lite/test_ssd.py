"""Tests of the box network: anchors, windows, decoding, boxes that a window cuts off, merging."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmp.models.lite import ssd
from bmp.models.lite.regions import ImagePyramid
from bmp.structures import Image


def test_anchors_go_from_fine_to_coarse():
    boxes = ssd.anchors()
    assert boxes.shape == (1917, 4)
    assert boxes[0].tolist() == pytest.approx([0.5 / 19, 0.5 / 19, 0.1, 0.1])
    assert boxes[1, 2:].tolist() == pytest.approx([0.2 * 2**0.5, 0.2 / 2**0.5])
    assert boxes[3, :2].tolist() == pytest.approx([1.5 / 19, 0.5 / 19])
    assert boxes[3 * 19**2 + 5, 2:].tolist() == pytest.approx([(0.35 * 0.5) ** 0.5] * 2)
    assert boxes[-1].tolist() == pytest.approx([0.5, 0.5, 0.95**0.5, 0.95**0.5])


def test_a_row_is_read_relative_to_its_anchor():
    offsets, logits = np.zeros((1917, 4), np.float32), np.full((1917, 24), -9, np.float32)
    offsets[1911] = [1, -2, 5 * np.log(0.5), 0]  # y, x, height, width
    logits[1911, ssd.PERSON] = 2
    logits[7, 3] = 9  # another class
    boxes, scores = ssd.decode_boxes(offsets, logits, 0.5)
    x, y, width, height = ssd.anchors()[1911]
    centre = np.array([x - 0.2 * width, y + 0.1 * height])
    half = np.array([width, height / 2]) / 2
    assert scores == pytest.approx([1 / (1 + np.exp(-2))])
    assert boxes[0] == pytest.approx(np.concatenate([centre - half, centre + half]), abs=1e-6)


def test_nothing_found_is_no_rows():
    boxes, scores = ssd.decode_boxes(np.zeros((1917, 4), np.float32), np.full((1917, 24), -9, np.float32), 0.05)
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)
    boxes, scores = ssd.merge(boxes, scores)
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


@given(st.integers(1, 50_000), st.integers(1, 50_000))
def test_windows_are_few_and_cover_the_image(width, height):
    wanted = ssd.windows(width, height)
    assert wanted[0].tolist() == [0, 0, width, height]
    assert 1 <= len(wanted) <= 9
    assert (wanted[:, :2] >= 0).all()
    assert (wanted[:, 2:] <= np.array([width, height]) * (1 + 1e-6)).all()
    if len(wanted) > 1:
        parts = wanted[1:, [0, 2]] if width >= height else wanted[1:, [1, 3]]
        assert parts[0, 0] == 0
        assert parts[-1, 1] == pytest.approx(max(width, height))
        assert (parts[1:, 0] <= parts[:-1, 1] * (1 + 1e-6)).all()


def test_windows_of_a_photo_are_its_squares():
    assert ssd.windows(640, 480).tolist() == [[0, 0, 640, 480], [0, 0, 480, 480], [160, 0, 640, 480]]
    assert ssd.windows(480, 640)[1:].tolist() == [[0, 0, 480, 480], [0, 160, 480, 640]]
    assert len(ssd.windows(500, 480)) == 1


def test_boxes_that_end_with_the_window_but_not_with_the_image_are_cut_off():
    window = np.array([0, 0, 100, 100], np.float32)
    boxes = np.array([[0, 0, 50, 100], [40, 10, 99, 90], [40, 10, 90, 90]], np.float32)
    assert ssd.cut_off(boxes, window, 200, 100).tolist() == [False, True, False]
    assert ssd.cut_off(boxes, window, 100, 100).tolist() == [False, False, False]
    assert ssd.cut_off(boxes, window, 200, 200).tolist() == [True, True, False]


def test_merging_averages_what_hardly_differs_and_drops_what_is_the_same():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 90], [0, 0, 100, 60], [200, 0, 300, 100]], np.float32)
    merged, scores = ssd.merge(boxes, np.array([0.6, 0.2, 0.5, 0.9], np.float32))
    assert scores.tolist() == pytest.approx([0.9, 0.6])
    assert merged[0].tolist() == [200, 0, 300, 100]
    assert merged[1].tolist() == pytest.approx([0, 0, 100, (60 + 18) / 0.8])


@pytest.mark.parametrize(
    ("shares", "scores", "expected"),
    [
        ([], [], False),
        ([0.5], [0.15], False),
        ([0.5], [0.6], True),
        ([0.5, 0.05], [0.6, 0.3], False),
        ([0.5, 0.05, 0.2], [0.6, 0.1, 0.3], True),
    ],
)
def test_an_image_of_somebody_large_and_nobody_small_leaves_no_doubt(shares, scores, expected):
    boxes = np.array([[0, 0, 200 * share, 100] for share in shares], np.float32).reshape(-1, 4)
    assert ssd.large(boxes, np.array(scores, np.float32), 200 * 100) is expected


@pytest.mark.parametrize(("scale", "looks"), [(0, 1), (-10, 3)])
def test_windows_are_looked_at_only_where_the_whole_image_leaves_doubt(scale, looks):
    """The network finds the person of one anchor, large or, with a negative logarithm of its size, small."""
    seen = []

    def network(crop: np.ndarray) -> list[np.ndarray]:
        seen.append(crop)
        offsets, logits = np.zeros((1917, 4), np.float32), np.full((1917, 24), -9, np.float32)
        offsets[-1, 2:] = scale
        logits[-1, ssd.PERSON] = 2
        return [offsets, logits]

    boxes = object.__new__(ssd.BoxNetwork)
    boxes._model = network
    found, scores = boxes(ImagePyramid.of(Image(torch.zeros(480, 640, 3, dtype=torch.uint8))), 0.05)
    assert len(seen) == looks
    assert (found >= 0).all()
    assert (found <= [640, 480, 640, 480]).all()
    assert scores.max() == pytest.approx(1 / (1 + np.exp(-2)))


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(301, 517), (40, 700), (3000, 4000), (1, 1), (1, 900)])
def test_a_stretched_window_shows_the_right_half(height, width):
    pixels = torch.zeros(height, width, 3, dtype=torch.uint8)
    pixels[:, width // 2 :] = 255
    picture = ImagePyramid.of(Image(pixels))
    crop = picture.stretched(np.array([0, 0, width, height], np.float32), 300)
    assert crop.shape == (300, 300, 3)
    if width > 1:
        assert crop[:, 155:].mean() > 250
        assert crop[:, :145].mean() < 5
