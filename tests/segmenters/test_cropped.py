"""One crop a person, around a segmenter whose answer is plain."""

import pytest
import torch
from fakes import FakeSegmenter, detections
from prompt_fakes import PosePrompter, crowd, picture

from bmp.errors import UserError
from bmp.registry import SEGMENTERS
from bmp.segmenters.cropped import CroppedSegmenter
from bmp.structures import Detections, Masks, Poses


def people_of(*boxes):
    """People in boxes, with a keypoint in two corners and one far away."""
    people = detections(*boxes)
    keypoints = torch.cat((people.boxes.reshape(-1, 2, 2), torch.full((len(people), 1, 2), 500.0)), dim=1)
    certain = torch.full((len(people), 3), 0.9)
    return people, Poses(keypoints, certain, certain, certain, certain)


class Recorder:
    """Marks the top left pixel of each crop, and remembers what it was shown."""

    def __init__(self, prompter=None):
        self.prompter = prompter or PosePrompter(boxes=True)
        self.crops, self.people, self.poses, self.others, self.batches = [], [], [], [], []

    def open(self, images):
        self.crops += images
        self.batches.append(len(images))
        return list(images)

    def segment(self, views, people, poses, others):
        self.people += people
        self.poses += poses
        self.others += others
        return [self._one(*image) for image in zip(views, people, poses, others, strict=True)]

    def _one(self, image, people, poses, others):
        bits = torch.zeros(1, image.height, image.width, dtype=torch.bool)
        bits[0, 0, 0] = True
        return Masks(bits, torch.tensor([image.width / 1000]), self.prompter.prompts(people, poses, others))


def segment(segmenter, image, people, poses, others=None):
    others = Poses.empty(poses.keypoints.shape[1]) if others is None else others
    (masks,) = segmenter.segment(segmenter.open([image]), [people], [poses], [others])
    return masks


def test_the_crop_is_one_and_a_half_times_the_box_and_ends_at_the_image():
    image = picture(100, 120)
    inner = Recorder()
    masks = segment(CroppedSegmenter(inner), image, *people_of((40, 20, 60, 60), (0, 80, 10, 100), (70.5, 10, 71, 10)))
    windows = [(35, 10, 65, 70), (0, 75, 13, 100), (70, 10, 72, 11)]
    for row, (crop, (x1, y1, x2, y2)) in enumerate(zip(inner.crops, windows, strict=True)):
        assert torch.equal(crop.pixels, image.pixels[y1:y2, x1:x2])
        assert masks.bits[row].nonzero().tolist() == [[y1, x1]]
        assert masks.scores[row] == pytest.approx((x2 - x1) / 1000)


def test_a_box_outside_the_image_still_has_a_pixel():
    masks = segment(CroppedSegmenter(Recorder()), picture(20, 30), *people_of((-50, 5, -20, 9), (40, 30, 50, 60)))
    assert [row.nonzero().tolist() for row in masks.bits] == [[[4, 0]], [[19, 29]]]


def test_the_crop_has_coordinates_of_its_own_and_the_prompts_come_back():
    people, poses = people_of((40, 20, 60, 60), (4, 4, 8, 8))
    inner = Recorder()
    masks = segment(CroppedSegmenter(inner), picture(100, 120), people, poses)
    assert inner.people[0].boxes.tolist() == [[5, 10, 25, 50]]
    assert inner.poses[0].keypoints[0, :2].tolist() == [[5, 10], [25, 50]]
    assert torch.equal(masks.prompts.points, poses.keypoints)
    assert torch.equal(masks.prompts.boxes, people.boxes)


def test_keypoints_outside_the_crop_do_not_count():
    inner = Recorder()
    segment(CroppedSegmenter(inner), picture(100, 120), *people_of((40, 20, 60, 60)))
    for name in ("scores", "visibility", "presence", "expected_oks"):
        assert getattr(inner.poses[0], name)[0].tolist() == pytest.approx([0.9, 0.9, 0])


def test_everybody_else_is_another():
    people, poses = people_of((40, 20, 60, 60), (4, 4, 8, 8), (9, 9, 30, 30))
    _, others = people_of((50, 50, 70, 70))
    inner = Recorder()
    segment(CroppedSegmenter(inner), picture(100, 120), people, poses, others)
    corner = torch.tensor([35.0, 10.0])
    expected = torch.cat((poses.keypoints[1:], others.keypoints))
    assert torch.equal(inner.others[0].keypoints + corner, expected)
    assert [len(rest) for rest in inner.others] == [3, 3, 3]


def test_crops_come_in_batches_and_batches_change_nothing():
    people, poses = crowd(5, 60, 70)
    inner = Recorder()
    few = segment(CroppedSegmenter(inner, batch=2), picture(60, 70), people, poses)
    assert inner.batches == [2, 2, 1]
    many = segment(CroppedSegmenter(Recorder(), batch=9), picture(60, 70), people, poses)
    assert torch.equal(few.bits, many.bits)
    assert torch.equal(few.prompts.points, many.prompts.points)


def test_nobody():
    masks = segment(CroppedSegmenter(Recorder()), picture(20, 30), Detections.empty(), Poses.empty(17))
    assert masks.bits.shape == (0, 20, 30)
    assert CroppedSegmenter(Recorder()).segment([], [], [], []) == []


def test_segmenters_without_prompts_fit_too():
    people, poses = people_of((40, 20, 60, 60))
    masks = segment(CroppedSegmenter(FakeSegmenter()), picture(100, 120), people, poses)
    assert masks.prompts is None
    assert masks.bits[0, 20:60, 40:60].all()


def test_numbers_that_make_no_sense():
    with pytest.raises(UserError, match=r"scale: expected at least 1, got 0\.5"):
        CroppedSegmenter(Recorder(), scale=0.5)
    with pytest.raises(UserError, match="batch: expected at least 1, got 0"):
        CroppedSegmenter(Recorder(), batch=0)


def test_it_is_registered():
    assert SEGMENTERS.get("CroppedSegmenter") is CroppedSegmenter
