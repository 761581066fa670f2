"""SynthCrowd's people: bodies within joint limits, and figures whose mask, parts and keypoints agree."""

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.label_sets import CIHP_PARTS
from bmp.synthcrowd.figures import Figure, draw
from bmp.synthcrowd.looks import Hat, Lower, Upper, sample_look, similar_look
from bmp.synthcrowd.poses import ELBOW_LIMIT, KNEE_LIMIT, Body, Joint, PoseKind, sample_body

_LEFTS = (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, Joint.LEFT_WRIST, Joint.LEFT_HIP, Joint.LEFT_KNEE, Joint.LEFT_ANKLE)
_NOSE, _LEFT_EYE, _RIGHT_EYE, _LEFT_EAR, _RIGHT_EAR = range(5)
_LEFT_SHOULDER, _RIGHT_SHOULDER, _LEFT_HIP, _RIGHT_HIP = 5, 6, 11, 12


def seeds(count: int) -> list[Any]:
    """Return ``count`` seeds, of which ``make test-fast`` tries three."""
    return [pytest.param(seed, marks=[] if seed < 3 else pytest.mark.slow) for seed in range(count)]


def figure(*seed: int, kind: PoseKind | None = None, facing: float | None = None, height: float = 150) -> Figure:
    rng = np.random.default_rng(seed)
    return draw(sample_body(rng, kind, facing), sample_look(rng), height, rng)


def bone(body: Body, start: int, end: int) -> float:
    return float(np.linalg.norm(body.joints[end] - body.joints[start]))


def bend(body: Body, start: int, middle: int, end: int) -> float:
    first, second = body.joints[middle] - body.joints[start], body.joints[end] - body.joints[middle]
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return math.degrees(math.acos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("kind", PoseKind)
@pytest.mark.parametrize("seed", seeds(20))
def test_joints_keep_their_limits_and_bones_their_lengths(kind: PoseKind, seed: int) -> None:
    body = sample_body(np.random.default_rng(seed), kind)
    for side in (0, 1):
        elbow = bend(body, Joint.LEFT_SHOULDER + side, Joint.LEFT_ELBOW + side, Joint.LEFT_WRIST + side)
        knee = bend(body, Joint.LEFT_HIP + side, Joint.LEFT_KNEE + side, Joint.LEFT_ANKLE + side)
        assert ELBOW_LIMIT[0] <= elbow <= ELBOW_LIMIT[1] + 1e-6
        assert KNEE_LIMIT[0] <= knee <= KNEE_LIMIT[1] + 1e-6
    for start, end, low, high in (
        (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, 0.13, 0.19),
        (Joint.LEFT_ELBOW, Joint.LEFT_WRIST, 0.12, 0.17),
        (Joint.LEFT_HIP, Joint.LEFT_KNEE, 0.19, 0.27),
        (Joint.LEFT_KNEE, Joint.LEFT_ANKLE, 0.18, 0.26),
    ):
        assert bone(body, start, end) == pytest.approx(bone(body, start + 1, end + 1))
        assert low < bone(body, start, end) < high
    for frame in (body.pelvis, body.chest, body.head):
        np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(frame) == pytest.approx(1)


@pytest.mark.parametrize("seed", seeds(30))
def test_knees_bend_backwards_and_elbows_forwards(seed: int) -> None:
    body = sample_body(np.random.default_rng(seed), PoseKind.CROUCHING)
    for side in (0, 1):
        hip, knee, ankle = (body.joints[Joint.LEFT_HIP + side + 2 * step] for step in range(3))
        assert ((hip + ankle) / 2 - knee) @ body.pelvis[:, 2] > 0


def test_a_standing_person_measures_about_one() -> None:
    heights = []
    for seed in range(50):
        joints = sample_body(np.random.default_rng(seed), PoseKind.STANDING, 0.0).joints
        heights.append(joints[[Joint.LEFT_HEEL, Joint.RIGHT_HEEL], 1].max() - joints[Joint.HEAD, 1])
    # From heel to the middle of the head, as a share of the whole height.
    assert 0.86 < np.mean(heights) < 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("facing", "sign"), [(0.0, 1), (0.5, 1), (-0.5, 1), (math.pi, -1), (math.pi - 0.5, -1)])
@pytest.mark.parametrize("seed", seeds(10))
def test_left_is_right_in_the_picture_from_the_front_and_left_from_behind(facing: float, sign: int, seed: int) -> None:
    person = figure(seed, kind=PoseKind.STANDING, facing=facing)
    for left in (_LEFT_SHOULDER, _LEFT_HIP):
        assert sign * (person.keypoints[left, 0] - person.keypoints[left + 1, 0]) > 0
    # A head may turn by 42 degrees, and trunk and spine by some more.
    if facing in (0.0, math.pi):
        assert sign * (person.keypoints[_LEFT_EAR, 0] - person.keypoints[_RIGHT_EAR, 0]) > 0


@pytest.mark.parametrize("seed", seeds(20))
def test_a_face_is_hidden_from_behind(seed: int) -> None:
    person = figure(seed, kind=PoseKind.WALKING, facing=math.pi)
    assert person.hidden[[_NOSE, _LEFT_EYE, _RIGHT_EYE]].all()


@pytest.mark.slow
@pytest.mark.parametrize(("facing", "near"), [(math.pi / 2, 1), (-math.pi / 2, 0)])
def test_the_far_arm_and_hip_are_hidden_from_the_side(facing: float, near: int) -> None:
    counts = np.zeros((2, 2), int)
    for seed in range(20):
        person = figure(seed, kind=PoseKind.STANDING, facing=facing)
        for row, left in enumerate((_LEFT_SHOULDER, _LEFT_HIP)):
            counts[row] += person.hidden[[left + near, left + 1 - near]]
    assert (counts[:, 1] >= 15).all()
    assert counts[0, 0] < 5


@pytest.mark.slow
def test_who_looks_to_the_right_has_the_nose_there() -> None:
    for facing, sign in ((math.pi / 2, 1), (-math.pi / 2, -1)):
        noses = [figure(seed, kind=PoseKind.WALKING, facing=facing) for seed in range(20)]
        offsets = [person.keypoints[_NOSE, 0] - person.keypoints[3:5, 0].mean() for person in noses]
        assert np.mean(np.sign(offsets) == sign) > 0.9


@pytest.mark.parametrize("kind", PoseKind)
@pytest.mark.parametrize("height", [40, pytest.param(150, marks=pytest.mark.slow)])
def test_keypoints_that_are_not_hidden_lie_on_the_figure(kind: PoseKind, height: float) -> None:
    for seed in range(10):
        person = figure(seed, kind=kind, height=height)
        outside = cv2.distanceTransform((person.parts == 0).astype(np.uint8), cv2.DIST_L2, 5)
        points = person.keypoints[~person.hidden] - person.origin
        columns, rows = np.floor(points).astype(int).T
        inside = (columns >= -2) & (rows >= -2) & (columns < outside.shape[1] + 2) & (rows < outside.shape[0] + 2)
        assert inside.all()
        rows, columns = rows.clip(0, outside.shape[0] - 1), columns.clip(0, outside.shape[1] - 1)
        assert outside[rows, columns].max() <= 2


@pytest.mark.parametrize("height", [20, 47.5, 150, 430, 600])
def test_figures_of_all_sizes(height: float) -> None:
    person = figure(3, kind=PoseKind.STANDING, facing=0.0, height=height)
    rows, columns = person.parts.shape
    assert person.colors.shape == (rows, columns, 3)
    assert person.colors.dtype == person.parts.dtype == np.uint8
    assert person.keypoints.shape == (17, 2)
    assert person.keypoints.dtype == np.float32
    assert person.hidden.shape == (17,)
    assert person.hidden.dtype == np.bool_
    assert 0.85 * height - 3 < rows < 1.1 * height + 3
    # The arrays hold the figure and no margin.
    assert (person.parts > 0).any(axis=1).mean() > 1 - 3 / rows
    assert (person.parts > 0).any(axis=0).mean() > 1 - 3 / columns
    assert 0.1 < (person.parts > 0).mean() < 0.9


@pytest.mark.slow
def test_the_pelvis_is_where_the_origin_says() -> None:
    for seed in range(10):
        person = figure(seed, kind=PoseKind.STANDING)
        hips = person.keypoints[[_LEFT_HIP, _RIGHT_HIP]].mean(axis=0)
        np.testing.assert_allclose(hips, 0, atol=1e-3)
        x, y = -person.origin[0], -person.origin[1]
        assert person.parts[y, x] > 0


def test_twice_the_height_is_the_same_figure_twice_as_large() -> None:
    small, large = figure(8, height=100), figure(8, height=200)
    np.testing.assert_allclose(large.keypoints, 2 * small.keypoints, atol=0.01)
    assert (large.parts > 0).sum() / (small.parts > 0).sum() == pytest.approx(4, rel=0.06)


@pytest.mark.slow
def test_parts_are_labels_of_the_list_and_on_their_side() -> None:
    labels = set()
    for seed in range(25):
        person = figure(seed, kind=PoseKind.STANDING, facing=0.0)
        labels |= set(np.unique(person.parts).tolist())
        for left in (14, 16, 18):
            columns = [np.nonzero(person.parts == label)[1] for label in (left, left + 1)]
            if left == 18 and all(len(column) for column in columns):
                assert columns[0].mean() > columns[1].mean()
    assert labels <= set(range(len(CIHP_PARTS)))
    assert len(labels) >= 18
    assert len(CIHP_PARTS) == 20


@pytest.mark.slow
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), height=st.floats(15, 260))
def test_the_same_seed_draws_the_same_figure(seed: int, height: float) -> None:
    first, second = figure(seed, height=height), figure(seed, height=height)
    for name in ("colors", "parts", "keypoints", "hidden"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.origin == second.origin
    assert np.isfinite(first.keypoints).all()


@pytest.mark.slow
def test_chance_comes_from_the_generator_alone() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = figure(5)
    np.testing.assert_array_equal(before, np.random.get_state()[1])
    np.random.seed(1)
    np.testing.assert_array_equal(first.colors, figure(5).colors)
    assert figure(5).colors.shape != figure(6).colors.shape or (figure(5).colors != figure(6).colors).any()


def test_light_from_the_left_brightens_the_left() -> None:
    rng = np.random.default_rng(4)
    body, look = sample_body(rng, PoseKind.STANDING, 0.0), sample_look(rng)
    left = draw(body, look, 200, np.random.default_rng(1), light=math.pi)
    right = draw(body, look, 200, np.random.default_rng(1), light=0.0)
    np.testing.assert_array_equal(left.parts, right.parts)
    change = left.colors.astype(float).mean(axis=2) - right.colors.astype(float).mean(axis=2)
    mask = left.parts > 0
    trunk = slice(*np.round(np.array([-80, -10]) - left.origin[1]).astype(int))
    columns = np.arange(mask.shape[1])
    near_left = mask[trunk] & (columns < -left.origin[0] - 8)
    near_right = mask[trunk] & (columns > -left.origin[0] + 8)
    assert change[trunk][near_left].mean() > 3
    assert change[trunk][near_right].mean() < -3


@pytest.mark.parametrize("seed", seeds(10))
def test_similar_looks_share_clothes_and_not_people(seed: int) -> None:
    rng = np.random.default_rng(seed)
    look = sample_look(rng)
    mate = similar_look(look, rng)
    assert (mate.upper, mate.lower, mate.sleeve, mate.hem) == (look.upper, look.lower, look.sleeve, look.hem)
    assert mate.upper_cloth.pattern == look.upper_cloth.pattern
    assert np.abs(np.subtract(mate.upper_cloth.color, look.upper_cloth.color)).max() < 40
    assert (mate.skin, mate.hair_color, mate.width) != (look.skin, look.hair_color, look.width)


@pytest.mark.slow
def test_looks_vary() -> None:
    looks = [sample_look(np.random.default_rng(seed)) for seed in range(300)]
    assert {look.upper for look in looks} == set(Upper)
    assert {look.lower for look in looks} == set(Lower)
    assert {look.hat for look in looks} == set(Hat)
    assert len({look.upper_cloth.color for look in looks}) > 250
