"""Who was found: cases by hand with boxes on a line, and COCO's own recall as the witness on made-up ones."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from bmp.errors import UserError
from bmp.evaluation.metrics import matching as metrics
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.evaluation.metrics.matching import match, recall, recall_at_equal_precision

SIZE = 120


def rle(box):
    (found,) = coco_mask.frPyObjects(np.array([box], dtype=float), SIZE, SIZE)
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def at(left, width=10):
    """A box on a line; of two of width 10 that are d apart the IoU is (10 - d) / (10 + d)."""
    return [float(left), 0.0, float(width), 10.0]


def truth_of(*people, images=1):
    """People as (box, image) or (box, image, "crowd")."""
    return {
        "images": [{"id": number, "height": SIZE, "width": SIZE} for number in range(images)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": 1,
                "bbox": box,
                "area": box[2] * box[3],
                "segmentation": rle(box),
                "iscrowd": int(bool(crowd)),
            }
            for number, (box, image, *crowd) in enumerate(people)
        ],
    }


def row(box, score, image=0, mask=None, mask_score=1.0):
    return {
        "image_id": image,
        "category_id": 1,
        "bbox": box,
        "segmentation": rle(box if mask is None else mask),
        "score": score,
        "mask_score": mask_score,
    }


# Four people in a row, far apart.
FOUR = truth_of(*((at(left), 0) for left in (0, 30, 60, 90)))


def run(*found):
    """Results on FOUR, best first: a person's number, or None for a false alarm; or (that, score)."""
    pairs = [one if isinstance(one, tuple) else (one, 0.9 - 0.1 * place) for place, one in enumerate(found)]
    return match(FOUR, [row(at(15 if who is None else 30 * who), score) for who, score in pairs])


class TestMatch:
    @pytest.mark.parametrize(
        ("people", "rows", "person", "ignored"),
        [
            ([], [], [], []),
            ([(at(0), 0)], [], [], []),
            ([], [row(at(0), 0.5)], [-1], [False]),
            ([(at(0), 0)], [row(at(3), 0.5)], [0], [False]),  # IoU 7/13
            ([(at(0), 0)], [row(at(4), 0.5)], [-1], [False]),  # IoU 6/14
            ([(at(0), 0)], [row(at(0), 0.5, image=1)], [-1], [False]),
            # the second best of two on one person is a false alarm, whatever their order in the list
            ([(at(0), 0)], [row(at(0), 0.5), row(at(2), 0.9)], [0, -1], [False, False]),
            # the best chooses first and takes whom it overlaps most
            ([(at(0), 0), (at(2), 0)], [row(at(0), 0.5), row(at(1.5), 0.9)], [1, 0], [False, False]),
            # what lies on a crowd is neither right nor wrong, any number of times
            ([(at(0, 100), 0, "crowd")], [row(at(5), 0.9), row(at(50), 0.5)], [-1, -1], [True, True]),
            # a person goes before a crowd
            ([(at(0, 100), 0, "crowd"), (at(3), 0)], [row(at(5), 0.9)], [1], [False]),
        ],
    )
    @pytest.mark.parametrize("kind", ["bbox", "segm"])
    def test_by_hand(self, people, rows, person, ignored, kind):
        ground_truth = truth_of(*people, images=2)
        before = copy.deepcopy((ground_truth, rows))
        matches = match(ground_truth, rows, kind)
        assert matches.person.tolist() == person
        assert matches.ignored.tolist() == ignored
        assert matches.scores.tolist() == sorted((row["score"] for row in rows), reverse=True)
        assert (ground_truth, rows) == before

    def test_rows_come_best_first_over_all_images(self):
        ground_truth = truth_of((at(0), 0), (at(0), 1), images=2)
        matches = match(ground_truth, [row(at(0), 0.3, 1), row(at(50), 0.6, 1), row(at(0), 0.4, 0), row(at(9), 0.9, 0)])
        assert matches.rows.tolist() == [3, 1, 2, 0]
        assert matches.person.tolist() == [-1, -1, 0, 1]

    def test_boxes_and_masks_may_disagree(self):
        rows = [row(at(0), 0.5, mask=at(30))]
        assert match(FOUR, rows, "bbox").person.tolist() == [0]
        assert match(FOUR, rows, "segm").person.tolist() == [1]

    def test_score_of_masks(self):
        rows = [row(at(0), 0.9, mask_score=0.1), row(at(1), 0.5, mask_score=0.9)]
        assert match(FOUR, rows, "segm").rows.tolist() == [1, 0]
        assert match(FOUR, rows, "segm", segm_score="detection").rows.tolist() == [0, 1]

    def test_more_results_than_coco_counts(self):
        rows = [row(at(110), 0.9)] * 150 + [row(at(0), 0.1)]
        assert recall(match(FOUR, rows)) == 0.25
        assert evaluate_coco(FOUR, to_results(rows, "bbox"), "bbox").ar50 == 0

    def test_min_iou(self):
        assert match(FOUR, [row(at(4), 0.5)], min_iou=0.4).person.tolist() == [0]

    def test_of_another_truth(self):
        with pytest.raises(UserError, match="no image 5"):
            match(FOUR, [row(at(0), 0.5, image=5)])


class TestRates:
    def test_by_hand(self):
        matches = run(0, None, 2)
        assert recall(matches) == 0.5
        assert recall(matches, min_score=0.8) == 0.25
        assert metrics.precision(matches) == pytest.approx(2 / 3)
        assert metrics.precision(matches, min_score=0.8) == 0.5
        assert matches.found().tolist() == [0, 2]
        assert matches.found(0.8).tolist() == [0]

    def test_no_number(self):
        assert recall(match(truth_of(), [])) is None
        assert recall(match(truth_of((at(0), 0, "crowd")), [])) is None
        assert metrics.precision(run()) is None
        assert metrics.precision(match(truth_of((at(0, 100), 0, "crowd")), [row(at(5), 0.9)])) is None
        assert metrics.mean_iou(run(None)) is None

    def test_crowds_do_not_spoil_precision(self):
        ground_truth = truth_of((at(0), 0), (at(40, 60), 0, "crowd"))
        assert metrics.precision(match(ground_truth, [row(at(0), 0.5), row(at(50), 0.9), row(at(15), 0.1)])) == 0.5

    def test_mean_iou_of_masks(self):
        rows = [row(at(0), 0.9, mask=at(1)), row(at(30), 0.9, mask=at(32)), row(at(60), 0.9, mask=at(75))]
        assert metrics.mean_iou(match(FOUR, rows, "segm")) == pytest.approx((9 / 11 + 8 / 12) / 2)
        assert metrics.mean_iou(match(FOUR, rows, "bbox")) == 1

    @pytest.mark.slow
    @settings(max_examples=40)
    @given(
        st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1), st.booleans()), max_size=8),
        st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1), st.integers(1, 5)), max_size=8),
        st.sampled_from(["bbox", "segm"]),
    )
    def test_recall_is_cocos(self, people, results, kind):
        ground_truth = truth_of(*((at(left), image, "crowd" * crowd) for left, image, crowd in people), images=2)
        rows = [row(at(left), score / 5, image) for left, image, score in results]
        matches = match(ground_truth, rows, kind)
        assert recall(matches) == evaluate_coco(ground_truth, to_results(rows, kind), kind).ar50
        assert len(set(matches.found())) == len(matches.found())
        for place, (index, person) in enumerate(zip(matches.rows, matches.person, strict=True)):
            if person >= 0:
                label = ground_truth["annotations"][person]
                assert label["image_id"] == rows[index]["image_id"]
                apart = abs(label["bbox"][0] - rows[index]["bbox"][0])
                assert matches.overlaps[place] == pytest.approx((10 - apart) / (10 + apart))


class TestChange:
    @pytest.mark.parametrize(
        ("before", "after", "found", "lost"),
        [
            ([], [], [], []),
            ([], [1, 0], [0, 1], []),
            ([0, 2], [0, None, 3, 1], [1, 3], [2]),
            ([0, 2], [2, 0], [], []),
        ],
    )
    def test_by_hand(self, before, after, found, lost):
        now, gone = metrics.found_and_lost(run(*before), run(*after))
        assert (now.tolist(), gone.tolist()) == (found, lost)

    def test_of_two_truths(self):
        with pytest.raises(ValueError, match="4 and 0 people"):
            metrics.found_and_lost(run(0), match(truth_of(), []))


class TestEqualPrecision:
    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            # three of four right at first; the second finds two more and pays with one false alarm
            ([0, None], [0, None, 1], (0.5, 0.25, 0.5, 0.7)),
            # one more person, but the false alarm before it costs too much: back to what was precise enough
            ([0, 1], [0, 1, None, 2], (1.0, 0.5, 0.5, 0.8)),
            # below the target and above again: the lowest score counts
            ([0, 1, None], [0, None, 1, 2], (2 / 3, 0.5, 0.75, 0.6)),
            # nothing of the second is as precise
            ([0], [None, 0, 1], (1.0, 0.25, 0.0, None)),
            ([0], [], (1.0, 0.25, 0.0, None)),
            # of equal scores all come or none
            ([0], [(0, 0.9), (1, 0.5), (None, 0.5)], (1.0, 0.25, 0.25, 0.9)),
            ([0, None], [(0, 0.9), (None, 0.5), (1, 0.5)], (0.5, 0.25, 0.5, 0.5)),
            # all of the first wrong: any result will do
            ([None], [None, 0], (0.0, 0.0, 0.25, 0.8)),
            # without results there is no precision to match
            ([], [0], (None, 0.0, None, None)),
        ],
    )
    def test_by_hand(self, first, second, expected):
        result = recall_at_equal_precision(run(*first), run(*second))
        assert (result.precision, result.first, result.second, result.min_score) == pytest.approx(expected)

    def test_with_itself(self):
        matches = run(0, None, 1, None)
        result = recall_at_equal_precision(matches, matches)
        assert result.first == result.second == 0.5

    def test_nobody_to_find(self):
        matches = match(truth_of(), [row(at(0), 0.5)])
        result = recall_at_equal_precision(matches, match(truth_of(), []))
        assert (result.precision, result.first, result.second) == (0, None, None)

    @pytest.mark.slow
    @settings(max_examples=40)
    @given(
        st.lists(st.tuples(st.sampled_from([None, 0, 1, 2, 3]), st.integers(1, 9)), max_size=6),
        st.lists(st.tuples(st.sampled_from([None, 0, 1, 2, 3]), st.integers(1, 9)), max_size=6),
    )
    def test_what_is_kept_is_as_precise(self, first, second):
        one, other = run(*first), run(*second)
        result = recall_at_equal_precision(one, other)
        if result.min_score is not None:
            assert metrics.precision(other, result.min_score) >= result.precision
            assert recall(other, result.min_score) == result.second
        if result.precision is not None:  # no other score would have been better
            for score in set(other.scores.tolist()):
                if metrics.precision(other, score) >= result.precision:
                    assert recall(other, score) <= result.second
