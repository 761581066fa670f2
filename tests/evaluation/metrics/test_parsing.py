"""Parsing's metrics by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bmp.evaluation.metrics.parsing import (
    IGNORED,
    PeopleParsing,
    _confusion_of,
    _Placed,
    average_precision,
    confusion,
    ious,
    map_numbers,
)


def grid(text):
    return np.array([[int(value) for value in row] for row in text.split()], np.uint8)


TRUTH, ANSWER, CORNER = grid("0000 0550 0990"), grid("0000 0555 0970"), grid("5000 0000 0000")
HALF = (1, 1, 1, 1, 1, 0, 0, 0, 0)


def test_iou_by_hand():
    found = ious(confusion(TRUTH, ANSWER, 20))
    assert found[[0, 5, 7, 9]].tolist() == pytest.approx([7 / 8, 2 / 3, 0, 1 / 2])
    assert np.nanmean(found) == pytest.approx(0.5104, abs=1e-4)
    assert np.isnan(found).sum() == 16


@pytest.mark.parametrize(
    ("people", "answers", "scores", "ap", "pcp"),
    [
        ([TRUTH], [ANSWER], [0.9], HALF, (1, 1, 1, 1, 0.5, 0, 0, 0, 0)),
        ([TRUTH], [TRUTH], [0.9], (1,) * 9, (1,) * 9),
        ([TRUTH], [CORNER, ANSWER], [0.95, 0.9], (1, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0), (0, 1, 1, 1, 0.5, 0, 0, 0, 0)),
        ([TRUTH, grid("1111 0000 0000")], [ANSWER], [0.9], (0.5,) * 5 + (0,) * 4, (0.5, 0.5, 0.5, 0.5, 0.25, 0, 0, 0, 0)),
        ([TRUTH], [TRUTH, TRUTH], [0.9, 0.8], (1,) * 9, (1,) * 9),  # a second answer comes after recall is 1
        ([TRUTH], [TRUTH], [0.0009], (0,) * 9, (0,) * 9),  # too unsure to count
        ([TRUTH], [], [], (0,) * 9, (0,) * 9),
    ],
)  # fmt: skip
def test_people_by_hand(people, answers, scores, ap, pcp):
    parsing = PeopleParsing(20)
    parsing.add(people, answers, scores)
    found = parsing.numbers()
    assert found.ap == pytest.approx(ap)
    assert found.pcp == pytest.approx(pcp)
    assert found.ap_vol == pytest.approx(sum(ap) / 9)
    assert found.ap_50 == pytest.approx(ap[4])


def test_answers_where_nobody_is_labelled_are_false_alarms():
    parsing = PeopleParsing(20)
    parsing.add([], [CORNER], [0.95])
    assert parsing.numbers().ap is None
    parsing.add([TRUTH], [TRUTH], [0.9])
    assert parsing.numbers().ap == pytest.approx((0.5,) * 9)


def test_regions_count_without_exclusivity():
    parsing = PeopleParsing(20)
    parsing.add([TRUTH], [TRUTH, TRUTH], [0.9, 0.8])
    assert parsing.numbers().ap_r == pytest.approx((1,) * 9)
    parsing = PeopleParsing(20)
    parsing.add([TRUTH], [ANSWER], [0.9])
    # Of labels 5 and 9 with IoU 2/3 and 1/2; label 7 is nobody's and counts for nothing.
    assert parsing.numbers().ap_r == pytest.approx((1, 1, 1, 1, 0.5, 0.5, 0, 0, 0))


def test_ignored_pixels_do_not_count():
    truth = TRUTH.copy()
    truth[1, 3] = truth[2, 2] = IGNORED
    assert np.nanmean(ious(confusion(truth, ANSWER, 20))) == 1
    numbers = map_numbers(confusion(np.full_like(TRUTH, IGNORED), ANSWER, 20))
    assert numbers.miou is None
    assert set(numbers.iou) == {None}


@pytest.mark.slow
@given(data=st.data())
def test_pairs_are_counted_in_windows_as_in_whole_maps(data):
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=6))
    few = st.sampled_from([0, 0, 0, 1, 2, IGNORED])
    one, other = (data.draw(arrays.arrays(np.uint8, shape, elements=few)) for _ in range(2))
    assert np.array_equal(_confusion_of(_Placed.of(one, 4), _Placed.of(other, 4)), confusion(one, other, 4))


def test_both_conventions_of_the_mean():
    numbers = map_numbers(confusion(TRUTH, TRUTH, 20))
    assert numbers.miou == 1
    assert numbers.miou_absent_as_zero == pytest.approx(3 / 20)
    assert numbers.mean_accuracy == numbers.pixel_accuracy == 1


@pytest.mark.parametrize(
    ("hits", "count", "area"),
    [((), 3, 0), ((True,), 2, 0.5), ((False, True), 1, 0.5), ((True, False, True), 2, 0.5 + 0.5 * 2 / 3), ((True,) * 3, 2, 1)],
)  # fmt: skip
def test_area_under_the_envelope(hits, count, area):
    assert average_precision(hits, count) == pytest.approx(area)
