"""Numbers by round on people made up: found and lost, kinds without labels, and why there is no number."""

import json

import pytest
from report_scene import FIRST, SECOND, TRUTH, compare

from bmp.evaluation import report
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.evaluation.rounds import labelled_kinds, reasons


@pytest.mark.slow
def test_found_and_lost_by_hand():
    first, second = compare().rounds
    assert (first.number, first.people, first.boxes.found, first.boxes.lost) == (1, 3, 1, 0)
    assert (second.boxes.found, second.boxes.lost) == (2, 1)
    assert (second.masks.found, second.masks.lost) == (2, 1)
    assert first.boxes.recall == pytest.approx(1 / 3)
    assert first.boxes.precision == pytest.approx(1 / 2)
    assert second.boxes.recall == pytest.approx(2 / 3)
    assert first.boxes.mean_iou == first.masks.mean_iou == 1.0
    equal = compare().box_recall
    assert (equal.precision, equal.first, equal.second) == (0.5, pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_numbers_are_those_of_the_metrics():
    second = compare(segm_score="iou").rounds[1]
    for kind in ("bbox", "segm", "keypoints"):
        assert second.coco[kind] == evaluate_coco(TRUTH, to_results(SECOND, kind, "iou"), kind)


def hidden_from(start, of=range(3), flag=1):
    """The ground truth with the keypoints from ``start`` on hidden, of the people ``of``."""
    annotations = [
        {**row, "keypoints": [flag if i % 3 == 2 and i // 3 >= start else value for i, value in enumerate(row["keypoints"])]}
        if number in of else row
        for number, row in enumerate(TRUTH["annotations"])
    ]  # fmt: skip
    return {**TRUTH, "annotations": annotations}


def test_visible_keypoints_are_measured_apart():
    ground_truth = hidden_from(9)
    # Whatever is said of hidden keypoints is wrong, and all that is said of visible ones is right.
    found = [
        {**row, "keypoints": [value + 30 * (i // 3 >= 9) for i, value in enumerate(row["keypoints"])]} for row in SECOND
    ]
    (last,) = compare(ground_truth, (found,)).rounds
    assert last.coco["keypoints"].ap < last.visible_keypoints.ap
    assert last.visible_keypoints == compare(rounds=(SECOND,)).rounds[0].coco["keypoints"]
    unlabelled = hidden_from(9, flag=0)
    for row in unlabelled["annotations"][:3]:
        row["num_keypoints"] = 9
    assert last.visible_keypoints == evaluate_coco(unlabelled, to_results(found, "keypoints"), "keypoints")


def test_whoever_is_hidden_altogether_does_not_count_for_visible_keypoints():
    (last,) = compare(hidden_from(0, of=[0]), (SECOND,)).rounds
    assert last.coco["keypoints"].ar == pytest.approx(2 / 3)
    assert last.visible_keypoints.ar == 1


def test_what_has_no_labels_has_no_numbers():
    bare = [{k: v for k, v in label.items() if "keypoints" not in k} for label in TRUTH["annotations"]]
    assert labelled_kinds({**TRUTH, "annotations": bare}) == ["bbox", "segm"]
    boxes = [{k: v for k, v in label.items() if k != "segmentation"} for label in bare]
    ground_truth = {**TRUTH, "annotations": [*bare[:2], *boxes[2:]]}
    assert labelled_kinds(ground_truth) == ["bbox"]
    result = compare(ground_truth).rounds[0]
    assert result.masks is None
    assert list(result.coco) == ["bbox"]
    assert result.matches.found().tolist() == [0]


@pytest.mark.parametrize("rounds", [([], []), ([],)])
def test_nobody_found(rounds):
    last = compare(rounds=rounds).rounds[-1]
    assert (last.people, last.boxes.recall, last.boxes.precision, last.boxes.mean_iou) == (0, 0.0, None, None)
    assert last.coco["bbox"].ap == 0.0


def test_nobody_there():
    last = compare({**TRUTH, "annotations": []}).rounds[-1]
    assert last.coco["bbox"].ap is None
    assert last.boxes.recall is None
    json.dumps(report.numbers(compare({**TRUTH, "annotations": []})), allow_nan=False)


def without(*fields, of=range(4), **more):
    """The ground truth, of whose annotations ``of`` some lack these fields and have others."""
    annotations = [
        {**{k: v for k, v in row.items() if k not in fields}, **more} if number in of else row
        for number, row in enumerate(TRUTH["annotations"])
    ]
    return {**TRUTH, "annotations": annotations}


def nulls(node, place=""):
    """The places of all values that are None."""
    if node is None:
        return {place}
    if isinstance(node, dict):
        return set().union(*(nulls(value, f"{place}.{key}" if place else key) for key, value in node.items()))
    if isinstance(node, list):
        return set().union(*(nulls(value, f"{place}[{index}]") for index, value in enumerate(node)))
    return set()


NOBODY_LABELLED = {**TRUTH, "annotations": []}
ONLY_CROWDS = {**TRUTH, "annotations": TRUTH["annotations"][3:]}
IN_CROWD = FIRST[1:2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ground_truth", "rounds", "place", "reason"),
    [
        (without("segmentation", of=[2]), None, "rounds[0].segm",
         "1 of the 4 annotations have no mask, the first is annotation 3; masks are compared where everybody has one"),
        (without("segmentation", of=[2]), None, "rounds[1].masks_at_iou_50", "1 of the 4 annotations have no mask"),
        (without("keypoints", "num_keypoints"), None, "rounds[0].keypoints", "nobody has labelled keypoints"),
        (without("keypoints", "num_keypoints", of=range(3)), None, "rounds[0].keypoints.ap", "only crowd regions have"),
        (TRUTH, None, "rounds[0].keypoints.ap_small", "COCO does not define it for poses"),
        (TRUTH, None, "rounds[0].visible_keypoints", "no keypoint is labelled as hidden"),
        (hidden_from(0, of=range(4)), None, "rounds[1].visible_keypoints", "no keypoint is labelled as visible"),
        (hidden_from(9, of=[3]), None, "rounds[1].visible_keypoints", "no keypoint is labelled as hidden"),
        (hidden_from(9), None, "rounds[1].visible_keypoints.ar_10", "COCO does not define it for poses"),
        (without("keypoints", "num_keypoints"), None, "rounds[0].visible_keypoints", "nobody has labelled keypoints"),
        (TRUTH, None, "rounds[1].bbox.ap_large", "nobody labelled is large, as COCO divides people by area"),
        (without(area=2e10), None, "rounds[0].bbox.ap", "everybody labelled has an area beyond those of COCO"),
        (NOBODY_LABELLED, None, "rounds[0].bbox.ap", "nobody is labelled"),
        (NOBODY_LABELLED, None, "rounds[0].segm", "nobody is labelled"),
        (NOBODY_LABELLED, None, "rounds[0].boxes_at_iou_50.recall", "nobody is labelled"),
        (ONLY_CROWDS, None, "rounds[1].segm.ap50", "only crowd regions are labelled"),
        (ONLY_CROWDS, None, "rounds[1].masks_at_iou_50.recall", "only crowd regions are labelled"),
        (TRUTH, ([], SECOND), "rounds[0].boxes_at_iou_50.precision", "nobody was found after round 1"),
        (TRUTH, ([], SECOND), "box_recall_at_equal_precision.second", "nobody was found after round 1"),
        (TRUTH, (FIRST, IN_CROWD), "rounds[1].masks_at_iou_50.precision",
         "nobody was found outside crowd regions after round 2"),
        (TRUTH, (FIRST, IN_CROWD), "rounds[1].boxes_at_iou_50.mean_iou",
         "no result after round 2 shows anybody labelled"),
        (TRUTH, (FIRST, IN_CROWD), "box_recall_at_equal_precision.min_score",
         "no choice of the results is as precise as round 1"),
    ],
)  # fmt: skip
def test_each_number_that_is_missing_has_its_reason(ground_truth, rounds, place, reason):
    comparison = compare(ground_truth, rounds or (FIRST, SECOND))
    assert reasons(comparison)[place].startswith(reason)
    numbers = report.numbers(comparison)
    assert numbers.pop("no_number") == reasons(comparison)
    assert nulls(numbers) == set(reasons(comparison))


@pytest.mark.slow
def test_limits_are_of_each_image():
    strict = compare(max_detections=1, max_poses=1).rounds[0]
    assert strict.beyond == {"bbox": 1, "segm": 1, "keypoints": 1}
    for kind in ("bbox", "segm", "keypoints"):
        assert strict.coco[kind] == evaluate_coco(TRUTH, to_results(FIRST, kind), kind, max_detections=1)
    assert reasons(compare(max_detections=1))["rounds[0].bbox.ar_10"] == "at most 1 results of an image are measured"
    crowd = [{**FIRST[0], "score": 0.5 - number / 100} for number in range(21)]
    as_coco, all_poses = (compare(rounds=(crowd,), **limit).rounds[0] for limit in ({}, {"max_poses": 30}))
    assert as_coco.beyond == {"bbox": 0, "segm": 0, "keypoints": 1}
    assert all_poses.beyond == {"bbox": 0, "segm": 0, "keypoints": 0}
