"""How people move with their points: shifts, turns, points that stay behind, and people of whom nothing is seen."""

import math
from dataclasses import replace

import pytest
import torch
from tracking_scene import IMAGE, A, B, tracked

from bmp.label_sets import COCO_KEYPOINTS
from bmp.ops.query_points import NEGATIVE
from bmp.tracking.motion import COASTING, follow, moved_masks, transformed_each
from bmp.tracking.table import with_points


def people():
    table = tracked(A, B)
    return with_points(replace(table, age=table.age + 5), torch.zeros(60, 100, dtype=torch.bool), 16, (0,))


def arrived(table, matrices):
    return transformed_each(table.points, matrices)


def turned(degrees, scale=1.0, shift=(0.0, 0.0), count=2):
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return torch.tensor([[cos, -sin, shift[0]], [sin, cos, shift[1]]]).repeat(count, 1, 1)


@pytest.mark.parametrize("matrix", [turned(0, shift=(2.5, -1.25)), turned(4, 1.03, (1.0, 2.0))])
def test_everything_moves_as_the_points_do(matrix):
    table = people()
    after = follow(table, arrived(table, matrix), table.seen, COCO_KEYPOINTS, IMAGE)
    assert torch.equal(after.seen, table.seen)
    assert torch.allclose(
        after.instances.poses.keypoints, transformed_each(table.instances.poses.keypoints, matrix), atol=0.05
    )
    assert torch.allclose(after.motion, matrix, atol=0.02)
    boxes = after.instances.detections.boxes
    before = table.instances.detections.boxes
    centres = (before[:, :2] + before[:, 2:]) / 2
    assert torch.allclose(
        (boxes[:, :2] + boxes[:, 2:]) / 2, transformed_each(centres[:, None], matrix)[:, 0], atol=0.05
    )
    assert after.ids.tolist() == table.ids.tolist()


def test_points_that_stay_behind_are_not_seen_and_are_carried():
    table = people()
    matrix = turned(0, shift=(12.0, 0.0))
    found = arrived(table, matrix)
    row = int((table.kinds[0] >= 0).nonzero()[0])
    found[0, row] = table.points[0, row]
    joint = int(table.kinds[0, row])
    after = follow(table, found, table.seen, COCO_KEYPOINTS, IMAGE)
    assert not after.seen[0, row]
    assert torch.allclose(after.points[0, row], table.points[0, row] + torch.tensor([12.0, 0.0]), atol=0.05)
    assert after.instances.poses.visibility[0, joint] == 0
    assert torch.equal(after.seen[1], table.seen[1])


def test_a_point_beside_a_person_may_move_otherwise():
    table = people()
    found = arrived(table, turned(0, shift=(12.0, 0.0)))
    beside = table.kinds == NEGATIVE
    found[beside] = table.points[beside]
    after = follow(table, found, table.seen, COCO_KEYPOINTS, IMAGE)
    assert torch.equal(after.seen, table.seen)
    assert torch.equal(after.points[beside], table.points[beside])


def test_who_cannot_be_seen_goes_on_for_a_while():
    table = people()
    table = replace(table, velocity=torch.tensor([[2.0, 1.0], [0.0, 0.0]]))
    nothing = torch.zeros_like(table.seen)
    after = follow(table, table.points, nothing, COCO_KEYPOINTS, IMAGE)
    shift = after.instances.poses.keypoints - table.instances.poses.keypoints
    assert torch.allclose(shift[0], torch.tensor([2.0, 1.0]))
    assert not shift[1].any()
    assert torch.equal(after.velocity, table.velocity)
    late = replace(table, missed=torch.tensor([COASTING, 0]))
    after = follow(late, table.points, nothing, COCO_KEYPOINTS, IMAGE)
    assert torch.equal(after.instances.poses.keypoints, table.instances.poses.keypoints)


def test_the_velocity_is_smoothed_but_for_the_first_step():
    table = people()
    one = follow(table, arrived(table, turned(0, shift=(4.0, 0.0))), table.seen, COCO_KEYPOINTS, IMAGE)
    assert torch.allclose(one.velocity, torch.tensor([2.0, 0.0]).expand(2, 2), atol=0.01)
    young = replace(table, age=torch.full_like(table.age, 2))
    one = follow(young, arrived(table, turned(0, shift=(4.0, 0.0))), table.seen, COCO_KEYPOINTS, IMAGE)
    assert torch.allclose(one.velocity, torch.tensor([4.0, 0.0]).expand(2, 2), atol=0.01)


def test_half_pixels_add_up_in_moved_masks():
    table = people()
    for _ in range(4):
        table = follow(table, arrived(table, turned(0, shift=(0.5, 0.25))), table.seen, COCO_KEYPOINTS, IMAGE)
    expected = torch.zeros_like(table.drawn)
    expected[:, 1:, 2:] = table.drawn[:, :-1, :-2]
    assert torch.equal(moved_masks(table), expected)


def test_a_mask_that_leaves_the_frame_is_cut_and_then_empty():
    table = people()
    gone = replace(
        table, motion=torch.stack([turned(0, shift=(-10.0, 0.0), count=1)[0], turned(0, shift=(500.0, 0.0))[0]])
    )
    bits = moved_masks(gone)
    assert bits.sum(dim=(1, 2)).tolist() == [15 * 40, 0]


def test_nobody():
    nobody = people()[:0]
    assert len(follow(nobody, nobody.points, nobody.seen, COCO_KEYPOINTS, IMAGE)) == 0
    assert moved_masks(nobody).shape == (0, 60, 100)
