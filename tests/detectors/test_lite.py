"""Tests of the lite detector: anchors, tiles, decoding, merging, duplicates, and the real networks on photos."""

import os

import matplotlib.cbook
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmp.detectors import lite
from bmp.detectors.lite import LiteDetector
from bmp.errors import UserError
from bmp.models.lite.landmarks import COCO, Landmarks
from bmp.models.lite.regions import Picture
from bmp.ops.boxes import iou
from bmp.registry import DETECTORS
from bmp.structures import Image


@pytest.fixture(scope="module")
def detector() -> LiteDetector:
    try:
        return LiteDetector()
    except (UserError, ImportError) as error:
        pytest.skip(f"the lite networks cannot be had here: {error}")


def photo(path: str | os.PathLike[str]) -> Image:
    return Image(torch.from_numpy(np.array(PIL.Image.open(path).convert("RGB"))))


@pytest.fixture(scope="module")
def portrait() -> Image:
    return photo(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def row(index: int, values: list[float], score: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    rows, logits = np.zeros((2254, 12), np.float32), np.full((2254, 1), -8.0, np.float32)
    rows[index, : len(values)] = values
    logits[index] = score
    return rows, logits


def people(points: np.ndarray, masks: np.ndarray, side: float = 256.0) -> Landmarks:
    """Made-up landmarks in regions whose top left corner is the image's."""
    count = len(points)
    ones = np.ones((count, 39), np.float32)
    regions = np.tile(np.array([side / 2, side / 2, side, 0], np.float32), (count, 1))
    return Landmarks(regions, points.astype(np.float32), ones, ones, ones, ones[:, 0], masks.astype(np.float32))


def test_it_is_registered():
    assert DETECTORS.get("LiteDetector") is LiteDetector


@pytest.mark.parametrize("option", [{"threshold": -0.1}, {"threshold": 1.5}, {"max_candidates": 0}])
def test_options_out_of_range_are_the_users_mistake(option):
    with pytest.raises(UserError, match="LiteDetector: expected threshold"):
        LiteDetector(**option)


def test_anchors_are_cell_centres_from_fine_to_coarse():
    places = lite.anchors()
    assert places.shape == (2254, 2)
    assert places[:4] * 28 == pytest.approx(np.array([[0.5, 0.5], [0.5, 0.5], [1.5, 0.5], [1.5, 0.5]]))
    assert places[2 * 28] * 28 == pytest.approx([0.5, 1.5])
    assert places[1568] * 14 == pytest.approx([0.5, 0.5])
    assert places[1568 + 392 : 1568 + 392 + 7] * 7 == pytest.approx(np.array([[0.5, 0.5]] * 6 + [[1.5, 0.5]]))
    assert places[-1] * 7 == pytest.approx([6.5, 6.5])


@given(st.integers(1, 50_000), st.integers(1, 50_000))
def test_tiles_are_few_and_cover_the_image(width, height):
    wanted = lite.tiles(width, height)
    assert 2 <= len(wanted) <= 10
    low, high = wanted[:, :2] - wanted[:, 2:3] / 2, wanted[:, :2] + wanted[:, 2:3] / 2
    for windows in (slice(0, 1), slice(1, None)):
        assert (low[windows].min(axis=0) <= 0.01).all()
        assert (high[windows].max(axis=0) >= np.array([width, height]) * 0.999).all()
    xs = np.unique(wanted[1:, 0])
    assert (np.diff(xs) <= wanted[1, 2] / 2 * 1.001).all()


def test_a_row_is_read_relative_to_its_anchor():
    scores, places = lite.decode(*row(0, [12, 20, 56, 28, 0, 112, -4, 60]), mirrored=False)
    assert scores == pytest.approx([1 / (1 + np.exp(-4))])
    expected = np.array([[16 - 28, 24 - 14], [16 + 28, 24 + 14], [4, 116], [0, 64]]) / 224
    assert places[0] == pytest.approx(expected, abs=1e-6)


def test_a_mirrored_row_is_mirrored_back_and_its_corners_stay_in_order():
    plain = lite.decode(*row(777, [5, -3, 40, 30, 2, 50, 1, -20]), mirrored=False)[1][0]
    mirrored = lite.decode(*row(777, [5, -3, 40, 30, 2, 50, 1, -20]), mirrored=True)[1][0]
    assert mirrored[2:] == pytest.approx(np.stack([1 - plain[2:, 0], plain[2:, 1]], axis=1))
    assert mirrored[:2] == pytest.approx(np.array([[1 - plain[1, 0], plain[0, 1]], [1 - plain[0, 0], plain[1, 1]]]))


def test_rows_below_the_threshold_are_left_out():
    scores, places = lite.decode(*row(5, [0] * 12, score=-1.0), mirrored=False)
    assert scores.shape == (0,)
    assert places.shape == (0, 4, 2)


def test_merging_is_the_mean_weighted_by_score():
    one = torch.tensor([[0.0, 0], [10, 10], [5, 20], [5, 0]])
    scores, places = lite.merge(torch.tensor([0.2, 0.6, 0.5]), torch.stack([one, one + 1, one + 100]))
    assert scores.tolist() == pytest.approx([0.6, 0.5])
    assert torch.allclose(places[0], one + 0.75)
    assert torch.allclose(places[1], one + 100)


def test_merging_keeps_rows_without_area_and_takes_none():
    assert lite.merge(torch.tensor([0.5]), torch.zeros(1, 4, 2))[0].tolist() == [0.5]
    assert lite.merge(torch.zeros(0), torch.zeros(0, 4, 2))[1].shape == (0, 4, 2)


def test_a_box_holds_landmarks_and_mask_and_ends_with_the_image():
    points = np.full((2, 39, 2), 100.0)
    points[:, 0] = (60, 120)
    points[1, 1] = (-30, 500)
    masks = np.zeros((2, 256, 256))
    masks[0, 40:90, 80:150] = 1
    boxes = lite.extents(people(points, masks), 200, 300)
    assert boxes[0].tolist() == [60, 40, 150, 120]
    assert boxes[1].tolist() == [0, 100, 100, 300]


def test_duplicates_and_parts_of_better_people_go():
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 110, (4, 39, 2))
    points[1] = points[0] + 1  # the same pose
    masks = np.zeros((4, 256, 256))
    masks[0, 20:120, 20:120] = 1
    masks[1, 150:200, 150:200] = 1  # elsewhere
    masks[2, 30:60, 30:60] = 1  # part of the first
    points[3] += 120
    masks[3, 110:240, 110:240] = 1  # touches the first
    boxes = torch.tensor([[20.0, 20, 120, 120]] * 3 + [[110.0, 110, 240, 240]])
    assert lite.distinct(people(points, masks), boxes, 256, 256) == [0, 3]


def test_silhouettes_of_painted_out_people_are_not_credible():
    pixels = torch.full((100, 100, 3), 90, dtype=torch.uint8)
    pixels[:, :50] = 0
    points = np.full((4, 39, 2), 70.0)
    points[0, :, 0] = 20  # all on black
    points[1, COCO[:8], 0] = 20  # less than half on black
    points[2] = 500  # all outside
    found = people(points, np.zeros((4, 256, 256)))
    found.heat[3] = 0.3  # ``ones`` is shared by the columns, so flags and visibility change along
    assert lite.credible(found, Picture.of(Image(pixels))).tolist() == [False, True, False, False]


@pytest.mark.slow
def test_a_portrait_is_one_person(detector, portrait):
    found = detector.detect([portrait])[0]
    assert len(found) == 1
    assert found.masks is None
    face = torch.tensor([[150.0, 100, 410, 380]])
    x1, y1, x2, y2 = found.boxes[0].tolist()
    assert x1 < 150
    assert y1 < 100
    assert x2 > 410
    assert y2 == 600
    assert iou(found.boxes, face).item() > 0.1


@pytest.mark.slow
def test_a_painted_out_portrait_is_nobody(detector, portrait):
    from bmp.poses.lite import LitePoseEstimator
    from bmp.segmenters.lite import LiteSegmenter

    found = detector.detect([portrait])
    poses = LitePoseEstimator().estimate([portrait], found)
    segmenter = LiteSegmenter()
    mask = segmenter.segment(segmenter.open([portrait]), found, poses, poses)[0]
    painted = portrait.pixels.masked_fill(mask.bits[0, :, :, None], 0)
    assert len(detector.detect([Image(painted)])[0]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 1), (301, 517), (3000, 4000)])
def test_empty_scenes_of_any_size_are_nobody(detector, size):
    noise = torch.randint(0, 256, (*size, 3), generator=torch.manual_seed(0)).byte()
    for pixels in (noise, torch.zeros_like(noise), torch.full_like(noise, 255)):
        found = detector.detect([Image(pixels)])[0]
        assert len(found) == 0
        assert found.boxes.shape == (0, 4)


@pytest.mark.slow
def test_no_images_no_answers(detector):
    assert detector.detect([]) == []


@pytest.mark.slow
def test_photos(detector, shared, portrait):
    """On COCO photos: at least as many labelled people as measured, best first, inside the image, repeatably."""
    names = ("000000000785", "000000040083", "000000196141", "000000197388")
    images = [photo(shared / "data" / "coco_mini" / f"{name}.jpg") for name in names]
    found = detector.detect(images)
    assert [len(people) >= least for people, least in zip(found, (1, 2, 3, 4), strict=True)] == [True] * 4
    assert len(found[0]) == 1
    skier = torch.tensor([[280.8, 44.7, 499.5, 391.4]])
    assert iou(found[0].boxes, skier).item() > 0.9
    for image, people_of_image in zip(images, found, strict=True):
        assert (people_of_image.scores.diff() <= 0).all()
        assert people_of_image.scores.min() > 0.1
        assert (people_of_image.boxes >= 0).all()
        assert (people_of_image.boxes <= torch.tensor([image.width, image.height] * 2)).all()
    again = detector.detect([images[2], portrait])
    assert torch.equal(again[0].boxes, found[2].boxes)
    assert torch.equal(again[0].scores, found[2].scores)


@pytest.mark.slow
def test_large_photos_give_the_same_people(detector, shared):
    image = PIL.Image.open(shared / "data" / "coco_mini" / "000000000785.jpg").convert("RGB")
    large = image.resize((image.width * 6, image.height * 6), PIL.Image.Resampling.BICUBIC)
    found, expected = (detector.detect([Image(torch.from_numpy(np.array(picture)))])[0] for picture in (large, image))
    assert len(found) == len(expected) == 1
    assert iou(found.boxes / 6, expected.boxes).item() > 0.95
