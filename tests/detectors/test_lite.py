"""Tests of the lite detector: signals, scores, duplicates, and the real networks on photos."""

import os

import matplotlib.cbook
import numpy as np
import PIL.Image
import pytest
import torch

from bmp.config import load_config
from bmp.detectors import lite
from bmp.detectors.lite import Candidates, LiteDetector
from bmp.errors import UserError
from bmp.models.lite.landmarks import COCO_LANDMARKS, Landmarks
from bmp.models.lite.regions import ImagePyramid
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


def people(points: np.ndarray, masks: np.ndarray, side: float = 256.0) -> Landmarks:
    """Made-up landmarks in regions whose top left corner is the image's."""
    count = len(points)
    ones = np.ones((count, 39), np.float32)
    regions = np.tile(np.array([side / 2, side / 2, side, 0], np.float32), (count, 1))
    return Landmarks(regions, points.astype(np.float32), ones, ones, ones, ones[:, 0], masks.astype(np.float32))


def test_it_is_registered():
    assert DETECTORS.get("LiteDetector") is LiteDetector


@pytest.mark.parametrize("option", [{"threshold": -0.1}, {"threshold": 1.5}, {"max_looks": -1}])
def test_options_out_of_range_are_the_users_mistake(option):
    with pytest.raises(UserError, match="LiteDetector: expected threshold"):
        LiteDetector(**option)


def test_what_boxes_say_by_themselves():
    signals = lite.shape_signals(np.array([[0, 0, 200, 100], [50, 20, 70, 60]], np.float32), 200, 100)
    assert signals["fills"] == pytest.approx([1, 0])
    assert signals["size"] == pytest.approx([np.log(1.001), np.log(np.sqrt(800 / 20_000) + 0.001)], abs=1e-5)


def test_boxes_say_which_are_parts_of_others_and_which_hold_several_people():
    boxes = np.array([[0, 0, 100, 100], [10, 10, 30, 40], [90, 0, 110, 100], [-5, 0, 100, 100]], np.float32)
    signals = lite.nesting(boxes, np.array([0.9, 0.4, 0.3, 0.2], np.float32))
    assert signals["inside"] == pytest.approx([0, 1, 0.5, 100 / 105])
    assert signals["holds"] == pytest.approx([0.4, 0, 0, 0.4])
    assert lite.nesting(boxes[:0], np.zeros(0, np.float32))["holds"].shape == (0,)


def test_a_box_holds_landmarks_and_mask_and_ends_with_the_image():
    points = np.full((2, 39, 2), 100.0)
    points[:, 0] = (60, 120)
    points[1, 1] = (-30, 500)
    masks = np.zeros((2, 256, 256))
    masks[0, 40:90, 80:150] = 1
    boxes = lite.extents(people(points, masks), 200, 300)
    assert boxes[0].tolist() == [60, 40, 150, 120]
    assert boxes[1].tolist() == [0, 100, 100, 300]


def test_entangled_people_are_less_alike_than_their_boxes():
    """Four with the same box: two of one pose and mask, one of other ones, and one that nobody looked at."""
    points = np.random.default_rng(0).uniform(20, 110, (3, 39, 2))
    points[1] = points[0]
    points[2] = points[0][::-1]
    masks = np.zeros((3, 256, 256))
    masks[:2, 20:120, 20:60] = 1
    masks[2, 20:120, 60:120] = 1
    boxes = np.repeat(np.array([[20, 20, 120, 120]], np.float32), 4, axis=0)
    looked = np.array([True, True, False, True])
    alike = lite.likeness(Candidates(boxes, {}, looked, people(points, masks)), 256, 256)
    assert alike[0, 1] == pytest.approx(1, abs=0.01)
    assert alike[0, 2] == alike[2, 3] == 1
    assert alike[0, 3] < lite.SAME
    assert (alike == alike.T).all()


def test_silhouettes_of_painted_out_people_are_told_by_keypoints_or_boxes():
    pixels = torch.full((100, 100, 3), 90, dtype=torch.uint8)
    pixels[:, :50] = 0
    points = np.full((3, 39, 2), 70.0)
    points[0, :, 0] = 20  # all on black
    points[1, COCO_LANDMARKS[:8], 0] = 20  # less than half on black
    points[2] = 500  # all outside
    boxes = np.array([[0, 0, 100, 100]] * 4 + [[10, 10, 30, 30]], np.float32)
    looked = np.array([True, True, True, False, False])
    shares = lite.painted(boxes, looked, people(points, np.zeros((3, 256, 256))), ImagePyramid.of(Image(pixels)))
    assert shares == pytest.approx([1, 8 / 17, 0, 0.5, 1])


@pytest.mark.slow
def test_a_portrait_is_one_person(detector, portrait):
    found = detector.detect([portrait])[0]
    shown = found.scores >= load_config("lite.py").min_score
    assert shown.tolist() == [True] + [False] * (len(found) - 1)  # no medal, no part of the face
    assert found.masks is None
    face = torch.tensor([[150.0, 100, 410, 380]])
    x1, y1, x2, y2 = found.boxes[0].tolist()
    assert x1 < 150
    assert y1 < 100
    assert x2 > 410
    assert y2 > 580
    assert iou(found.boxes[:1], face).item() > 0.1


@pytest.mark.slow
def test_a_painted_out_portrait_is_nobody(detector, portrait):
    from bmp.poses.lite import LitePoseEstimator
    from bmp.segmenters.lite import LiteSegmenter

    found = detector.detect([portrait])
    poses = LitePoseEstimator().estimate([portrait], found)
    segmenter = LiteSegmenter()
    mask = segmenter.segment(segmenter.open([portrait]), found, poses, poses)[0]
    painted = portrait.pixels.masked_fill(mask.bits[0, :, :, None], 0)
    left = detector.detect([Image(painted)])[0]
    assert not (iou(left.boxes[left.scores > 0.37], found[0].boxes[:1]) > 0.5).any()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 1), (301, 517), (3000, 4000)])
def test_empty_scenes_of_any_size_are_nobody(detector, size):
    noise = torch.randint(0, 256, (*size, 3), generator=torch.manual_seed(0)).byte()
    for pixels in (noise, torch.zeros_like(noise), torch.full_like(noise, 255)):
        found = detector.detect([Image(pixels)])[0]
        assert found.boxes.shape == (len(found), 4)
        assert (found.scores < 0.4).all()  # to the networks, noise is a little like a face that fills a photo


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
    skier = torch.tensor([[280.8, 44.7, 499.5, 391.4]])
    assert iou(found[0].boxes[:1], skier).item() > 0.9
    for image, people_of_image in zip(images, found, strict=True):
        assert (people_of_image.scores.diff() <= 0).all()
        assert people_of_image.scores.min() >= detector.threshold
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
    assert iou(found.boxes[:1] / 6, expected.boxes[:1]).item() > 0.95
