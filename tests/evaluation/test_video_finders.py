"""Finders of people and followers of objects, on films whose right answer is plain."""

import numpy as np
import pytest
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll
from sam_pt_fakes import RedSAM, RightTracker, mask_in, textured
from track_fakes import FakeTracker, film

from bmp.datasets.videos import FrameLabels, boxes_around
from bmp.evaluation.video_finders import by_byte_track, by_frames_alone, by_loop, by_points
from bmp.loop import Loop
from bmp.sam_pt import SAMPT
from bmp.segmenters.tracked import TrackedKeypoints
from bmp.video_loop import VideoLoop


@pytest.fixture
def loop():
    return Loop(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())


def _left(t):
    return 4 + t, 10, 14 + t, 30


def _jumping(t):
    return (44, 12, 54, 36) if t < 3 else (30, 2, 40, 9)


def _ids(found):
    return [one.ids.tolist() for one in found]


@pytest.mark.slow
def test_the_loop_over_videos_is_a_finder(loop):
    video = VideoLoop(FakeTracker({0: (1, 0)}), TrackedKeypoints(), keyframe_every=3)
    found = list(by_loop(loop, video)(film(_left, count=5)))
    assert _ids(found) == [[1]] * 5
    assert [one.masks.sum() for one in found] == [200] * 5
    assert all(one.scores.dtype == np.float64 for one in found)


def test_frames_alone_keep_ids_while_masks_overlap(loop):
    found = list(by_frames_alone(loop)(film(_left, _jumping, count=6)))
    first, second = found[0].ids.tolist()
    assert _ids(found)[:3] == [[first, second]] * 3
    later = found[3].ids.tolist()
    assert set(later) == {first, 3}, "who jumps is somebody else"
    assert _ids(found)[3:] == [later] * 3
    assert _ids(by_frames_alone(loop)(film(lambda t: None, count=2))) == [[], []]


def test_byte_track_keeps_ids_by_boxes(loop):
    pytest.importorskip("trackers", reason="the extra dev")
    found = list(by_byte_track(loop, 25.0)(film(_left, count=6)))
    assert len({one.ids.tolist()[0] for one in found[2:]}) == 1
    for one in found[2:]:
        assert one.masks.sum() == 200


def _labels(frame, keypoints=None):
    masks = torch.stack([mask_in(frame, number) for number in (0, 1)]).numpy()
    return FrameLabels(np.array([3, 8]), masks, boxes_around(masks), keypoints=keypoints)


def _moving(x, y, dx, dy):
    return lambda t: (x + dx * t, y + dy * t, x + dx * t + 24, y + dy * t + 20)


@pytest.mark.parametrize("joints", [False, True])
def test_objects_are_followed_from_their_first_masks(joints):
    frames = textured(_moving(10, 5, 2, 1), _moving(70, 50, -3, 0), count=4)
    points = np.zeros((2, 3, 3), np.float32)
    points[:, 0] = (20, 12, 2), (80, 60, 2)
    points[:, 1] = (1, 1, 1)  # hidden: nothing to follow
    sam_pt = SAMPT(RightTracker({0: (2, 1), 1: (-3, 0)}), RedSAM(), refinements=1)
    found = list(by_points(sam_pt, joints)(frames[1:], _labels(frames[1], points)))
    assert _ids(found) == [[3, 8]] * 3
    for one, frame in zip(found, frames[1:], strict=True):
        for row in (0, 1):
            np.testing.assert_array_equal(one.masks[row], mask_in(frame, row))
