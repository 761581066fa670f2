"""Points that belong together, and those that left."""

import math

import numpy as np
import pytest
import torch

from bmp.ops.point_motion import agreeing, similarity, transformed, within_border


def scattered(count=20, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(50, 150, (count, 2)).astype(np.float32))


def turned(points, angle=0.1, scale=1.05, shift=(3.0, -2.0)):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return transformed(points, torch.tensor([[c, -s, shift[0]], [s, c, shift[1]]]))


def check(before, after, owners=None, seen=None, **options):
    owners = torch.zeros(len(before), dtype=torch.int64) if owners is None else owners
    seen = torch.ones(len(before), dtype=torch.bool) if seen is None else seen
    options = {"side": 320, "heights": torch.full((3,), 100.0), **options}
    return agreeing(before, after, seen, owners, **options)


def test_the_edge_of_the_border_is_within():
    points = torch.tensor([[3.0, 50.0], [3.2, 50.0], [316.8, 50.0], [317.0, 50.0], [10.0, -1.0], [160.0, 99.1]])
    assert within_border(points, 100, 320).tolist() == [False, True, True, False, False, False]


def test_a_similarity_is_found_among_points_that_do_not_fit():
    before = scattered()
    after = turned(before)
    after[:6] += torch.tensor([25.0, 10.0])
    matrix = similarity(before, after, 2.0)
    assert torch.allclose(transformed(before[6:], matrix), after[6:], atol=0.1)
    assert torch.equal(matrix, similarity(before, after, 2.0))


@pytest.mark.parametrize("count", [0, 1])
def test_one_point_has_no_turn(count):
    assert similarity(scattered(count), scattered(count), 2.0) is None


def test_points_in_one_place_do_not_end_in_an_error():
    same = torch.full((5, 2), 7.0)
    matrix = similarity(same, same + 1, 2.0)
    assert matrix is None or torch.allclose(transformed(same, matrix), same + 1, atol=2.0)


def test_rigid_motion_keeps_all_and_deserters_are_not_seen():
    before = scattered()
    after = turned(before)
    assert check(before, after).all()
    after[3] += 15  # more than 5 px and 3 % of 100
    assert check(before, after).tolist() == [row != 3 for row in range(20)]
    assert check(before, after, heights=torch.tensor([1000.0])).all()


def test_limbs_may_go_twice_as_far():
    before = scattered()
    after = before + 2
    after[3] += torch.tensor([12.0, 0.0])
    loose = torch.arange(20) == 3
    assert not check(before, after)[3]
    assert check(before, after, loose=loose)[3]


def test_far_jumps_are_not_seen_by_the_size_of_the_picture():
    before, after = scattered(), scattered() + 2
    after[5] += 40
    tall = torch.tensor([10000.0])
    assert check(before, after, heights=tall).tolist() == [row != 5 for row in range(20)]
    assert check(before, after, heights=tall, side=1920).all()


def test_each_owner_moves_by_itself_and_what_was_not_seen_stays_so():
    before = scattered(40)
    owners = torch.arange(40) % 2
    after = torch.where(owners[:, None] == 0, before + 20, before - 20)
    seen = torch.arange(40) != 7
    assert torch.equal(check(before, after, owners, seen), seen)


def test_two_points_are_left_as_they_are():
    before = scattered(2)
    after = before + torch.tensor([[0.0, 0.0], [200.0, 0.0]])
    assert check(before, after).all()


def test_no_points():
    assert check(scattered(0), scattered(0)).shape == (0,)
