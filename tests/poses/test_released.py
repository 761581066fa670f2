"""What the release does to masks before its pose network sees them, by hand."""

import pytest
import torch
from fakes import FakePose, scene

from bmp.poses.released import FilledContours
from bmp.registry import POSES
from bmp.structures import Detections


@pytest.fixture
def pose():
    return FilledContours(FakePose())


def _seen(pose, *masks):
    bits = torch.stack(masks) if masks else torch.zeros(0, 48, 64, dtype=torch.bool)
    boxes = torch.tensor([[0.0, 0.0, 64.0, 48.0]]).expand(len(bits), -1)
    people = Detections(boxes, torch.ones(len(bits)), bits)
    before = bits.clone()
    (poses,) = pose.estimate([scene()], [people])
    assert len(poses) == len(bits)
    assert torch.equal(people.masks, before)
    ((shown,),) = pose.pose.calls
    assert torch.equal(shown.boxes, people.boxes)
    return shown.masks


def _mask(*rectangles):
    mask = torch.zeros(48, 64, dtype=torch.bool)
    for x1, y1, x2, y2 in rectangles:
        mask[y1:y2, x1:x2] = True
    return mask


def test_holes_vanish_and_separate_parts_stay(pose):
    ring = _mask((5, 5, 25, 25), (40, 30, 50, 40))
    ring[10:20, 10:20] = False
    (shown,) = _seen(pose, ring)
    assert torch.equal(shown, _mask((5, 5, 25, 25), (40, 30, 50, 40)))


def test_somebody_in_the_hole_belongs_to_the_ring(pose):
    ring = _mask((5, 5, 25, 25))
    ring[8:22, 8:22] = False
    ring |= _mask((13, 13, 17, 17))
    (shown,) = _seen(pose, ring)
    assert torch.equal(shown, _mask((5, 5, 25, 25)))


def test_thin_masks_are_none(pose):
    assert not _seen(pose, _mask((3, 3, 4, 4)), _mask((3, 3, 30, 4))).any()


def test_nobody_and_no_masks(pose):
    assert _seen(pose).shape == (0, 48, 64)
    boxes = Detections(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.ones(1))
    pose.estimate([scene()], [boxes])
    assert pose.pose.calls[-1][0].masks is None


def test_a_config_names_it():
    built = POSES.build({"type": "FilledContours", "pose": FakePose()})
    assert len(built.keypoints) == 17
