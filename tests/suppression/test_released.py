"""The release's rules, which are compared with ours: where they differ, and that they do what the release does."""

import math

import pytest
import torch
from alike_people import crowd_of, crowds, people_at
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.registry import OVERLAP_RULES, SUPPRESSORS
from bmp.stages import OverlapRule, Suppressor
from bmp.structures import Masks, Poses
from bmp.suppression.oks import OKSSuppressor
from bmp.suppression.released import OldMasksStay, ReleasedOKSSuppressor


def _by_hand(boxes, keypoints, scores, threshold=0.8, sure=0.5):
    """The release's rule in plain numbers, pair by pair."""
    count = len(boxes)
    boxes, keypoints = boxes.double(), keypoints.double()
    pairs = {}
    for i in range(count):
        left, top, width, height = boxes[i].tolist()
        chosen = [k for k in range(17) if scores[i, k] > sure]
        for j in range(count):
            total = 0.0
            for k in chosen or range(17):
                dx, dy = (keypoints[j, k] - keypoints[i, k]).tolist()
                if not chosen:
                    x, y = keypoints[j, k].tolist()
                    dx = max(0.0, left - width - x) + max(0.0, x - left - 2 * width)
                    dy = max(0.0, top - height - y) + max(0.0, y - top - 2 * height)
                falloff = 2 * width * height * (2 * COCO_KEYPOINTS.sigmas[k]) ** 2
                total += math.exp(-(dx * dx + dy * dy) / falloff)
            if i != j:
                pairs[i, j] = total / len(chosen or range(17))
    gone = set()
    sure_of = (scores > sure).sum(1).tolist()
    while pairs and max(pairs.values()) > threshold:
        i, j = max(pairs, key=lambda pair: (pairs[pair], [-n for n in pair]))
        loser = j if sure_of[i] > sure_of[j] else i
        gone.add(loser)
        pairs = {pair: value for pair, value in pairs.items() if pair != (i, j) and pair[1] != loser}
    return [row for row in range(count) if row not in gone]


def test_who_was_removed_goes_on_removing() -> None:
    people, poses = people_at([(0, 0), (5, 0), (10, 0)], [17, 16, 15])
    assert ReleasedOKSSuppressor().keep(people, poses).tolist() == [0]
    assert OKSSuppressor().keep(people, poses).tolist() == [0, 2]


def test_neighbours_far_from_the_corner_are_one() -> None:
    people, poses = people_at([(3000, 2000), (3015, 2000)], [17, 16])
    assert ReleasedOKSSuppressor().keep(people, poses).tolist() == [0]
    assert OKSSuppressor().keep(people, poses).tolist() == [0, 1]


def test_somebody_without_a_confident_keypoint_goes_when_anybody_is_near() -> None:
    people, poses = people_at([(0, 0), (50, 100)], [0, 17])
    assert ReleasedOKSSuppressor().keep(people, poses).tolist() == [1]
    assert ReleasedOKSSuppressor().keep(people[:1], poses[:1]).tolist() == [0]
    assert OKSSuppressor().keep(people, poses).tolist() == [0, 1]


def test_the_reference_goes_in_a_tie() -> None:
    people, poses = people_at([(0, 0), (1, 0)], [9, 9], [0.9, 0.1])
    # The second, whose misread area is the larger one, is the reference of the most similar pair.
    assert ReleasedOKSSuppressor().keep(people, poses).tolist() == [0]


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(crowds, st.integers(0, 300))
def test_it_is_the_release_pair_by_pair(crowd: list[tuple[int, int, int, int]], right: int) -> None:
    people, poses = crowd_of([(x + right, y, confident, score) for x, y, confident, score in crowd])
    expected = _by_hand(people.boxes, poses.keypoints, poses.scores)
    assert ReleasedOKSSuppressor().keep(people, poses).tolist() == expected


def test_mistakes() -> None:
    people, poses = people_at([(0, 0), (1, 0)], [2, 1])
    with pytest.raises(UserError, match="ReleasedOKSSuppressor: expected threshold"):
        ReleasedOKSSuppressor(threshold=2)
    with pytest.raises(ValueError, match="2 people and 1 poses"):
        ReleasedOKSSuppressor().keep(people, poses[:1])
    two = Poses(*(getattr(poses, name)[:, :2] for name in ("keypoints", "scores", "visibility", "presence")))
    with pytest.raises(ValueError, match="expected poses of 17 keypoints, got 2"):
        ReleasedOKSSuppressor().keep(people, two)


def test_they_are_registered() -> None:
    assert isinstance(SUPPRESSORS.build({"type": "ReleasedOKSSuppressor"}), Suppressor)
    assert isinstance(OVERLAP_RULES.build({"type": "OldMasksStay"}), OverlapRule)


def _row_of_masks(*spans: tuple[int, int]) -> torch.Tensor:
    bits = torch.zeros(len(spans), 1, 12, dtype=torch.bool)
    for row, (start, stop) in enumerate(spans):
        bits[row, :, start:stop] = True
    return bits


@pytest.mark.parametrize(
    ("spans", "scores", "rounds", "expected"),
    [
        # within a round each pixel goes to the better mask
        ([(0, 6), (4, 10)], [0.9, 0.8], [1, 1], [(0, 6), (6, 10)]),
        ([(0, 6), (4, 10)], [0.5, 0.5], [1, 1], [(0, 6), (6, 10)]),
        # a worse new mask gives way, a better one takes the pixels, and the old one keeps them as well
        ([(0, 6), (4, 10)], [0.9, 0.8], [1, 2], [(0, 6), (6, 10)]),
        ([(0, 6), (4, 10)], [0.8, 0.9], [1, 2], [(0, 6), (4, 10)]),
        ([(0, 6), (4, 10)], [0.5, 0.5], [1, 2], [(0, 6), (4, 10)]),
        # an old mask claims what it kept in its own round
        ([(0, 6), (4, 10), (3, 8)], [0.9, 0.7, 0.8], [1, 1, 2], [(0, 6), (6, 10), (6, 8)]),
        ([], [], [], []),
    ],
)
def test_only_new_masks_give_way(
    spans: list[tuple[int, int]], scores: list[float], rounds: list[int], expected: list[tuple[int, int]]
) -> None:
    bits = _row_of_masks(*spans)
    masks = Masks(bits.clone(), torch.tensor(scores))
    resolved = OldMasksStay().resolve(masks, torch.tensor(rounds, dtype=torch.int64))
    assert torch.equal(resolved, _row_of_masks(*expected))
    assert torch.equal(masks.bits, bits)
