"""Ex-OKS: each of the four cases by hand, agreement with OKS where nothing is outside, and the averages over people."""

import copy
import math
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.errors import UserError
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.evaluation.metrics.ex_oks import crop_windows, distance_to_corner, distance_to_edge, evaluate_ex_oks, ex_oks
from bmp.label_sets import COCO_KEYPOINTS
from bmp.ops.oks import oks

DOUBLE = torch.float64
SIGMAS = torch.tensor(COCO_KEYPOINTS.sigmas, dtype=DOUBLE)
BOX = (100.0, 200.0, 160.0, 360.0)
"""60 wide and 160 high: 75 x 200 at 1.25, and 150 x 200 at 3:4."""
WINDOW = (55.0, 180.0, 205.0, 380.0)


def tensor(values):
    return torch.tensor(values, dtype=DOUBLE)


@pytest.mark.parametrize(
    ("box", "window"),
    [
        (BOX, WINDOW),
        ((0, 0, 300, 400), (-37.5, -50, 337.5, 450)),  # 3:4 already
        ((10, 10, 90, 30), (0, 20 - 200 / 3, 100, 20 + 200 / 3)),  # wide: 100 x 25, so 100 x 133.3
    ],
)
def test_windows(box, window):
    torch.testing.assert_close(crop_windows(tensor([box])), tensor([window]))


def test_windows_of_nobody():
    assert crop_windows(torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize(
    ("point", "distance"),
    [
        ((60, 250), 5),  # inside, left edge nearest
        ((200, 250), 5),
        ((130, 190), 10),
        ((130, 377), 3),
        ((130, 280), 75),  # the centre
        ((55, 200), 0),  # on the outline
        ((205, 380), 0),
        ((50, 250), 5),  # outside, beside
        ((130, 400), 20),
        ((52, 176), 5),  # outside, off a corner: 3, 4, 5
        ((208, 384), 5),
    ],
)
def test_distance_to_edge(point, distance):
    assert distance_to_edge(tensor(point), tensor(WINDOW)).item() == pytest.approx(distance)


@pytest.mark.parametrize(
    ("point", "distance"),
    [
        ((60, 250), 5),  # inside: to the outline
        ((55, 200), 0),
        ((45, 280), math.hypot(10, 100)),  # ten pixels beside the middle of an edge of 200: 100.5
        ((130, 400), math.hypot(75, 20)),
        ((210, 200), math.hypot(5, 20)),
        ((52, 176), 5),  # off a corner there is no difference
    ],
)
def test_distance_to_corner(point, distance):
    assert distance_to_corner(tensor(point), tensor(WINDOW)).item() == pytest.approx(distance)


# One labelled keypoint, so the similarity is that of one distance: the left hip's sigma at an area of 2500.
HIP, AREA = 11, 2500.0


def one(label, flag, estimate, present, **rule):
    reference, candidate = torch.zeros(1, 17, 2, dtype=DOUBLE), torch.zeros(1, 17, 2, dtype=DOUBLE)
    flags, presence = torch.zeros(1, 17, dtype=torch.int64), torch.zeros(1, 17, dtype=torch.bool)
    reference[0, HIP], flags[0, HIP] = tensor(label), flag
    candidate[0, HIP], presence[0, HIP] = tensor(estimate), present
    return ex_oks(reference, flags, candidate, presence, tensor([AREA]), tensor([WINDOW]), SIGMAS, **rule).item()


def similarity(distance):
    return math.exp(-(distance**2) / (2 * AREA * (2 * 0.107) ** 2))


@pytest.mark.parametrize(
    ("label", "flag", "estimate", "present", "distance"),
    [
        ((100, 250), 2, (103, 254), True, 5),  # both inside
        ((100, 250), 1, (103, 254), True, 5),  # occluded is inside
        ((300, 250), 3, (195, 250), True, 10),  # guessed inside, is outside: from the estimate to the edge
        ((300, 250), 3, (208, 384), True, 5),  # even from beyond it
        ((62, 250), 2, (100, 250), False, 7),  # given up, is inside: from the label to the edge
        ((62, 250), 1, (62, 250), False, 7),  # where the estimate lies does not matter then
        ((300, 250), 3, (100, 250), False, 0),  # both say outside
    ],
)
def test_cases_by_hand(label, flag, estimate, present, distance):
    assert one(label, flag, estimate, present) == pytest.approx(similarity(distance), rel=1e-12)


@pytest.mark.parametrize(
    ("label", "flag", "estimate", "present", "by_edge", "by_corner"),
    [
        ((300, 250), 3, (195, 250), True, 10, 10),  # guessed inside: to the outline by both
        ((300, 250), 3, (208, 360), True, 3, math.hypot(3, 20)),
        ((208, 360), 2, (100, 250), False, 3, math.hypot(3, 20)),  # labelled as inside, yet beyond the window
        ((100, 250), 2, (103, 254), True, 5, 5),
    ],
)
def test_both_rules_by_hand(label, flag, estimate, present, by_edge, by_corner):
    for rule, distance in (("edge", by_edge), ("corner", by_corner)):
        assert one(label, flag, estimate, present, rule=rule) == pytest.approx(similarity(distance), rel=1e-12)


@pytest.mark.parametrize("present", [True, False])
def test_nothing_labelled(present):
    assert one((100, 250), 0, (100, 250), present) == 0


def test_mean_over_labelled_keypoints():
    """Two people against two results: all four cases at once, and one keypoint that nobody labelled."""
    reference = tensor([[(100, 250), (300, 250), (62, 250), (300, 250), (9, 9)]] * 2)
    flags = torch.tensor([[2, 3, 2, 3, 0], [2, 0, 0, 0, 0]])
    candidates = tensor([[(103, 254), (195, 250), (0, 0), (0, 0), (0, 0)], [(100, 250), *[(62, 250)] * 4]])
    present = torch.tensor([[True, True, False, False, True], [True] * 5])
    sigmas = torch.full((5,), 0.107, dtype=DOUBLE)
    table = ex_oks(reference, flags, candidates, present, tensor([AREA, AREA]), tensor([WINDOW] * 2), sigmas)
    first = (similarity(5) + similarity(10) + similarity(7) + 1) / 4
    second = (1 + similarity(7) + 1 + similarity(7)) / 4
    torch.testing.assert_close(table, tensor([[first, second], [similarity(5), 1.0]]))


@pytest.mark.parametrize(("people", "results"), [(0, 0), (0, 2), (2, 0)])
def test_nobody(people, results):
    table = ex_oks(
        torch.zeros(people, 17, 2),
        torch.zeros(people, 17, dtype=torch.int64),
        torch.zeros(results, 17, 2),
        torch.zeros(results, 17, dtype=torch.bool),
        torch.zeros(people),
        torch.zeros(people, 4),
        SIGMAS.float(),
    )
    assert table.shape == (people, results)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 3))
def test_is_oks_where_nothing_is_outside(seed, people, results):
    random = torch.Generator().manual_seed(seed)
    reference, candidates = (
        torch.rand(count, 17, 2, generator=random, dtype=DOUBLE) * 9 for count in (people, results)
    )
    flags = torch.randint(0, 3, (people, 17), generator=random)
    area = torch.rand(people, generator=random, dtype=DOUBLE) * 100
    window = torch.rand(people, 4, generator=random, dtype=DOUBLE)
    found = ex_oks(reference, flags, candidates, torch.ones(results, 17, dtype=torch.bool), area, window, SIGMAS)
    torch.testing.assert_close(found, oks(reference, candidates, area, SIGMAS, flags > 0))


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(0.1, 10), st.integers(-1000, 1000))
def test_shift_and_scale_change_nothing(seed, scale, shift):
    random = torch.Generator().manual_seed(seed)
    reference, candidates = (torch.rand(2, 17, 2, generator=random, dtype=DOUBLE) * 100 for _ in range(2))
    flags = torch.randint(0, 4, (2, 17), generator=random)
    present = torch.rand(2, 17, generator=random) < 0.5
    area, window = tensor([900.0, 400.0]), tensor([[10.0, 20.0, 70.0, 90.0], [0.0, 5.0, 60.0, 85.0]])
    before = ex_oks(reference, flags, candidates, present, area, window, SIGMAS)
    after = ex_oks(
        reference * scale + shift,
        flags,
        candidates * scale + shift,
        present,
        area * scale**2,
        window * scale + shift,
        SIGMAS,
    )
    torch.testing.assert_close(before, after)
    assert ((before >= 0) & (before <= 1)).all()


def crowd(seed=0, people=6, outside=0.3):
    """Labelled people in two images, one of them without keypoints and one a crowd, and two guesses for each."""
    random = np.random.default_rng(seed)
    ground_truth = {
        "images": [{"id": number, "height": 400, "width": 400} for number in range(2)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [],
    }
    rows = []
    for number in range(people):
        box = [float(random.integers(200)), float(random.integers(200)), 90.0, 150.0]
        places = (random.random((17, 2)) * box[2:] + box[:2]).round(1)
        flags = np.where(random.random(17) < outside, 3, random.integers(0, 3, 17)) * (number != 1)
        common = {"image_id": number % 2, "category_id": 1, "bbox": box}
        label = {
            **common,
            "id": number,
            "area": 9000.0,
            "iscrowd": int(number == 2),
            "keypoints": np.column_stack((places, flags)).flatten().tolist(),
            "num_keypoints": int(np.isin(flags, (1, 2)).sum()),
        }
        ground_truth["annotations"].append(label)
        for _ in range(2):
            guess = np.column_stack((places + random.normal(0, 3, (17, 2)), np.full(17, 2)))
            rows.append(
                {
                    **common,
                    "score": float(random.random()),
                    "keypoints": guess.flatten().tolist(),
                    "keypoint_scores": random.random(17).tolist(),
                    "keypoint_presence": random.random(17).tolist(),
                }
            )
    return ground_truth, rows


class TestAverages:
    def test_is_coco_where_nothing_is_outside(self):
        ground_truth, rows = crowd(outside=0)
        rows = [{**row, "keypoint_presence": [1.0] * 17} for row in rows]
        numbers = evaluate_ex_oks(ground_truth, rows)
        assert numbers.numbers == evaluate_coco(ground_truth, to_results(rows, "keypoints"), "keypoints")
        assert 0.5 < numbers.numbers.ap < 1

    def test_presence_counts(self):
        """The same places: who says rightly what is outside is better than who says it of nothing, or of all."""
        ground_truth, rows = crowd()
        aware = []
        for number, row in enumerate(rows):
            flags = ground_truth["annotations"][number // 2]["keypoints"][2::3]
            aware.append({**row, "keypoint_presence": [0.1 if flag == 3 else 0.9 for flag in flags]})
        right = evaluate_ex_oks(ground_truth, aware)
        for constant in (0.0, 1.0):
            wrong = evaluate_ex_oks(ground_truth, [{**row, "keypoint_presence": [constant] * 17} for row in rows])
            assert wrong.mean < right.mean
            assert wrong.numbers.ap < right.numbers.ap

    def test_threshold_of_presence(self):
        ground_truth, rows = crowd()
        at_half = evaluate_ex_oks(ground_truth, [{**row, "keypoint_presence": [0.5] * 17} for row in rows])
        assert at_half == evaluate_ex_oks(ground_truth, [{**row, "keypoint_presence": [1.0] * 17} for row in rows])
        above = evaluate_ex_oks(ground_truth, [{**row, "keypoint_presence": [0.5] * 17} for row in rows], 0.6)
        nowhere = evaluate_ex_oks(ground_truth, [{**row, "keypoint_presence": [0.0] * 17} for row in rows])
        assert (above.numbers, above.mean) == (nowhere.numbers, nowhere.mean)

    def test_mean_by_hand(self):
        """Of two people one is hit exactly, by a result of low score, and the other is missed by 5 pixels at the hip."""
        keypoints = [[0, 0, 0] for _ in range(17)]
        keypoints[HIP] = [100, 250, 2]
        label = {"image_id": 0, "category_id": 1, "bbox": [100, 200, 60, 160], "area": AREA, "iscrowd": 0}
        labels, rows = [], []
        for shift, error, score in ((0, 0, 0.1), (20, 5, 0.9)):
            moved = [[x + shift, y, flag] for x, y, flag in keypoints]
            labels.append({**label, "id": len(labels), "keypoints": list(chain(*moved)), "num_keypoints": 1})
            estimate = [[x + error, y, flag] for x, y, flag in moved]
            sure = {"score": score, "keypoint_scores": [1.0] * 17, "keypoint_presence": [1.0] * 17}
            rows.append({**label, **sure, "keypoints": list(chain(*estimate))})
        ground_truth = {
            "images": [{"id": 0, "height": 400, "width": 400}],
            "categories": [{"id": 1}],
            "annotations": labels,
        }
        assert evaluate_ex_oks(ground_truth, rows).mean == pytest.approx((1 + similarity(5)) / 2)
        assert evaluate_ex_oks(ground_truth, rows[:1]).mean == pytest.approx(1 / 2)
        assert evaluate_ex_oks(ground_truth, []).mean == 0
        # a second result on the first person is left to the other, 20 pixels away
        assert evaluate_ex_oks(ground_truth, rows[:1] * 2).mean == pytest.approx((1 + similarity(20)) / 2)
        # a crowd is nobody
        labels[1]["iscrowd"] = 1
        assert evaluate_ex_oks(ground_truth, rows).mean == pytest.approx(1)

    def test_only_outside(self):
        """A person all of whose labelled keypoints are outside counts, although labels for OKS count none of them."""
        ground_truth, _ = crowd(people=1)
        label = ground_truth["annotations"][0]
        label["keypoints"], label["num_keypoints"] = [500, 500, 3] * 17, 0
        sure = {"score": 1.0, "keypoint_scores": [1.0] * 17, "keypoint_presence": [0.0] * 17}
        numbers = evaluate_ex_oks(ground_truth, [{**label, **sure}])
        assert numbers.mean == 1
        assert numbers.numbers.ar == 1

    def test_nobody_labelled(self):
        ground_truth, rows = crowd()
        numbers = evaluate_ex_oks({**ground_truth, "annotations": []}, rows)
        assert (numbers.mean, numbers.numbers.ap) == (None, None)

    def test_arguments_stay_as_they_are(self):
        ground_truth, rows = crowd()
        before = copy.deepcopy((ground_truth, rows))
        evaluate_ex_oks(ground_truth, rows)
        assert (ground_truth, rows) == before

    def test_order_of_rows_changes_nothing(self):
        ground_truth, rows = crowd()
        assert evaluate_ex_oks(ground_truth, rows[::-1]) == evaluate_ex_oks(ground_truth, rows)

    def test_numbers_say_by_which_rule_they_are(self):
        ground_truth, rows = crowd()
        # Everything is guessed far beside the windows, where the rules differ most.
        rows = [{**row, "keypoints": [1000.0, 250.0, 2.0] * 17, "keypoint_presence": [1.0] * 17} for row in rows]
        label = ground_truth["annotations"][0]
        label["keypoints"][2::3] = [3] * 17
        wide = {**label, "area": 9e6}
        ground_truth["annotations"] = [wide]
        edge, corner = (evaluate_ex_oks(ground_truth, rows, 0.4, rule=rule) for rule in ("edge", "corner"))
        assert (edge.rule, corner.rule) == ("edge", "corner")
        assert edge.mean > corner.mean > 0
        assert "the rule 'corner': from a point beyond the window to its nearest corner" in corner.method
        assert "from 0.4" in corner.method
        assert "the rule 'edge'" in edge.method

    def test_a_rule_that_there_is_not(self):
        with pytest.raises(UserError, match="there is no rule 'corners'; did you mean 'corner'"):
            evaluate_ex_oks(*crowd(), rule="corners")
