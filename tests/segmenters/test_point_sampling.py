"""Points of training: each rule of the recipes, the chances, and what never changes."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.build import build_part
from bmp.errors import UserError
from bmp.registry import POINT_SAMPLERS
from bmp.segmenters import prompting
from bmp.segmenters.point_sampling import (
    Keypoints,
    MaskRefine,
    MaxSpreadPoints,
    MaxVisibilityPoints,
    Pose1MaskRefine,
    PoseMaskRefine,
)
from bmp.structures import Detections, Poses

REFINING = [MaskRefine, Pose1MaskRefine, PoseMaskRefine]
STARTING_AT_A_KEYPOINT = [Pose1MaskRefine, PoseMaskRefine]
EVERY = [*REFINING, MaxVisibilityPoints, MaxSpreadPoints]

# 5 rows of 7 columns: the ground truth is an L of 8 pixels, the prediction covers 5 of them and spills over 4
TRUTH = torch.tensor([[int(c) for c in row] for row in ("0100000", "0100000", "0100000", "0100000", "0111100")]) == 1
PREDICTION = torch.tensor([[int(c) for c in row] for row in ("0100000", "0100000", "0111000", "0110000", "0011000")])
PREDICTION = (PREDICTION == 1) & ~torch.zeros(5, 7, dtype=torch.bool)
MISSED, SPILT = {(1, 4), (4, 4)}, {(2, 2), (3, 2), (2, 3)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def many(mask, count):
    return mask.expand(count, -1, -1).clone()


def known(points, visibility, available=None, people=1):
    """The same keypoints for ``people`` people."""
    points, visibility = torch.tensor(points, dtype=torch.float32), torch.tensor(visibility, dtype=torch.float32)
    available = torch.ones(len(points), dtype=torch.bool) if available is None else torch.tensor(available)
    return Keypoints(*(value.expand(people, *value.shape).clone() for value in (points, visibility, available)))


def like_coco(points, visibility, people=1):
    """17 keypoints a person of which only the first few are available."""
    rest = 17 - len(points)
    available = [True] * len(points) + [False] * rest
    return known([*points, *[(0.0, 0.0)] * rest], [*visibility, *[0.0] * rest], available, people)


def pixels(points):
    """The pixels that points (B, 1, 2) are the centres of, as x, y."""
    assert (points.frac() == 0.5).all()
    return [tuple(point) for point in points[:, 0].floor().int().tolist()]


def places(mask):
    return {(x, y) for y, x in mask.nonzero().tolist()}


def chi_square(found, allowed):
    """Statistic of the places found, which must be among those allowed, against all being equally likely."""
    assert set(found) <= allowed
    expected = len(found) / len(allowed)
    return sum((found.count(place) - expected) ** 2 for place in allowed) / expected


def without_chance(sampler):
    return sampler(ground_truth_probability=0.0)


def test_the_little_picture_is_what_it_says():
    assert places(TRUTH & ~PREDICTION) == MISSED
    assert places(PREDICTION & ~TRUTH) == SPILT


# --- MaskRefine ------------------------------------------------------------------------------------------------------


def test_keypoints_of_poses_are_half_a_pixel_further_and_available_where_present():
    places, chances = torch.tensor([[[3.0, 0.0], [-0.5, 7.25]]]), torch.tensor([[0.5, 0.49]])
    keypoints = Keypoints.of(Poses(places, scores=torch.zeros(1, 2), visibility=1 - chances, presence=chances))
    assert keypoints.points.tolist() == [[[3.5, 0.5], [0.0, 7.75]]]
    assert torch.equal(keypoints.visibility, 1 - chances)
    assert keypoints.available.tolist() == [[True, False]]
    assert Keypoints.of(Poses.empty(17)).points.shape == (0, 17, 2)


def test_the_first_point_of_mask_refine_is_any_pixel_of_the_truth():
    points, labels = MaskRefine().first(many(TRUTH, 1600), Keypoints.none(1600), seeded())
    assert (points.shape, points.dtype) == ((1600, 1, 2), torch.float32)
    assert (labels.shape, labels.dtype) == ((1600, 1), torch.int8)
    assert (labels == 1).all()
    assert chi_square(pixels(points), places(TRUTH)) < 24.3  # 7 degrees of freedom, one in a thousand


@pytest.mark.parametrize("sampler", REFINING)
def test_a_correction_is_any_pixel_of_the_error_region(sampler):
    points, labels = without_chance(sampler).correct(
        many(TRUTH, 1000), many(PREDICTION, 1000), Keypoints.none(1000), seeded()
    )
    assert (points.shape, points.dtype) == ((1000, 1, 2), torch.float32)
    assert (labels.shape, labels.dtype) == ((1000, 1), torch.int8)
    found = pixels(points)
    assert chi_square(found, MISSED | SPILT) < 18.5  # 4 degrees of freedom, one in a thousand
    assert labels[:, 0].tolist() == [int(place in MISSED) for place in found]


@pytest.mark.parametrize("sampler", REFINING)
@pytest.mark.parametrize(
    ("prediction", "allowed", "label"),
    [
        (torch.zeros_like(TRUTH), places(TRUTH), 1),  # nothing found
        (torch.ones_like(TRUTH), places(~TRUTH), 0),  # everything taken for the person
        (TRUTH & PREDICTION, MISSED, 1),
        (TRUTH | PREDICTION, SPILT, 0),
    ],
    ids=["nothing", "everything", "missed", "spilt"],
)
def test_a_correction_is_positive_where_missed_and_negative_where_spilt(sampler, prediction, allowed, label):
    points, labels = without_chance(sampler).correct(
        many(TRUTH, 200), many(prediction, 200), Keypoints.none(200), seeded()
    )
    assert set(pixels(points)) == allowed
    assert (labels == label).all()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", REFINING)
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_some_corrections_are_from_the_truth_instead(sampler, probability):
    # Only one pixel is wrong, and a keypoint lies in it: whatever is elsewhere is from the ground truth.
    ground_truth, people = torch.zeros(20, 20, dtype=torch.bool), 4000
    ground_truth[5:15] = True
    prediction = ground_truth.clone()
    prediction[0, 3] = True
    keypoints = known([(3.5, 0.5)], [1.0], people=people)
    points, labels = sampler(ground_truth_probability=probability).correct(
        many(ground_truth, people), many(prediction, people), keypoints, seeded()
    )
    found = [place for place in pixels(points) if place != (3, 0)]
    assert set(found) <= places(ground_truth)
    assert labels[:, 0].tolist() == [int(place != (3, 0)) for place in pixels(points)]
    spread = 4 * (probability * (1 - probability) / people) ** 0.5
    assert len(found) / people == pytest.approx(probability, abs=spread)
    if probability == 1:
        assert chi_square(found, places(ground_truth)) < 268  # 199 degrees of freedom, one in a thousand


@pytest.mark.parametrize("sampler", REFINING)
def test_the_recipes_defaults_are_the_papers(sampler):
    assert (sampler().corrections, sampler().ground_truth_probability) == (7, 0.1)


@pytest.mark.parametrize("sampler", REFINING)
def test_a_perfect_prediction_is_followed_by_a_negative_point_from_the_background(sampler):
    # the keypoint on the person is no correction, for nothing is wrong there
    keypoints = known([(1.5, 1.5)], [1.0], people=500)
    points, labels = without_chance(sampler).correct(many(TRUTH, 500), many(TRUTH, 500), keypoints, seeded())
    assert (labels == 0).all()
    assert chi_square(pixels(points), places(~TRUTH)) < 54.1  # 26 degrees of freedom, one in a thousand


@pytest.mark.parametrize("sampler", REFINING)
def test_perfect_and_wrong_predictions_in_one_batch(sampler):
    ground_truth, prediction = many(TRUTH, 3), torch.stack([TRUTH, PREDICTION, TRUTH | PREDICTION])
    for seed in range(20):
        points, labels = without_chance(sampler).correct(ground_truth, prediction, Keypoints.none(3), seeded(seed))
        first, second, third = pixels(points)
        assert first in places(~TRUTH)
        assert second in MISSED | SPILT
        assert third in SPILT
        assert labels[:, 0].tolist() == [0, int(second in MISSED), 0]


@pytest.mark.parametrize("sampler", REFINING)
def test_a_perfect_prediction_of_the_whole_image_is_left_in_peace(sampler):
    whole = torch.ones(2, 3, 4, dtype=torch.bool)
    points, labels = without_chance(sampler).correct(whole, whole, Keypoints.none(2), seeded())
    assert labels.tolist() == [[-1], [-1]]
    assert points.tolist() == [[[0, 0]], [[0, 0]]]


@pytest.mark.parametrize("sampler", EVERY)
def test_an_empty_truth_is_asked_about_from_the_background(sampler):
    empty = torch.zeros(50, 3, 4, dtype=torch.bool)
    points, labels = sampler().first(empty, Keypoints.none(50, 17), seeded())
    assert (labels[:, 0] == 0).all()
    assert (labels[:, 1:] == -1).all()
    assert len(set(pixels(points[:, :1]))) > 6
    if sampler in REFINING:
        _, labels = sampler(ground_truth_probability=1.0).correct(empty, empty, Keypoints.none(50), seeded())
        assert (labels == 0).all()
        spilt = torch.zeros_like(empty)
        spilt[:, 1, 2] = True
        points, labels = without_chance(sampler).correct(empty, spilt, Keypoints.none(50), seeded())
        assert (set(pixels(points)), set(labels.flatten().tolist())) == ({(2, 1)}, {0})


# --- keypoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", STARTING_AT_A_KEYPOINT)
@pytest.mark.parametrize(
    ("points", "visibility", "available", "expected"),
    [
        ([(1.2, 0.7), (1.9, 4.0), (4.0, 4.0)], [0.3, 0.9, 0.5], [1, 1, 1], (1.9, 4.0)),
        # of equal ones the first
        ([(1.2, 0.7), (1.9, 4.0), (4.0, 4.0)], [0.5, 0.9, 0.9], [1, 1, 1], (1.9, 4.0)),
        # not labelled, or not detected
        ([(1.2, 0.7), (1.9, 4.0), (4.0, 4.0)], [0.3, 0.9, 0.5], [1, 0, 1], (4.0, 4.0)),
        # outside the image, which is 7 wide and 5 high, or just inside
        ([(1.2, 0.7), (-0.1, 4.0), (4.0, 5.0)], [0.3, 0.9, 0.5], [1, 1, 1], (1.2, 0.7)),
        ([(7.0, 0.0), (6.9, 4.9), (4.0, -1.0)], [0.9, 0.1, 0.5], [1, 1, 1], (6.9, 4.9)),
        ([(0.0, 0.0), (1e9, 0.0), (0.0, -1e9)], [0.1, 0.9, 0.5], [1, 1, 1], (0.0, 0.0)),
        # a keypoint that is not on the person is as good as at test time, where nobody knows
        ([(6.5, 0.5), (1.5, 1.5), (4.0, 4.0)], [0.9, 0.8, 0.7], [1, 1, 1], (6.5, 0.5)),
        # even who is hardly seen has a best point
        ([(1.5, 0.5), (1.5, 1.5), (4.0, 4.0)], [0.0, 0.0, 0.0], [0, 1, 1], (1.5, 1.5)),
    ],
)
def test_the_first_point_is_the_most_visible_keypoint(sampler, points, visibility, available, expected):
    keypoints = known(points, visibility, [bool(flag) for flag in available])
    point, label = sampler().first(TRUTH[None], keypoints, seeded())
    assert point.tolist() == [[pytest.approx(expected)]]
    assert label.tolist() == [[1]]


NO_USE = [
    pytest.param(Keypoints.none(1600), id="none at all"),
    pytest.param(Keypoints.none(1600, 17), id="none available"),
    pytest.param(known([(-1.0, 2.0), (7.0, 2.0), (2.0, 5.5), (2.0, -3.0)], [1.0] * 4, people=1600), id="all outside"),
    pytest.param(known([(1.5, 1.5), (2.5, 2.5)], [1.0] * 2, [False] * 2, people=1600), id="all unavailable"),
]


@pytest.mark.parametrize("sampler", STARTING_AT_A_KEYPOINT)
@pytest.mark.parametrize("keypoints", NO_USE)
def test_without_a_keypoint_the_first_point_is_that_of_mask_refine(sampler, keypoints):
    ours = sampler().first(many(TRUTH, 1600), keypoints, seeded())
    theirs = MaskRefine().first(many(TRUTH, 1600), keypoints, seeded())
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert chi_square(pixels(ours[0]), places(TRUTH)) < 24.3


@pytest.mark.parametrize("keypoints", NO_USE)
def test_without_a_keypoint_corrections_are_those_of_mask_refine(keypoints):
    ground_truth, prediction = many(TRUTH, 1600), many(PREDICTION, 1600)
    ours = PoseMaskRefine().correct(ground_truth, prediction, keypoints, seeded())
    theirs = MaskRefine().correct(ground_truth, prediction, keypoints, seeded())
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("points", "visibility", "available", "expected", "label"),
    [
        # the most visible one in the error region, where it was missed and where it was spilt
        ([(1.2, 4.9), (4.1, 4.3), (1.5, 0.5)], [0.3, 0.6, 0.9], [1, 1, 1], (4.1, 4.3), 1),
        ([(1.2, 4.9), (2.1, 3.3), (1.5, 0.5)], [0.3, 0.6, 0.9], [1, 1, 1], (2.1, 3.3), 0),
        ([(1.2, 4.9), (2.1, 3.3), (1.5, 0.5)], [0.7, 0.6, 0.9], [1, 1, 1], (1.2, 4.9), 1),
        # of equal ones the first
        ([(1.2, 4.9), (2.1, 3.3), (1.5, 0.5)], [0.6, 0.6, 0.9], [1, 1, 1], (1.2, 4.9), 1),
        # the best is not available, or outside and nearest to a pixel that is wrong
        ([(1.2, 4.9), (4.1, 4.3), (1.5, 0.5)], [0.3, 0.6, 0.9], [1, 0, 1], (1.2, 4.9), 1),
        ([(1.2, 5.1), (4.1, 4.3), (1.5, 0.5)], [0.8, 0.6, 0.9], [1, 1, 1], (4.1, 4.3), 1),
        # the edges of pixels: 2 is the first of column 2, which was spilt; a hair less is column 1, which was right
        ([(2.0, 2.0), (1.2, 4.0), (1.5, 0.5)], [0.8, 0.6, 0.9], [1, 1, 1], (2.0, 2.0), 0),
        ([(1.999, 2.0), (1.2, 4.0), (1.5, 0.5)], [0.8, 0.6, 0.9], [1, 1, 1], (1.2, 4.0), 1),
    ],
)
def test_pose_mask_refine_prefers_keypoints_in_the_error_region(points, visibility, available, expected, label):
    keypoints = known(points, visibility, [bool(flag) for flag in available])
    point, labels = without_chance(PoseMaskRefine).correct(TRUTH[None], PREDICTION[None], keypoints, seeded())
    assert point.tolist() == [[pytest.approx(expected)]]
    assert labels.tolist() == [[label]]


def test_keypoints_that_are_right_are_no_corrections():
    keypoints = known([(1.5, 1.5), (6.5, 0.5), (2.5, 4.5)], [0.9, 0.8, 0.7], people=1000)
    points, _ = without_chance(PoseMaskRefine).correct(many(TRUTH, 1000), many(PREDICTION, 1000), keypoints, seeded())
    assert chi_square(pixels(points), MISSED | SPILT) < 18.5


@pytest.mark.parametrize("sampler", [MaskRefine, Pose1MaskRefine])
def test_corrections_of_the_other_recipes_do_not_mind_keypoints(sampler):
    keypoints = known([(4.5, 4.5)], [1.0], people=1000)
    points, _ = without_chance(sampler).correct(many(TRUTH, 1000), many(PREDICTION, 1000), keypoints, seeded())
    assert chi_square(pixels(points), MISSED | SPILT) < 18.5


@pytest.mark.parametrize("sampler", REFINING)
def test_a_first_prediction_may_have_several_points(sampler):
    several, counts = sampler(first_points=3), set()
    keypoints = like_coco([(1.5, 0.5), (4.5, 4.5), (6.5, 0.5), (1.5, 2.5)], [0.2, 0.9, 0.8, 0.5], people=50)
    for seed in range(20):
        points, labels = several.first(many(TRUTH, 50), keypoints, seeded(seed))
        counts.add(points.shape[1])
        assert (labels == 1).all()
        if sampler is MaskRefine:
            assert {place for column in points.split(1, dim=1) for place in pixels(column)} == places(TRUTH)
        else:
            best = torch.tensor([(4.5, 4.5), (6.5, 0.5), (1.5, 2.5)])[: points.shape[1]]
            assert (points == best).all()
    assert counts == {1, 2, 3}


@pytest.mark.parametrize("sampler", STARTING_AT_A_KEYPOINT)
def test_who_has_fewer_keypoints_than_first_points_gets_padding(sampler):
    several = sampler(first_points=4)
    points, labels = next(
        (points, labels)
        for points, labels in (several.first(TRUTH[None], like_coco([(1.5, 0.5)], [0.9]), seeded(s)) for s in range(99))
        if points.shape[1] == 4
    )
    assert labels.tolist() == [[1, -1, -1, -1]]
    assert points[0, 0].tolist() == [1.5, 0.5]


def test_mask_refine_does_not_start_at_keypoints():
    keypoints = known([(4.5, 4.5)], [1.0], people=1600)
    points, _ = MaskRefine().first(many(TRUTH, 1600), keypoints, seeded())
    assert chi_square(pixels(points), places(TRUTH)) < 24.3


# --- all at once -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_at_once_the_points_are_those_of_the_prompter(seed, count):
    draw = seeded(seed)
    keypoints = Keypoints(
        torch.rand(4, 17, 2, generator=draw) * 30,
        torch.rand(4, 17, generator=draw) * 0.7 + 0.3,  # somebody without any point is another test's
        torch.ones(4, 17, dtype=torch.bool),
    )
    poses = Poses(keypoints.points, keypoints.visibility, keypoints.visibility, keypoints.visibility)
    people = Detections(torch.zeros(4, 4), torch.ones(4))
    ground_truth = torch.rand(4, 30, 30, generator=draw) > 0.5
    for sampler, prompter in (
        (MaxVisibilityPoints(count), prompting.MaxVisibility(count)),
        (MaxSpreadPoints(count), prompting.MaxSpread(count)),
    ):
        points, labels = sampler.first(ground_truth, keypoints, draw)
        prompts = prompter.prompts(people, poses, poses[:0])
        assert torch.equal(points, prompts.points)
        assert torch.equal(labels, prompts.labels)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (MaxVisibilityPoints(2), [(4, 1), (2, 2)]),
        (MaxVisibilityPoints(5), [(4, 1), (2, 2), (1, 1), (3, 0), None]),
        (MaxSpreadPoints(5), [(4, 1), (2, 2), None, None, None]),  # one of the face, and no more above the threshold
        (MaxSpreadPoints(5, threshold=0.1), [(4, 1), (2, 2), (3, 0), None, None]),
    ],
)
def test_keypoints_that_are_no_use_are_left_out_at_once(sampler, expected):
    points = [(1.0, 1.0), (4.0, 1.0), (5.0, 9.0), (3.0, 0.0), (2.0, 2.0), (-1.0, 2.0)]
    keypoints = like_coco(points, [0.4, 0.9, 1.0, 0.2, 0.8, 1.0])
    found, labels = sampler.first(TRUTH[None], keypoints, seeded())
    assert found.shape == (1, sampler.count, 2)
    assert [
        tuple(point) if label == 1 else None for point, label in zip(found[0].tolist(), labels[0], strict=True)
    ] == (expected)
    assert (found[labels == -1] == 0).all()


@pytest.mark.parametrize("sampler", [MaxVisibilityPoints(3), MaxSpreadPoints(3)])
@pytest.mark.parametrize("points", [[], [(-1.0, 2.0), (7.0, 2.0)]], ids=["none", "all outside"])
def test_at_once_somebody_without_keypoints_is_asked_about_as_by_mask_refine(sampler, points):
    keypoints = like_coco(points, [1.0] * len(points), people=1600)
    found, labels = sampler.first(many(TRUTH, 1600), keypoints, seeded())
    assert labels.unique(dim=0).tolist() == [[1, -1, -1]]
    assert chi_square(pixels(found[:, :1]), places(TRUTH)) < 24.3
    assert (found[:, 1:] == 0).all()


def test_max_vis_takes_any_number_of_keypoints_and_max_spread_needs_to_know_the_face():
    points, labels = MaxVisibilityPoints(2).first(TRUTH[None], known([(3.0, 3.0)], [0.5]), seeded())
    assert (points[0, 0].tolist(), labels.tolist()) == ([3, 3], [[1, -1]])
    with pytest.raises(ValueError, match="MaxSpreadPoints: expected 17 keypoints a person, got 1; mark those"):
        MaxSpreadPoints(2).first(TRUTH[None], known([(3.0, 3.0)], [0.5]), seeded())


@pytest.mark.parametrize("sampler", [MaxVisibilityPoints(), MaxSpreadPoints()])
def test_at_once_there_is_nothing_to_correct(sampler):
    assert sampler.corrections == 0
    with pytest.raises(RuntimeError, match="gives all points at once; ask for no more than its 0 corrections"):
        sampler.correct(TRUTH[None], PREDICTION[None], Keypoints.none(1, 17), seeded())


# --- whatever the masks ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sampler=st.sampled_from(REFINING),
    size=st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
def test_corrections_correct(seed, sampler, size, share):
    draw = seeded(seed)
    ground_truth, prediction = torch.rand(size, generator=draw) < share, torch.rand(size, generator=draw) < 0.5
    keypoints = Keypoints(
        torch.rand(size[0], 5, 2, generator=draw) * 12 - 1.5,
        torch.rand(size[0], 5, generator=draw),
        torch.rand(size[0], 5, generator=draw) < 0.7,
    )
    points, labels = without_chance(sampler).correct(ground_truth, prediction, keypoints, draw)
    assert (points.shape, labels.shape) == ((size[0], 1, 2), (size[0], 1))
    for own_ground_truth, own_prediction, point, label in zip(
        ground_truth, prediction, points[:, 0], labels[:, 0], strict=True
    ):
        x, y = point.long().tolist()
        if label == -1:
            assert own_ground_truth.all()
            assert own_prediction.all()
        else:
            assert label == own_ground_truth[y, x]
            assert own_ground_truth[y, x] != own_prediction[y, x] or torch.equal(own_ground_truth, own_prediction)


@pytest.mark.parametrize("sampler", EVERY)
def test_nobody(sampler):
    nobody, keypoints = torch.zeros(0, 5, 7, dtype=torch.bool), Keypoints.none(0, 17)
    points, labels = sampler().first(nobody, keypoints, seeded())
    assert (points.shape[::2], len(labels)) == ((0, 2), 0)
    if sampler().corrections:
        points, labels = sampler().correct(nobody, nobody, keypoints, seeded())
        assert (points.shape, labels.shape) == ((0, 1, 2), (0, 1))


@pytest.mark.parametrize("sampler", EVERY)
def test_chance_is_the_generators_and_people_do_not_disturb_each_other(sampler):
    draw = seeded(1)
    ground_truth, prediction = torch.rand(6, 20, 20, generator=draw) > 0.5, torch.rand(6, 20, 20, generator=draw) > 0.5
    keypoints = Keypoints(
        torch.rand(6, 17, 2, generator=draw) * 20,
        torch.rand(6, 17, generator=draw),
        torch.rand(6, 17, generator=draw) > 0.5,
    )

    def outcome(ground_truth, prediction, seed=3):
        generator = seeded(seed)
        asked = sampler().first(ground_truth, keypoints, generator)
        if sampler().corrections:
            asked = (*asked, *sampler().correct(ground_truth, prediction, keypoints, generator))
        return asked

    before = ground_truth.clone(), prediction.clone()
    first = outcome(ground_truth, prediction)
    assert torch.equal(ground_truth, before[0])
    assert torch.equal(prediction, before[1])
    assert all(torch.equal(a, b) for a, b in zip(first, outcome(ground_truth, prediction), strict=True))
    if sampler in REFINING:
        other = outcome(ground_truth, prediction, seed=4)
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    ground_truth[0], prediction[0] = ~ground_truth[0], ground_truth[0]
    changed = outcome(ground_truth, prediction)
    assert all(torch.equal(a[1:], b[1:]) for a, b in zip(first, changed, strict=True))


@pytest.mark.slow
def test_large_batches_take_little_more_than_their_masks():
    ground_truth = torch.zeros(64, 512, 512, dtype=torch.bool)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        MaskRefine().correct(ground_truth, ground_truth, Keypoints.none(64), seeded())
    assert max(event.cpu_memory_usage for event in profile.events()) <= ground_truth.numel()


@pytest.mark.cuda
@pytest.mark.parametrize("sampler", EVERY)
def test_a_generator_on_the_cpu_gives_the_same_points_on_a_gpu(sampler):
    ground_truth, prediction = many(TRUTH, 50), many(PREDICTION, 50)
    keypoints = like_coco([(4.5, 4.5)], [0.5], people=50)
    here = sampler().first(ground_truth, keypoints, seeded())
    there = sampler().first(ground_truth.cuda(), keypoints.to("cuda"), seeded())
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))
    if sampler().corrections:
        here = sampler().correct(ground_truth, prediction, keypoints, seeded())
        there = sampler().correct(ground_truth.cuda(), prediction.cuda(), keypoints.to("cuda"), seeded())
        assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


# --- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (dict(type="MaskRefine"), MaskRefine()),
        (dict(type="Pose1MaskRefine", corrections=3), Pose1MaskRefine(corrections=3)),
        (dict(type="PoseMaskRefine", ground_truth_probability=0.2), PoseMaskRefine(ground_truth_probability=0.2)),
        (dict(type="MaxVisibilityPoints", count=4), MaxVisibilityPoints(4)),
        (dict(type="MaxSpreadPoints", count=4, threshold=0.2), MaxSpreadPoints(4, 0.2)),
    ],
)
def test_samplers_are_built_by_name(config, expected):
    built = build_part(config, POINT_SAMPLERS)
    assert type(built) is type(expected)
    assert built == expected
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.corrections = 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(type="MaskRefin"), "there is no point sampler 'MaskRefin'"),
        (dict(type="MaskRefine", count=1), "has no argument 'count'"),
        (dict(type="MaskRefine", corrections=-1), "corrections: expected at least 0, got -1"),
        (
            dict(type="PoseMaskRefine", ground_truth_probability=1.1),
            r"ground_truth_probability: expected a number in \[0, 1\]",
        ),
        (dict(type="MaskRefine", first_points=0), "first_points: expected at least 1, got 0"),
        (dict(type="MaxVisibilityPoints", count=0), "count: expected at least 1 point, got 0"),
        (dict(type="MaxSpreadPoints", count=0), "count: expected at least 1 point, got 0"),
        (dict(type="MaxSpreadPoints", threshold=-0.1), r"threshold: expected a number in \[0, 1\], got -0.1"),
    ],
)
def test_mistakes_are_named(config, message):
    with pytest.raises(UserError, match=message):
        build_part(config, POINT_SAMPLERS)
