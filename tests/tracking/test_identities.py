"""Who is who: poses, masks and colours of squares."""

from dataclasses import replace

import pytest
import torch
from tracking_scene import A, B, C, instances, look, tracked

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.tracking.identities import Identities, RetiredPeople

SIGMAS = torch.tensor(COCO_KEYPOINTS.sigmas)
RULES = Identities()


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        ((), (), []),
        ((A,), (), []),
        ((), (A,), [-1]),
        ((A, B), (A, B), [0, 1]),
        ((A, B), (B, A), [1, 0]),
        ((A, B, C), (C,), [2]),
        ((A,), (A, B), [0, -1]),
        ((A,), ((8, 12, 28, 52),), [0]),
        ((A,), ((28, 10, 48, 50),), [-1]),
    ],
)
def test_matches(before, after, rows):
    people = tracked(*before) if before else tracked(A)[:0]
    assert RULES.match(people, instances(*after), look(*[9] * len(after)), SIGMAS).tolist() == rows


def test_the_best_pairs_together_and_not_the_best_one_first():
    # The first one fits both, the second one only fits the nearer.
    before = tracked((10, 10, 30, 50), (16, 10, 36, 50))
    found = instances((15, 10, 35, 50), (8, 10, 28, 50))
    assert RULES.match(before, found, look(9, 9), SIGMAS).tolist() == [1, 0]


def test_a_tie_goes_to_the_lower_id_whatever_the_order_of_rows():
    same = tracked(A, A, ids=[7, 4])
    assert RULES.match(same, instances(A), look(9), SIGMAS).tolist() == [1]
    assert RULES.match(same[[1, 0]], instances(A), look(9), SIGMAS).tolist() == [0]


def test_rows_in_another_order_give_the_same_pairs():
    people, found = tracked(A, B, C), instances((7, 10, 27, 50), (42, 12, 62, 52), (70, 10, 90, 50))
    order = [2, 0, 1]
    one = RULES.match(people, found, look(9, 9, 9), SIGMAS)
    other = RULES.match(people[order], found[order], look(9, 9, 9), SIGMAS)
    assert [order[row] for row in other.tolist()] == one[order].tolist()


def test_boxes_stand_for_masks_that_are_missing():
    people = tracked(A)
    assert RULES.match(people, instances((7, 10, 27, 50), masks=False), look(9), SIGMAS).tolist() == [0]


@pytest.mark.parametrize(
    ("looks", "found", "colours", "rows"),
    [
        ((0, 1), (A,), (0,), [0]),  # where they are supposed to be, in their colours
        ((0, 1), (C,), (0,), [0]),  # elsewhere in their colours
        ((0, 1), (C,), (1,), [1]),
        ((0, 1), (C,), (5,), [-1]),  # elsewhere in others
        ((0, 0), (C,), (0,), [-1]),  # dressed alike, and neither is supposed to be there
        ((0, 0), (A,), (0,), [0]),
        ((0, 1), (A,), (5,), [0]),  # the place alone is enough
    ],
)
def test_people_who_were_lost(looks, found, colours, rows):
    people = tracked(A, B, looks=look(*looks), lost=(0, 1))
    assert RULES.match(people, instances(*found), look(*colours), SIGMAS).tolist() == rows


@pytest.mark.parametrize(
    ("retired", "found", "rows"),
    [
        ((), (0,), [-1]),
        ((0, 1), (), []),
        ((0, 1), (1, 0), [1, 0]),
        ((0, 1), (2,), [-1]),
        ((0, 0), (0,), [-1]),  # which of the two it is cannot be told
        ((0, 1), (0, 0), [-1, -1]),  # nor here
        ((0, 1), (0, 5), [0, -1]),
    ],
)
def test_retired_people_come_back_by_their_colours(retired, found, rows):
    known = RetiredPeople(torch.arange(10, 10 + len(retired)), look(*retired))
    assert RULES.recognise(known, look(*found)).tolist() == rows
    assert Identities(same_look=1.1).recognise(known, look(*found)).tolist() == [-1] * len(found)


def test_only_so_many_are_remembered_and_the_earliest_are_forgotten():
    rules = Identities(memory=3)
    retired = rules.remember(RetiredPeople.empty(), tracked(A, B, ids=[1, 2]))
    retired = rules.remember(retired, tracked(A, B, ids=[3, 4]))
    assert retired.ids.tolist() == [2, 3, 4]
    assert rules.remember(retired, tracked(A)[:0]).ids.tolist() == [2, 3, 4]


def test_duplicates_are_those_with_the_pose_or_the_mask_of_another():
    found = instances(A, (6, 10, 26, 50), C)
    assert RULES.duplicates(found, instances(A), SIGMAS).tolist() == [True, True, False]
    assert RULES.duplicates(found, found[:0], SIGMAS).tolist() == [False] * 3
    apart = replace(found, poses=replace(found.poses, keypoints=found.poses.keypoints + 500))
    assert RULES.duplicates(apart, instances(A), SIGMAS).tolist() == [True, True, False]  # by the masks


@pytest.mark.parametrize(
    ("before", "now", "slipped"),
    [
        ((A, B), (A, B), [False, False]),
        ((A, B), (A, A), [False, True]),  # the second has slipped onto the first
        ((B, A), (A, A), [True, False]),
        ((A, A), (A, A), [False, True]),  # in a tie the lower id stays
        ((A, (6, 10, 26, 50)), ((6, 10, 26, 50), (6, 10, 26, 50)), [True, False]),
        ((A, B, C), (A, A, A), [False, True, True]),
        ((A, B), (A, (5, 10, 25, 30)), [False, False]),  # half of the first
    ],
)
def test_of_two_on_one_body_the_one_stays_whose_body_it_was(before, now, slipped):
    assert RULES.slipped(tracked(*before), instances(*now).masks.bits).tolist() == slipped
    ids = list(range(len(before), 0, -1))
    if len({*before}) == len(before):
        assert RULES.slipped(tracked(*before, ids=ids), instances(*now).masks.bits).tolist() == slipped


def test_nobody_slips_onto_nobody():
    empty = torch.zeros(2, 60, 100, dtype=torch.bool)
    assert RULES.slipped(tracked(A, B), empty).tolist() == [False, False]
    assert RULES.slipped(tracked(A)[:0], empty[:0]).tolist() == []


@pytest.mark.parametrize("options", [{"threshold": 2.0}, {"lead": -1.0}, {"same_pose": 1.5}, {"memory": -1}])
def test_values_that_make_no_sense(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Identities(**options)
