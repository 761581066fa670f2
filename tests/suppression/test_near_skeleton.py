"""People painted out near their skeletons: the rest of a mask stays in sight, unless the pose is likely wrong."""

import numpy as np
import pytest
import torch
from fakes import detections
from prompt_fakes import STANDING

from bmp import UserError
from bmp.ops.skeletons import around_skeleton
from bmp.registry import PAINT_RULES
from bmp.stages import PaintRule
from bmp.structures import Instances, Masks, Poses
from bmp.structures.mask_windows import MaskWindows
from bmp.suppression.near_skeleton import NearSkeleton

HEIGHT, WIDTH = 120, 160


def people(masks, keypoints):
    count = len(keypoints)
    ones = torch.ones(count, 17)
    return Instances(
        detections(*[(0, 0, WIDTH, HEIGHT)] * count),
        Poses(torch.from_numpy(keypoints), ones, ones, ones),
        Masks(masks, torch.full((count,), 0.7)),
        torch.ones(count, dtype=torch.int64),
    )


def columns(start, stop):
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, :, start:stop] = True
    return mask


def painted(mask, keypoints, **options):
    return NearSkeleton(**options).painted(people(mask, keypoints)).whole()


def test_it_is_a_rule_by_its_name():
    assert isinstance(PAINT_RULES.build({"type": "NearSkeleton"}), PaintRule)


def test_a_second_person_in_the_mask_stays_in_sight():
    (near,) = painted(columns(25, 70), STANDING[None], least=0.2)
    assert not near[:, 62:].any()
    assert near[20:50, 38:42].all()


def test_nothing_outside_the_mask_is_painted():
    mask = columns(38, 42)
    near = painted(mask, STANDING[None])
    assert near.any()
    assert not (near & ~mask).any()


def test_a_mask_is_painted_whole_where_the_pose_is_somewhere_else():
    mask = columns(100, 140)
    assert torch.equal(painted(mask, STANDING[None]), mask)


@pytest.mark.parametrize("least", [0.0, 0.35, 1.0])
def test_people_one_by_one_and_windows_as_whole_masks(least):
    masks = torch.cat([columns(25, 70), columns(33, 48), columns(100, 140), columns(0, 0)])
    poses = np.stack([STANDING, STANDING, STANDING + np.float32([60, 8]), STANDING])
    body = torch.from_numpy(np.stack([around_skeleton(pose, HEIGHT, WIDTH) for pose in poses]))
    near = masks & body
    enough = near.sum((1, 2)) >= least * masks.sum((1, 2))
    expected = torch.where(enough[:, None, None], near, masks)
    everybody = people(MaskWindows.of(masks), poses)
    assert torch.equal(NearSkeleton(least=least).painted(everybody).whole(), expected)
    assert torch.equal(everybody.masks.bits, masks)


def test_nobody():
    assert len(NearSkeleton().painted(people(columns(0, 0)[:0], STANDING[None][:0]))) == 0


@pytest.mark.parametrize("options", [dict(width=0), dict(least=1.5)])
def test_bad_options(options):
    with pytest.raises(UserError, match="NearSkeleton: expected"):
        NearSkeleton(**options)
