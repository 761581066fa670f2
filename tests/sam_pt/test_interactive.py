"""Simulated clicks on films whose right answer is plain."""

from dataclasses import dataclass, field

import pytest
import torch
from sam_pt_fakes import MadeUpSAM, RedSAM, RightTracker, mask_in, textured

from bmp.errors import UserError
from bmp.sam_pt import SAMPT, Clicks, interact
from bmp.sam_pt.engine import TrackedObjects
from bmp.sam_pt.interactive import corrected

SPEEDS = {0: (2, 1), 1: (-3, 0)}


def moving(x, y, dx, dy, width=24, height=20):
    return lambda t: (x + dx * t, y + dy * t, x + dx * t + width, y + dy * t + height)


def two(count=5):
    return textured(moving(10, 5, 2, 1), moving(70, 50, -3, 0), count=count)


def labelled(frames, *which, begins=None):
    """Frames with their true masks by id; an object is labelled from the frame on that ``begins`` has for it."""
    begins = begins or {}
    return [
        (frame, {number + 1: mask_in(frame, number) for number in which if frame.index >= begins.get(number, 0)})
        for frame in frames
    ]


def model(tracker=None, segmenter=None, **options):
    tracker = RightTracker(SPEEDS) if tracker is None else tracker
    return SAMPT(tracker, segmenter or RedSAM(), **{"refinements": 0, "agreement": False, **options})


def clicks_of(results):
    return [result.clicks.tolist() for result in results]


@pytest.mark.slow
def test_one_click_is_enough_where_points_are_followed():
    segmenter, frames = RedSAM(), two()
    results = list(interact(model(segmenter=segmenter), labelled(frames, 0, 1)))
    assert clicks_of(results) == [[1, 1], *[[0, 0]] * 4]
    for result, frame in zip(results, frames, strict=True):
        found = result.segmented
        assert found.objects.ids.tolist() == [1, 2]
        assert all(torch.equal(found.bits[row], mask_in(frame, row)) for row in (0, 1))
    assert segmenter.opened == len(frames)
    first = results[0].segmented.objects
    assert first.points[:, 0].tolist() == [[19, 14], [79, 59]]  # the first that lies deepest


def test_objects_begin_where_they_are_labelled_and_frames_without_labels_are_followed():
    frames = labelled(two(), 0, 1, begins={1: 2})
    frames[1] = frames[1][0], None
    results = list(interact(model(), frames))
    assert clicks_of(results) == [[1], [0], [0, 1], [0, 0], [0, 0]]
    assert torch.equal(results[1].segmented.bits[0], mask_in(frames[1][0], 0))
    assert [result.segmented.objects.ids.tolist() for result in results] == [[1], [1], *[[1, 2]] * 3]


def test_a_point_that_is_lost_is_clicked_again():
    lost = RightTracker({0: (9, 9)})  # beside the object after a few frames
    results = list(interact(model(lost), labelled(two(), 0)))
    assert sum(map(sum, clicks_of(results))) > 1
    assert all(torch.equal(each.segmented.bits[0], mask_in(each.segmented.frame, 0)) for each in results)


def test_who_is_no_longer_labelled_loses_what_is_wrong():
    frames = labelled(two(3), 0)
    frames[1] = frames[1][0], {}
    results = list(interact(model(), frames))
    assert clicks_of(results) == [[1], [1], [1]]  # a point, the same point away, a new one
    assert [bool(result.segmented.bits.any()) for result in results] == [True, False, True]


@dataclass
class Blunt(MadeUpSAM):
    """Is never good enough."""

    questions: list = field(default_factory=list)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clicks", "expected"),
    [
        (Clicks(per_frame=2), [[2], [2], [2]]),
        (Clicks(total=5), [[4], [1], [0]]),
        (Clicks(enough=0.01), [[1], [0], [0]]),
    ],
)
def test_clicks_are_counted(clicks, expected):
    still = textured(lambda t: (10, 5, 60, 60), count=3)
    results = list(interact(model(RightTracker({}), Blunt(), min_score=0.0), labelled(still, 0), clicks))
    assert clicks_of(results) == expected


def points(*rows):
    """An object with these points: x, y and label."""
    return TrackedObjects(
        torch.tensor([1]),
        torch.tensor([[row[:2] for row in rows]], dtype=torch.float32),
        torch.tensor([[row[2] for row in rows]], dtype=torch.int8),
        torch.ones(1, len(rows), dtype=torch.bool),
    )


def box(x1, y1, x2, y2):
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "before", "after"),
    [
        (box(0, 0, 0, 0), [(12, 12, 1), (15, 15, 0), (50, 30, 1)], [(12, 12, 1), (50, 30, 1)]),  # the negative first
        (box(0, 0, 0, 0), [(12, 12, 1), (50, 30, 1), (50, 31, 1)], [(12, 12, 1), (50, 31, 1)]),  # one at a time
        (box(10, 10, 20, 30), [(12, 12, 1), (50, 30, 0)], [(12, 12, 1), (50, 30, 0), (24, 14, 1)]),  # missing
        (box(10, 10, 50, 40), [(12, 12, 1)], [(12, 12, 1), (39, 19, 0)]),  # surplus, the larger part of it
        (box(29, 10, 60, 40), [(12, 12, 1)], [(12, 12, 1), (44, 24, 0)]),
    ],
)
def test_corrections(mask, before, after):
    one = corrected(points(*before), mask, box(10, 10, 30, 30))
    kept = one.seen[0]
    found = torch.cat([one.points[0, kept], one.labels[0, kept, None].float()], dim=1).tolist()
    assert [tuple(map(int, row)) for row in found] == after


@pytest.mark.parametrize("options", [{"enough": 0}, {"enough": 1.5}, {"per_frame": 0}, {"total": 0}])
def test_values_that_make_no_sense(options):
    with pytest.raises(UserError, match="Clicks"):
        Clicks(**options)


def test_a_tracker_that_answers_late_is_refused():
    with pytest.raises(UserError, match="answers late"):
        list(interact(model(RightTracker(SPEEDS, delay=2)), labelled(two(), 0)))
