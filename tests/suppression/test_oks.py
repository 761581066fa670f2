"""Suppression by pose similarity: who stays, and the published defects that must not come back."""

from typing import Any

import pytest
import torch
from alike_people import crowd_of, crowds, people_at
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.ops.boxes import area
from bmp.ops.oks import oks
from bmp.registry import SUPPRESSORS
from bmp.stages import Suppressor
from bmp.structures import Detections, Poses
from bmp.suppression.oks import OKSSuppressor

SIGMAS = torch.tensor(COCO_KEYPOINTS.sigmas)


def _similarity(people: Detections, poses: Poses) -> Tensor:
    confident = poses.scores > 0.5
    confident |= ~confident.any(dim=1, keepdim=True)
    return oks(poses.keypoints, poses.keypoints, area(people.boxes), SIGMAS, confident)


@pytest.mark.parametrize(
    ("offsets", "confident", "scores", "expected"),
    [
        ([], [], [], []),
        ([(0, 0)], [0], [0.0], [0]),
        ([(0, 0), (300, 0)], [17, 17], [0.5, 0.5], [0, 1]),
        # the one with fewer confident keypoints goes, whatever the detection says
        ([(0, 0), (1, 0)], [9, 10], [0.9, 0.1], [1]),
        ([(0, 0), (1, 0)], [10, 9], [0.1, 0.9], [0]),
        # then the higher detection score stays, then the earlier row
        ([(0, 0), (1, 0)], [9, 9], [0.1, 0.9], [1]),
        ([(0, 0), (1, 0)], [9, 9], [0.5, 0.5], [0]),
        ([(0, 0), (0, 0), (0, 0)], [0, 0, 0], [0.5, 0.5, 0.5], [0]),
        ([(300, 0), (0, 0), (301, 0), (1, 0)], [3, 4, 5, 2], [0.5] * 4, [1, 2]),
    ],
)
def test_who_stays(
    offsets: list[tuple[float, float]], confident: list[int], scores: list[float], expected: list[int]
) -> None:
    kept = OKSSuppressor().keep(*people_at(offsets, confident, scores))
    assert kept.dtype == torch.int64
    assert kept.tolist() == expected


def test_two_people_15_pixels_apart_both_stay_far_from_the_origin() -> None:
    offsets = [(3000.0, 2000.0), (3015.0, 2000.0)]
    people, poses = people_at(offsets, [17, 16])
    assert _similarity(people, poses)[0, 1].item() == pytest.approx(0.44, abs=0.02)
    # read as left, top, width, height, as the published code does, the same boxes are thousands of pixels large
    misread = people.boxes[:, 2] * people.boxes[:, 3]
    assert oks(poses.keypoints, poses.keypoints, misread, SIGMAS)[0, 1] > 0.98
    assert OKSSuppressor(threshold=0.8).keep(people, poses).tolist() == [0, 1]


def test_a_suppressed_pose_suppresses_nobody() -> None:
    # a chain: each resembles its neighbours, the ends do not resemble each other
    people, poses = people_at([(0, 0), (5, 0), (10, 0)], [17, 16, 15])
    similar = _similarity(people, poses)
    assert similar[0, 1] > 0.8
    assert similar[1, 2] > 0.8
    assert similar[0, 2] < 0.8
    assert OKSSuppressor(threshold=0.8).keep(people, poses).tolist() == [0, 2]


def test_the_area_is_that_of_the_person_who_stays() -> None:
    people, poses = people_at([(0, 0), (10, 0)], [17, 16])
    boxes = people.boxes.clone()
    boxes[1, 2:] = boxes[1, :2] + 1000  # judged by this area both would be one person
    people = Detections(boxes, people.scores)
    similar = _similarity(people, poses)
    assert similar[0, 1] < 0.8 < similar[1, 0]
    assert OKSSuppressor(threshold=0.8).keep(people, poses).tolist() == [0, 1]
    assert OKSSuppressor(threshold=0.8).keep(people[[1, 0]], poses[[1, 0]]).tolist() == [0, 1]
    weaker = Poses(poses.keypoints, poses.scores.flip(0), poses.visibility, poses.presence)
    assert OKSSuppressor(threshold=0.8).keep(people, weaker).tolist() == [1]


def test_what_the_stronger_person_only_guesses_at_keeps_no_duplicate() -> None:
    people, poses = people_at([(0, 0), (0, 0)], [10, 9])
    keypoints = poses.keypoints.clone()
    keypoints[1, 10:] += 60  # two guesses at the legs
    poses = Poses(keypoints, poses.scores, poses.visibility, poses.presence)
    assert OKSSuppressor().keep(people, poses).tolist() == [0]
    assert OKSSuppressor(counted="all").keep(people, poses).tolist() == [0, 1]
    # Those that only the other one is sure of do not count either.
    scores = poses.scores.flip(0)
    exchanged = Poses(keypoints.flip(0), scores, poses.visibility, poses.presence)
    assert OKSSuppressor().keep(people, exchanged).tolist() == [1]


def test_people_without_a_confident_keypoint_are_compared_by_all() -> None:
    people, poses = people_at([(0, 0), (1, 0), (300, 0)], [0, 0, 0], [0.5, 0.6, 0.4])
    assert OKSSuppressor().keep(people, poses).tolist() == [1, 2]


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, [0]), (0.7, [0]), (0.8, [0, 1]), (1.0, [0, 1])])
def test_threshold(threshold: float, expected: list[int]) -> None:
    people, poses = people_at([(0, 0), (8, 0)], [17, 16])
    assert 0.7 < _similarity(people, poses)[0, 1] < 0.8
    assert OKSSuppressor(threshold=threshold).keep(people, poses).tolist() == expected


def test_exact_copies_stay_at_threshold_one() -> None:
    assert OKSSuppressor(threshold=1.0).keep(*people_at([(0, 0), (0, 0)], [9, 9])).tolist() == [0, 1]


def test_a_keypoint_at_the_threshold_is_not_confident() -> None:
    people, poses = people_at([(0, 0), (0, 0)], [0, 0])
    scores = torch.full((2, 17), 0.25)
    scores[1, 0] = 0.5
    poses = Poses(poses.keypoints, scores, poses.visibility, poses.presence)
    assert OKSSuppressor(keypoint_threshold=0.25).keep(people, poses).tolist() == [1]
    assert OKSSuppressor(keypoint_threshold=0.5).keep(people, poses).tolist() == [0]


@settings(deadline=None)
@given(crowds)
def test_those_who_stay_differ_and_everybody_else_resembles_a_stronger_one(
    crowd: list[tuple[int, int, int, int]],
) -> None:
    people, poses = crowd_of(crowd)
    kept = OKSSuppressor().keep(people, poses).tolist()
    assert kept == sorted(set(kept))
    rank = [(n, s) for _, _, n, s in crowd]
    similar = _similarity(people, poses) > 0.8
    for row in range(len(crowd)):
        stronger = [k for k in kept if rank[k] > rank[row] and similar[k, row]]
        assert (row in kept) == (not stronger)


@pytest.mark.slow
@settings(deadline=None)
@given(crowds, st.integers(-4000, 4000), st.integers(-4000, 4000))
def test_translation_changes_nothing(crowd: list[tuple[int, int, int, int]], right: int, down: int) -> None:
    moved = [(x + right, y + down, n, s) for x, y, n, s in crowd]
    assert torch.equal(OKSSuppressor().keep(*crowd_of(moved)), OKSSuppressor().keep(*crowd_of(crowd)))


@settings(deadline=None)
@given(crowds, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_scale_changes_nothing(crowd: list[tuple[int, int, int, int]], factor: float) -> None:
    assert torch.equal(OKSSuppressor().keep(*crowd_of(crowd, factor)), OKSSuppressor().keep(*crowd_of(crowd)))


@pytest.mark.slow
@settings(deadline=None)
@given(crowds.flatmap(lambda crowd: st.tuples(st.just(crowd), st.permutations(range(len(crowd))))))
def test_row_order_changes_nothing(case: tuple[list[tuple[int, int, int, int]], list[int]]) -> None:
    crowd, order = case
    kept = OKSSuppressor().keep(*crowd_of([crowd[row] for row in order])).tolist()
    assert sorted(order[row] for row in kept) == OKSSuppressor().keep(*crowd_of(crowd)).tolist()


def test_another_keypoint_set() -> None:
    pair = KeypointSet(("a", "b"), (0.1, 0.1), (), ())
    people, poses = people_at([(0, 0), (1, 0)], [2, 1])
    two = Poses(*(getattr(poses, name)[:, :2] for name in ("keypoints", "scores", "visibility", "presence")))
    assert OKSSuppressor(keypoints=pair).keep(people, two).tolist() == [0]
    with pytest.raises(ValueError, match="expected poses of 17 keypoints, got 2"):
        OKSSuppressor().keep(people, two)


def test_people_and_poses_must_agree_in_number() -> None:
    people, poses = people_at([(0, 0), (1, 0)], [2, 1])
    with pytest.raises(ValueError, match="2 people and 1 poses"):
        OKSSuppressor().keep(people, poses[:1])


@pytest.mark.parametrize(
    "wrong", [{"counted": "most"}, {"threshold": 1.5}, {"threshold": -0.1}, {"keypoint_threshold": 30}]
)
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        OKSSuppressor(**wrong)


def test_it_is_a_registered_suppressor() -> None:
    assert isinstance(SUPPRESSORS.build({"type": "OKSSuppressor", "threshold": 0.5}), Suppressor)


@pytest.mark.cuda
def test_rows_come_back_on_the_cpu() -> None:
    people, poses = people_at([(0, 0), (300, 0), (1, 0)], [5, 4, 3])
    kept = OKSSuppressor().keep(people.to("cuda"), poses.to("cuda"))
    assert kept.device.type == "cpu"
    assert kept.tolist() == [0, 1]
