"""Prompts: which keypoints are chosen, negative points, boxes, and what never changes."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, keypoint_set
from bmp.registry import BOX_PROMPTS, NEGATIVES, PROMPTERS
from bmp.segmenters.prompting import (
    ClosestOther,
    GivenBox,
    InflatedBox,
    LeastVisible,
    MaxSpread,
    MaxVisibility,
    select_max_spread,
    select_max_visibility,
)
from bmp.stages import Prompter
from bmp.structures import Detections, Poses, Prompts

LINE = KeypointSet(names=("a", "b", "c", "d"), sigmas=(0.1,) * 4, flip_pairs=(), skeleton=(), face=(0, 1))


def _poses(keypoints: list[Any], visibility: list[Any], **other: Tensor | None) -> Poses:
    visible = torch.tensor(visibility, dtype=torch.float32)
    rows, count = visible.shape
    return Poses(
        torch.tensor(keypoints, dtype=torch.float32).reshape(rows, count, 2),
        **{"scores": visible, "visibility": visible, "presence": visible, **other},  # type: ignore[arg-type]
    )


def _people(count: int) -> Detections:
    corner = torch.arange(count, dtype=torch.float32)[:, None] * 100
    return Detections(torch.cat((corner, corner, corner + 10, corner + 20), dim=1), torch.ones(count))


def _on_a_line(*rows: tuple[list[float], list[float]]) -> Poses:
    """Poses of four keypoints with the given x, all of y 0, and visibilities."""
    return _poses([[(x, 0) for x in xs] for xs, _ in rows], [vs for _, vs in rows])


NOBODY = Poses.empty(4)
ANYBODY = _on_a_line(([0, 10, 20, 30], [0.5, 0.9, 0.2, 0.7]))


# --- which keypoints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visibility", "count", "threshold", "expected"),
    [
        ([], 3, 0.0, []),
        ([[0.5, 0.9, 0.2, 0.7]], 3, 0.0, [[1, 3, 0]]),
        ([[0.5, 0.9, 0.2, 0.7]], 1, 0.0, [[1]]),
        ([[0.5, 0.9, 0.2, 0.7]], 3, 0.7, [[1, 3, -1]]),
        ([[0.5, 0.9, 0.2, 0.7]], 6, 0.0, [[1, 3, 0, 2, -1, -1]]),
        # even who is hardly seen has its best points
        ([[0.0, 0.01, 0.0, 0.02]], 3, 0.0, [[3, 1, 0]]),
        ([[0.5, 0.5, 0.5, 0.5]], 3, 0.0, [[0, 1, 2]]),
        ([[-1.0, 0.9, -1.0, 0.7]], 3, 0.0, [[1, 3, -1]]),
        ([[0.1, 0.1, 0.1, 0.1]], 2, 0.2, [[-1, -1]]),
    ],
)
def test_select_max_visibility(visibility: list[Any], count: int, threshold: float, expected: list[Any]) -> None:
    chosen = select_max_visibility(torch.tensor(visibility).reshape(-1, 4), count, threshold)
    assert chosen.dtype == torch.int64
    assert chosen.shape == (len(visibility), count)
    assert chosen.tolist() == expected


@pytest.mark.parametrize(
    ("xs", "visibility", "count", "threshold", "face", "expected"),
    [
        ([], [], 3, 0.0, (), []),
        # start at the most visible, then the farthest, then the one between
        ([[0, 10, 20, 60]], [[0.5, 0.9, 0.8, 0.7]], 3, 0.0, (), [[1, 3, 2]]),
        ([[0, 10, 20, 60]], [[0.5, 0.9, 0.8, 0.7]], 6, 0.0, (), [[1, 3, 2, 0, -1, -1]]),
        # keypoints under the threshold are left out, the one at it is not
        ([[0, 10, 20, 60]], [[0.5, 0.9, 0.8, 0.7]], 4, 0.8, (), [[1, 2, -1, -1]]),
        ([[0, 10, 20, 60]], [[0.1, 0.2, 0.1, 0.1]], 2, 0.3, (), [[-1, -1]]),
        # of the face only the most visible takes part, far away as the other may be
        ([[900, 10, 20, 60]], [[0.5, 0.9, 0.8, 0.7]], 4, 0.0, (0, 1), [[1, 3, 2, -1]]),
        ([[900, 10, 20, 60]], [[0.9, 0.5, 0.8, 0.7]], 4, 0.0, (0, 1), [[0, 2, 3, -1]]),
        ([[900, 10, 20, 60]], [[0.2, 0.1, 0.8, 0.7]], 4, 0.3, (0, 1), [[2, 3, -1, -1]]),
        # the farthest from all of those chosen, not from the last one or from their mean
        ([[0, 100, 54, 1]], [[0.9, 0.8, 0.7, 0.6]], 3, 0.0, (), [[0, 1, 2]]),
    ],
)
def test_select_max_spread(
    xs: list[Any],
    visibility: list[Any],
    count: int,
    threshold: float,
    face: tuple[int, ...],
    expected: list[Any],
) -> None:
    x = torch.tensor(xs, dtype=torch.float32).reshape(-1, 4)
    keypoints = torch.stack((x, torch.zeros_like(x)), dim=2)
    chosen = select_max_spread(keypoints, torch.tensor(visibility).reshape(-1, 4), count, threshold, face=face)
    assert chosen.dtype == torch.int64
    assert chosen.shape == (len(xs), count)
    assert chosen.tolist() == expected


def _spread_by_the_book(
    keypoints: list[list[float]],
    visibility: list[float],
    confidence: list[float],
    count: int,
    threshold: float,
    quantile: float | None,
    face: tuple[int, ...],
) -> list[int]:
    """The rules of MaxSpread for one person, one keypoint after another, as they are told."""
    usable = [k for k, v in enumerate(visibility) if v >= threshold]
    seen = [k for k in usable if k in face]
    usable = [k for k in usable if k not in face or visibility[k] == max(visibility[f] for f in seen)]
    chosen: list[int] = []
    while usable and len(chosen) < min(count, len(usable)):
        rest = [k for k in usable if k not in chosen]
        if not chosen:
            chosen.append(max(rest, key=lambda k: confidence[k]))
            continue
        if quantile is not None:
            ranked = sorted(-math.inf if k in chosen else confidence[k] for k in usable)
            least = ranked[math.ceil(round(quantile * (len(usable) - 1), 6))]
            rest = [k for k in rest if confidence[k] >= least]
        chosen.append(max(rest, key=lambda k: min(math.dist(keypoints[k], keypoints[c]) for c in chosen)))
    return chosen + [-1] * (count - len(chosen))


@st.composite
def crowds(draw: st.DrawFn, count: int = 17) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints, visibility and confidence of some people; no two values of a person are the same.

    Values are multiples of 1/64, the same number in float32 and in Python, so that some lie exactly at a threshold.
    """
    seed = draw(st.integers(0, 2**31))
    people = draw(st.integers(0, 4))
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(people, 2, 64, generator=generator).argsort(dim=2)[:, :, :count] / 64
    return torch.rand(people, count, 2, generator=generator) * 400, values[:, 0], values[:, 1]


@settings(deadline=None)
@given(
    crowds(),
    st.integers(1, 20),
    st.sampled_from([0.0, 0.25, 0.5, 0.875]),
    st.sampled_from([None, 0.0, 0.5, 0.8, 0.99]),
    st.sampled_from([(), (0, 1, 2)]),
)
def test_select_max_spread_goes_by_the_book(
    crowd: tuple[Tensor, Tensor, Tensor], count: int, threshold: float, quantile: float | None, face: tuple[int, ...]
) -> None:
    keypoints, visibility, confidence = crowd
    chosen = select_max_spread(
        keypoints, visibility, count, threshold, confidence=confidence, candidate_quantile=quantile, face=face
    )
    assert chosen.tolist() == [
        _spread_by_the_book(k, v, c, count, threshold, quantile, face)
        for k, v, c in zip(keypoints.tolist(), visibility.tolist(), confidence.tolist(), strict=True)
    ]


@settings(deadline=None)
@given(crowds(), st.integers(1, 20), st.sampled_from([None, 0.8]))
def test_spread_starts_at_the_most_visible_and_takes_one_of_the_face(
    crowd: tuple[Tensor, Tensor, Tensor], count: int, quantile: float | None
) -> None:
    keypoints, visibility, _ = crowd
    face = COCO_KEYPOINTS.face
    chosen = select_max_spread(keypoints, visibility, count, 0.0, candidate_quantile=quantile, face=face)
    assert torch.equal(chosen[:, 0], visibility.argmax(dim=1))
    assert (torch.isin(chosen, torch.tensor(face)).sum(dim=1) <= 1).all()
    for row in chosen.tolist():
        own = [k for k in row if k >= 0]
        assert len(own) == len(set(own)) == min(count, 15)
        assert row == own + [-1] * (count - len(own))


@pytest.mark.slow
@settings(deadline=None)
@given(crowds(), st.integers(-1000, 1000), st.integers(-1000, 1000), st.sampled_from([0.25, 1.0, 4.0]))
def test_spread_does_not_depend_on_place_and_size(
    crowd: tuple[Tensor, Tensor, Tensor], right: int, down: int, factor: float
) -> None:
    keypoints, visibility, _ = crowd
    keypoints = keypoints.double()
    moved = keypoints * factor + torch.tensor([right, down])
    assert torch.equal(
        select_max_spread(moved, visibility, 6, 0.3, face=(0, 1, 2)),
        select_max_spread(keypoints, visibility, 6, 0.3, face=(0, 1, 2)),
    )


def test_selections_leave_their_arguments_alone() -> None:
    keypoints, visibility = ANYBODY.keypoints.clone(), ANYBODY.visibility.clone()
    select_max_spread(ANYBODY.keypoints, ANYBODY.visibility, 3, 0.3, face=(0, 1))
    select_max_visibility(ANYBODY.visibility, 3)
    assert torch.equal(ANYBODY.keypoints, keypoints)
    assert torch.equal(ANYBODY.visibility, visibility)


def test_with_binary_visibility_spread_takes_annotated_keypoints_only() -> None:
    annotated = _on_a_line(([0, 10, 60, 900], [1, 1, 1, 0]))
    prompts = MaxSpread(count=3, keypoints=LINE).prompts(_people(1), annotated, NOBODY)
    assert sorted(prompts.keypoints[0].tolist()) == [-1, 0, 2]  # one of the two of the face, and not the hidden one


# --- prompts ---------------------------------------------------------------------------------------------------------

PROMPTERS_TO_TEST = [
    pytest.param(MaxVisibility(count=2), 2, id="visibility"),
    pytest.param(MaxVisibility(count=9, negative=LeastVisible(2)), 11, id="visibility, more than there are"),
    pytest.param(MaxVisibility(negative=ClosestOther(), box=GivenBox()), 4, id="visibility, closest other, box"),
    pytest.param(MaxSpread(count=2, keypoints=LINE), 2, id="spread"),
    pytest.param(MaxSpread(keypoints=LINE, negative=ClosestOther(9), box=InflatedBox()), 15, id="spread, all others"),
    pytest.param(MaxSpread(keypoints=LINE, candidate_quantile=0.8, ranking="scores"), 6, id="spread as published"),
]


@pytest.mark.parametrize(("prompter", "points"), PROMPTERS_TO_TEST)
@pytest.mark.parametrize("others", [NOBODY, ANYBODY], ids=["alone", "with others"])
def test_zero_people(prompter: Prompter, points: int, others: Poses) -> None:
    prompts = prompter.prompts(Detections.empty(), NOBODY, others)
    assert prompts.points.shape == (0, points, 2)
    assert prompts.boxes is None or prompts.boxes.shape == (0, 4)


@st.composite
def some_people(draw: st.DrawFn) -> Poses:
    count = draw(st.integers(0, 4))
    return (
        Poses.empty(4)
        if not count
        else _poses(
            torch.tensor(
                [[(draw(st.integers(0, 400)), draw(st.integers(0, 400))) for _ in range(4)] for _ in range(count)]
            ).tolist(),
            [
                [v / 1000 for v in draw(st.lists(st.integers(0, 1000), min_size=4, max_size=4, unique=True))]
                for _ in range(count)
            ],
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize(("prompter", "points"), PROMPTERS_TO_TEST)
@settings(deadline=None)
@given(poses=some_people(), others=some_people())
def test_every_person_gets_the_same_number_of_consistent_points(
    prompter: Prompter, points: int, poses: Poses, others: Poses
) -> None:
    prompts = prompter.prompts(_people(len(poses)), poses, others)
    assert prompts.points.shape == (len(poses), points, 2)
    assert not prompts.points[prompts.labels == -1].any()
    assert (prompts.keypoints[prompts.labels == -1] == -1).all()
    assert (prompts.keypoints[prompts.labels == 1] >= 0).all()
    for row, keypoint in enumerate(prompts.keypoints):
        own = keypoint >= 0
        assert torch.equal(prompts.points[row][own], poses.keypoints[row][keypoint[own]])
        assert len(keypoint[own].unique()) == own.sum()
    positive = (prompts.labels == 1).any(dim=1)
    assert not (prompts.labels[~positive] == 0).any()


@pytest.mark.slow
@pytest.mark.parametrize(("prompter", "points"), PROMPTERS_TO_TEST)
@settings(deadline=None)
@given(poses=some_people(), others=some_people())
def test_prompts_move_with_the_rows(prompter: Prompter, points: int, poses: Poses, others: Poses) -> None:
    people = _people(len(poses))
    rows = list(reversed(range(len(poses))))
    straight, reverse = prompter.prompts(people, poses, others), prompter.prompts(people[rows], poses[rows], others)
    assert torch.equal(reverse.labels, straight.labels[rows])
    assert torch.equal(reverse.keypoints, straight.keypoints[rows])
    if straight.boxes is not None and reverse.boxes is not None:
        assert torch.equal(reverse.boxes, straight.boxes[rows])


def test_max_visibility_points_labels_and_keypoints() -> None:
    prompts = MaxVisibility(count=3, threshold=0.6).prompts(_people(1), ANYBODY, NOBODY)
    assert prompts.points.tolist() == [[[10, 0], [30, 0], [0, 0]]]
    assert prompts.labels.tolist() == [[1, 1, -1]]
    assert prompts.keypoints.tolist() == [[1, 3, -1]]
    assert prompts.boxes is None


def test_max_spread_points_labels_and_keypoints() -> None:
    prompts = MaxSpread(count=3, threshold=0.3, keypoints=LINE).prompts(_people(1), ANYBODY, NOBODY)
    assert prompts.points.tolist() == [[[10, 0], [30, 0], [0, 0]]]
    assert prompts.labels.tolist() == [[1, 1, -1]]
    assert prompts.keypoints.tolist() == [[1, 3, -1]]


SIGNALS = {
    "visibility": [0.9, 0.1, 0.1, 0.1],
    "presence": [0.1, 0.9, 0.1, 0.1],
    "expected_oks": [0.1, 0.1, 0.9, 0.1],
    "scores": [0.1, 0.1, 0.1, 0.9],
}


@pytest.mark.parametrize(("signal", "expected"), [(name, row) for row, name in enumerate(SIGNALS)])
@pytest.mark.parametrize(
    ("policy", "arguments"), [(MaxVisibility, {"count": 1}), (MaxSpread, {"count": 1, "keypoints": LINE})]
)
def test_signal(signal: str, expected: int, policy: Any, arguments: dict[str, Any]) -> None:
    keypoints = ANYBODY.keypoints
    poses = Poses(keypoints, **{name: torch.tensor([values]) for name, values in SIGNALS.items()})
    prompts = policy(**arguments, signal=signal).prompts(_people(1), poses, NOBODY)
    assert prompts.keypoints.tolist() == [[expected]]


def test_ranking_says_where_to_start_and_the_signal_who_is_left_out() -> None:
    poses = _poses(
        [[(0, 0), (10, 0), (20, 0), (30, 0)]], [[0.1, 0.8, 0.9, 0.7]], scores=torch.tensor([[1.0, 0.4, 0.5, 0.6]])
    )
    both = MaxSpread(count=1, keypoints=LINE, ranking="scores").prompts(_people(1), poses, NOBODY)
    assert both.keypoints.tolist() == [[3]]
    assert MaxSpread(count=1, keypoints=LINE).prompts(_people(1), poses, NOBODY).keypoints.tolist() == [[2]]


@pytest.mark.parametrize(
    "prompter",
    [
        MaxVisibility(signal="expected_oks"),
        MaxSpread(signal="expected_oks", keypoints=LINE),
        MaxSpread(ranking="expected_oks", keypoints=LINE),
        MaxVisibility(negative=LeastVisible(signal="expected_oks")),
        MaxVisibility(negative=ClosestOther(signal="expected_oks")),
    ],
)
def test_a_signal_that_the_poses_lack(prompter: Prompter) -> None:
    with pytest.raises(UserError, match="signal 'expected_oks': this pose estimator gives none"):
        prompter.prompts(_people(1), ANYBODY, NOBODY)


# --- negative points -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positives", "negatives", "labels", "keypoints"),
    [
        (1, 1, [1, 0], [1, 2]),
        (2, 2, [1, 1, 0, 0], [1, 3, 2, 0]),
        # a positive point is never a negative one
        (3, 2, [1, 1, 1, 0, -1], [1, 3, 0, 2, -1]),
        (4, 1, [1, 1, 1, 1, -1], [1, 3, 0, 2, -1]),
        (6, 1, [1, 1, 1, 1, -1, -1, -1], [1, 3, 0, 2, -1, -1, -1]),
    ],
)
def test_least_visible(positives: int, negatives: int, labels: list[int], keypoints: list[int]) -> None:
    prompter = MaxVisibility(positives, negative=LeastVisible(negatives))
    prompts = prompter.prompts(_people(1), ANYBODY, NOBODY)
    assert prompts.labels.tolist() == [labels]
    assert prompts.keypoints.tolist() == [keypoints]


def test_least_visible_of_certain_and_hidden_keypoints() -> None:
    poses = _on_a_line(([0, 10, 20, 30], [1.0, 1.0, 1.0, 0.0]), ([0, 10, 20, 30], [1.0, 1.0, 1.0, 1.0]))
    prompts = MaxVisibility(1, negative=LeastVisible(3)).prompts(_people(2), poses, NOBODY)
    assert prompts.keypoints.tolist() == [[0, 3, 1, 2], [0, 1, 2, 3]]


FIRST = ([0, 1, 2, 3], [0.9, 0.0, 0.0, 0.0])  # its only prompt is at 0
SECOND = ([40, 50, 7, 60], [0.9, 0.8, 0.1, 0.8])  # its hidden keypoint lies on the first


@pytest.mark.parametrize(
    ("poses", "others", "count", "threshold", "expected"),
    [
        ([FIRST], [], 1, 0.3, [[None]]),
        ([FIRST], [SECOND], 1, 0.3, [[40]]),
        ([FIRST], [SECOND], 2, 0.3, [[40, 50]]),
        ([FIRST], [SECOND], 1, 0.0, [[7]]),
        ([FIRST], [SECOND], 5, 0.3, [[40, 50, 60, None, None]]),
        # other new people count as well, and nobody's own keypoints
        ([FIRST, SECOND], [], 1, 0.3, [[40], [0]]),
        ([FIRST, SECOND], [([-30, -20, 90, 95], [0.9] * 4)], 1, 0.3, [[-20], [0]]),
        # the distance is to the positive prompts: this one's hidden keypoints lie at 45
        ([([0, 45, 45, 45], [0.9, 0, 0, 0])], [([-5, 45, 45, 45], [0.9] * 4)], 1, 0.3, [[-5]]),
    ],
)
def test_closest_other(
    poses: list[Any], others: list[Any], count: int, threshold: float, expected: list[list[float | None]]
) -> None:
    prompter = MaxVisibility(1, negative=ClosestOther(count, threshold))
    prompts = prompter.prompts(_people(len(poses)), _on_a_line(*poses), _on_a_line(*others) if others else NOBODY)
    found = [
        [x if label == 0 else None for x, label in zip(xs, labels, strict=True)]
        for xs, labels in zip(prompts.points[:, 1:, 0].tolist(), prompts.labels[:, 1:].tolist(), strict=True)
    ]
    assert found == expected
    assert (prompts.keypoints[:, 1:] == -1).all()


def test_closest_to_any_of_the_positive_prompts() -> None:
    poses = _on_a_line(([0, 100, 1, 2], [0.9, 0.8, 0.0, 0.0]))
    others = _on_a_line(([-30, 120, 60, 61], [0.9] * 4))
    prompts = MaxVisibility(2, negative=ClosestOther()).prompts(_people(1), poses, others)
    assert prompts.points[0, 2].tolist() == [120, 0]


@pytest.mark.parametrize(("closest_to", "expected"), [("prompts", [-30, 60]), ("box_center", [61, 60])])
def test_closest_to_the_prompts_or_to_the_middle_of_the_box(closest_to: Any, expected: list[int]) -> None:
    """The only prompt is at the left edge of the box, and somebody stands in front of its middle."""
    poses = _on_a_line(([0, 100, 1, 2], [0.9, 0.0, 0.0, 0.0]))
    others = _on_a_line(([-30, 120, 60, 61], [0.9] * 4))
    people = Detections(torch.tensor([[0.0, -10.0, 140.0, 10.0]]), torch.ones(1))
    prompts = MaxVisibility(1, negative=ClosestOther(2, closest_to=closest_to)).prompts(people, poses, others)
    assert prompts.points[0, 1:, 0].tolist() == expected


def test_padding_is_not_a_place_to_be_close_to() -> None:
    poses = _on_a_line(([500, 510, 520, 530], [0.9, 0.1, 0.1, 0.1]))
    others = _on_a_line(([0, 560, 700, 800], [0.9] * 4))  # padding lies at the origin
    prompts = MaxVisibility(3, threshold=0.5, negative=ClosestOther()).prompts(_people(1), poses, others)
    assert prompts.labels.tolist() == [[1, -1, -1, 0]]
    assert prompts.points[0, 3].tolist() == [560, 0]


@pytest.mark.parametrize("negative", [LeastVisible(), ClosestOther()])
def test_who_has_no_positive_point_gets_no_negative_one(negative: Any) -> None:
    hidden = _on_a_line(([0, 1, 2, 3], [0.1] * 4))
    prompts = MaxSpread(2, threshold=0.5, keypoints=LINE, negative=negative).prompts(_people(1), hidden, ANYBODY)
    assert prompts.labels.tolist() == [[-1, -1, -1]]
    assert prompts.keypoints.tolist() == [[-1, -1, -1]]
    assert not prompts.points.any()


def test_closest_other_is_exact_far_from_the_origin() -> None:
    far = 8000.0
    poses = _on_a_line(([far, 0, 0, 0], [0.9, 0, 0, 0]))
    crowd = _on_a_line(*(([far + 3 + i, far + 200, far + 300, far + 400], [0.9] * 4) for i in range(10)))
    prompts = MaxVisibility(1, negative=ClosestOther(4)).prompts(_people(1), poses, crowd)
    assert (prompts.points[0, 1:, 0] - far).tolist() == [3, 4, 5, 6]


# --- boxes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (None, None),
        (GivenBox(), [[0, 0, 10, 20], [100, 100, 110, 120]]),
        (InflatedBox(), [[-5, -10, 15, 30], [95, 90, 115, 130]]),
        (InflatedBox(factor=0.0), [[0, 0, 10, 20], [100, 100, 110, 120]]),
    ],
)
def test_boxes(box: Any, expected: list[list[float]] | None) -> None:
    poses = Poses.concat([ANYBODY, ANYBODY])
    for prompter in (MaxVisibility(box=box), MaxSpread(keypoints=LINE, box=box)):
        prompts: Prompts = prompter.prompts(_people(2), poses, NOBODY)
        assert (None if prompts.boxes is None else prompts.boxes.tolist()) == expected


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "arguments", "message"),
    [
        (MaxVisibility, {"count": 0}, "count: expected at least 1 point, got 0"),
        (MaxSpread, {"count": 0}, "count"),
        (LeastVisible, {"count": 0}, "count"),
        (ClosestOther, {"count": -1}, "count"),
        (
            MaxVisibility,
            {"signal": "oks"},
            "signal: expected one of visibility, presence, expected_oks, scores, got 'oks'",
        ),
        (MaxSpread, {"signal": "score"}, "signal"),
        (MaxSpread, {"ranking": "score"}, "signal"),
        (LeastVisible, {"signal": "score"}, "signal"),
        (ClosestOther, {"signal": "score"}, "signal"),
        (MaxVisibility, {"threshold": 50}, r"threshold: expected a number in \[0, 1\], got 50"),
        (MaxSpread, {"threshold": -0.1}, "threshold"),
        (ClosestOther, {"threshold": 2}, "threshold"),
        (ClosestOther, {"closest_to": "box"}, "closest_to: expected prompts or box_center, got 'box'"),
        (MaxSpread, {"candidate_quantile": 80}, "candidate_quantile: expected None or 0 <= q < 1, got 80"),
        (MaxSpread, {"candidate_quantile": 1.0}, "candidate_quantile"),
        (InflatedBox, {"factor": -0.5}, "factor"),
    ],
)
def test_arguments_that_make_no_sense(policy: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        policy(**arguments)


def test_people_and_poses_must_agree_in_number() -> None:
    with pytest.raises(ValueError, match="2 people and 1 poses"):
        MaxVisibility().prompts(_people(2), ANYBODY, NOBODY)


def test_spread_needs_the_keypoints_it_knows() -> None:
    with pytest.raises(ValueError, match="expected poses of 17 keypoints, got 4"):
        MaxSpread().prompts(_people(1), ANYBODY, NOBODY)


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        (PROMPTERS, ["MaxVisibility", "MaxSpread"]),
        (NEGATIVES, ["LeastVisible", "ClosestOther"]),
        (BOX_PROMPTS, ["GivenBox", "InflatedBox"]),
    ],
)
def test_policies_are_registered(registry: Any, names: list[str]) -> None:
    for name in names:
        assert registry.get(name) is not None


def test_prompters_fit_the_protocol() -> None:
    assert isinstance(MaxVisibility(), Prompter)
    assert isinstance(MaxSpread(), Prompter)


@pytest.mark.cuda
@pytest.mark.parametrize(("prompter", "points"), PROMPTERS_TO_TEST)
def test_a_gpu_gives_the_same_prompts(prompter: Prompter, points: int) -> None:
    poses = _on_a_line(FIRST, SECOND)
    here = prompter.prompts(_people(2), poses, ANYBODY)
    there = prompter.prompts(_people(2).to("cuda"), poses.to("cuda"), ANYBODY.to("cuda"))
    assert there.device.type == "cuda"
    assert torch.equal(there.points.cpu(), here.points)
    assert torch.equal(there.labels.cpu(), here.labels)
    assert torch.equal(there.keypoints.cpu(), here.keypoints)


@pytest.mark.parametrize("prompter", [MaxVisibility, partial(MaxSpread, threshold=0.0)])
def test_further_keypoints_may_be_kept_from_being_prompts(prompter):
    known = keypoint_set("pmpose")
    keypoints = torch.arange(2 * len(known), dtype=torch.float32).reshape(1, -1, 2)
    visibility = torch.linspace(0.1, 0.9, len(known))[None]
    poses = Poses(keypoints, visibility, visibility, visibility)
    people = Detections(torch.tensor([[0.0, 0.0, 50.0, 50.0]]), torch.ones(1))
    everything = prompter(count=4, keypoints=known).prompts(people, poses, poses[:0])
    coco = prompter(count=4, keypoints=known, among=COCO_KEYPOINTS).prompts(people, poses, poses[:0])
    assert everything.keypoints.max() == 22
    assert coco.keypoints.max() == 16
    assert coco.labels.tolist() == [[1, 1, 1, 1]]
    many = prompter(count=23, keypoints=known, among=COCO_KEYPOINTS).prompts(people, poses, poses[:0])
    assert ((many.keypoints >= 0) & (many.keypoints < 17)).sum() == (many.labels == 1).sum() >= 15
