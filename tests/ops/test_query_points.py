"""Points inside and beside a mask."""

import numpy as np
import pytest
import torch

from bmp.ops.query_points import (
    NEGATIVE,
    SURFACE,
    central,
    choose_points,
    corner_points,
    diameter,
    distances_between,
    k_medoids,
    object_points,
    person_points,
    spread,
)

METHODS = ["random", "k-medoids", "shi-tomasi", "mixed"]


def noise(height=60, width=80, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def blob(height=60, width=80):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows - 30) / 20) ** 2 + ((columns - 35) / 12) ** 2 <= 1


def at(mask, points):
    """The mask's values at the points, which are whole numbers."""
    assert torch.equal(points, points.round())
    columns, rows = points.long().unbind(1)
    return mask[rows, columns]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [0, 1, 8, 16])
def test_points_lie_in_the_mask_and_come_again_with_the_same_generator(method, count):
    mask = blob()
    points = choose_points(method, noise(), mask, count, np.random.default_rng(3))
    assert points.shape == (count, 2)
    assert points.dtype == torch.float32
    assert at(mask, points).all()
    assert torch.equal(points, choose_points(method, noise(), mask, count, np.random.default_rng(3)))
    if method != "mixed":  # whose three parts may meet
        assert len(points.unique(dim=0)) == count


@pytest.mark.parametrize("method", METHODS)
def test_a_mask_without_pixels_gives_points_in_the_corner(method):
    mask = torch.zeros(60, 80, dtype=torch.bool)
    assert choose_points(method, noise(), mask, 3, np.random.default_rng(0)).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("method", ["random", "k-medoids"])
def test_few_pixels_come_again_from_the_first_row_on(method):
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[2, 3:5] = mask[3, 3] = True
    points = choose_points(method, noise(), mask, 5, np.random.default_rng(0))
    assert points.tolist() == [[3, 2], [4, 2], [3, 3], [3, 2], [4, 2]]


@pytest.mark.slow
def test_more_pixels_than_medoids_are_looked_for_among():
    points = choose_points("k-medoids", noise(), torch.ones(60, 80, dtype=torch.bool), 4, np.random.default_rng(0))
    # One near the middle of each quarter of the longer side, or of each corner.
    assert points.std(dim=0)[0] > 10


@pytest.mark.slow
def test_corners_come_before_what_stands_in_for_missing_ones():
    flat = torch.zeros(60, 80, 3, dtype=torch.uint8)
    flat[20:40, 30:50] = 200  # four corners
    mask = torch.ones(60, 80, dtype=torch.bool)
    points = corner_points(flat, mask, 8, np.random.default_rng(0))
    corners = torch.cartesian_prod(torch.tensor([30.0, 49.0]), torch.tensor([20.0, 39.0]))
    assert torch.cdist(points[:4], corners).min(dim=0).values.max() <= 1.5
    assert len(points) == 8
    assert torch.cdist(points[4:], corners).min() > 1.5


def test_objects_have_positives_first_and_negatives_outside():
    mask = blob()
    points, labels = object_points(noise(), mask, np.random.default_rng(0), positives=5, negatives=3)
    assert labels.tolist() == [1] * 5 + [0] * 3
    assert at(mask, points).tolist() == [True] * 5 + [False] * 3


def test_medoids_of_two_heaps_are_their_middles():
    heap = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)
    points = np.concatenate([heap, heap + 50])
    for start in (central, spread):
        distances = distances_between(points)
        found = k_medoids(distances, start(distances, 2))
        assert sorted(points[found].tolist()) == [[2, 2], [52, 52]]


def test_diameter_is_the_diagonal_from_pixel_to_pixel():
    mask = torch.zeros(20, 20, dtype=torch.bool)
    assert diameter(mask) == 0
    mask[4, 3] = True
    assert diameter(mask) == 0
    mask[8, 6] = True
    assert diameter(mask) == 5


class TestPerson:
    JOINTS = torch.tensor([[35.0, 15.0], [35.5, 30.9], [30.0, 50.0], [60.0, 30.0], [48.5, 30.0], [-5.0, 900.0]])

    def points(self, mask=None, others=None, visible=None, **options):
        mask = blob() if mask is None else mask
        others = torch.zeros_like(mask) if others is None else others
        visible = torch.ones(len(self.JOINTS), dtype=torch.bool) if visible is None else visible
        return person_points(mask, others, self.JOINTS, visible, np.random.default_rng(0), **options)

    def test_joints_in_or_near_the_mask_then_its_surface_then_one_beside_it(self):
        mask = blob()
        visible = torch.tensor([True, True, False, True, True, True])
        points, kinds, there = self.points(visible=visible)
        assert kinds.tolist() == [0, 1, 4, *[SURFACE] * 13, NEGATIVE]
        assert there.all()
        assert torch.equal(points[:3], self.JOINTS[[0, 1, 4]])
        assert at(mask, points[3:16]).all()
        assert len(points[3:16].unique(dim=0)) == 13
        assert not at(mask, points[16:]).any()

    def test_more_joints_than_points_are_all_kept(self):
        points, kinds, there = self.points(count=2)
        assert kinds.tolist() == [0, 1, 2, 4, SURFACE, SURFACE, NEGATIVE]
        assert there.tolist() == [True] * 4 + [False] * 2 + [True]
        assert points[4:6].tolist() == [[0, 0]] * 2

    def test_the_negative_is_in_the_box_around_and_on_nobody_else(self):
        others = torch.zeros(60, 80, dtype=torch.bool)
        others[:, :35] = True
        (x, y), *_ = self.points(others=others)[0][-1:].tolist()
        assert 35 <= x <= 49
        assert 6 <= y <= 54
        points, _, there = self.points(others=~blob())
        assert not there[-1]
        assert points[-1].tolist() == [0, 0]

    def test_nobody_has_no_point(self):
        points, _, there = self.points(mask=torch.zeros(60, 80, dtype=torch.bool))
        assert points.shape == (17, 2)
        assert not there.any()

    def test_a_mask_thinner_than_its_rim_has_points_all_the_same(self):
        mask = torch.zeros(60, 80, dtype=torch.bool)
        mask[5:55, 40] = True
        points, *_ = self.points(mask=mask, visible=torch.zeros(6, dtype=torch.bool))
        assert at(mask, points[:16]).all()
        assert len(points[:16].unique(dim=0)) == 16
