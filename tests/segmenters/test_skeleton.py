"""Masks cut to the skeleton: what is far from it goes, what a wrong pose would leave does not."""

import numpy as np
import pytest
import torch
from fakes import detections
from prompt_fakes import NOBODY, BlobSegmenter, crowd, picture

from bmp import UserError
from bmp.segmenters.skeleton import SkeletonMasks, around_skeleton
from bmp.structures import Detections, Image, Poses

HEIGHT, WIDTH = 120, 160
STANDING = np.array(
    [
        *([40, 12], [42, 10], [38, 10], [44, 12], [36, 12]),
        *([48, 25], [32, 25], [50, 40], [30, 40], [50, 54], [30, 54]),
        *([46, 55], [34, 55], [46, 78], [34, 78], [46, 100], [34, 100]),
    ],
    dtype=np.float32,
)


def segment(masks, keypoints, **options):
    image = Image(torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8))
    count = len(masks)
    people = Detections(torch.tensor([[0.0, 0, WIDTH, HEIGHT]] * count), torch.full((count,), 0.7), masks)
    ones = torch.ones(count, 17)
    segmenter = SkeletonMasks(**options)
    (cut,) = segmenter.segment(
        segmenter.open([image]), [people], [Poses(torch.from_numpy(keypoints), ones, ones, ones)], [Poses.empty(17)]
    )
    return cut


def columns(start, stop):
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, :, start:stop] = True
    return mask


def test_every_keypoint_is_near_the_skeleton_and_far_pixels_are_not():
    body = around_skeleton(STANDING, HEIGHT, WIDTH)
    for x, y in STANDING.astype(int):
        assert body[y, x]
    assert not body[:, 70:].any()
    assert not body[115:].any()


def test_a_second_person_beside_the_skeleton_goes():
    cut = segment(columns(25, 70), STANDING[None], least=0.2)
    assert not cut.bits[0, :, 62:].any()
    assert cut.bits[0, 20:50, 38:42].all()
    assert cut.scores.tolist() == pytest.approx([0.7])


def test_nothing_is_added():
    mask = columns(38, 42)
    assert not (segment(mask, STANDING[None]).bits & ~mask).any()


def test_a_pose_somewhere_else_changes_nothing():
    mask = columns(100, 140)
    assert torch.equal(segment(mask, STANDING[None]).bits, mask)


def test_it_moves_and_grows_with_the_person():
    body = around_skeleton(STANDING, HEIGHT, WIDTH)
    moved = around_skeleton(STANDING + np.float32([30, 5]), HEIGHT, WIDTH)
    assert np.array_equal(moved[5:, 30:], body[:-5, :-30])
    assert around_skeleton(STANDING, HEIGHT, WIDTH, 1.5).sum() > 1.2 * body.sum()


def test_any_segmenters_masks_can_be_cut():
    image, (people, poses) = picture(HEIGHT, WIDTH), crowd(3, HEIGHT, WIDTH)
    blobs = BlobSegmenter()
    (whole,) = blobs.segment(blobs.open([image]), [people], [poses], [NOBODY])
    cutter = SkeletonMasks(segmenter=blobs, least=0)
    (cut,) = cutter.segment(cutter.open([image]), [people], [poses], [NOBODY])
    for row, keypoints in enumerate(poses.keypoints.numpy()):
        body = torch.from_numpy(around_skeleton(keypoints, HEIGHT, WIDTH))
        assert torch.equal(cut.bits[row], whole.bits[row] & body)
    assert torch.equal(cut.scores, whole.scores)
    assert torch.equal(cut.prompts.points, whole.prompts.points)


def test_keypoints_far_outside_are_no_trouble():
    assert around_skeleton(np.full((17, 2), 1e9, np.float32), HEIGHT, WIDTH).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("options", [dict(width=0), dict(least=1.5)])
def test_bad_options(options):
    with pytest.raises(UserError, match="SkeletonMasks: expected"):
        SkeletonMasks(**options)


def test_boxes_alone_are_refused():
    image = Image(torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match="a detector that makes masks"):
        SkeletonMasks().segment([image], [detections((0, 0, 6, 4))], [Poses.empty(17)], [Poses.empty(17)])


def test_other_keypoints_are_refused():
    image = Image(torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="COCO's 17 keypoints first, got 5"):
        SkeletonMasks().segment([image], [Detections.empty()], [Poses.empty(5)], [Poses.empty(5)])
