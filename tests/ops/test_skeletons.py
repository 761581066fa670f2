"""The neighbourhood of a skeleton: it holds the keypoints, and goes where the person goes."""

import numpy as np
from prompt_fakes import STANDING

from bmp.ops.skeletons import around_skeleton

HEIGHT, WIDTH = 120, 160


def test_every_keypoint_is_near_the_skeleton_and_far_pixels_are_not():
    body = around_skeleton(STANDING, HEIGHT, WIDTH)
    for x, y in STANDING.astype(int):
        assert body[y, x]
    assert not body[:, 70:].any()
    assert not body[115:].any()


def test_it_moves_and_grows_with_the_person():
    body = around_skeleton(STANDING, HEIGHT, WIDTH)
    moved = around_skeleton(STANDING + np.float32([30, 5]), HEIGHT, WIDTH)
    assert np.array_equal(moved[5:, 30:], body[:-5, :-30])
    assert around_skeleton(STANDING, HEIGHT, WIDTH, 1.5).sum() > 1.2 * body.sum()


def test_keypoints_far_outside_are_no_trouble():
    assert around_skeleton(np.full((17, 2), 1e9, np.float32), HEIGHT, WIDTH).shape == (HEIGHT, WIDTH)
