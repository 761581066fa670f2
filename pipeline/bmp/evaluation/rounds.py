"""What the loop is worth round by round (protocol 1): numbers from labels and results. Knows no file, no picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bmp.evaluation.metrics import matching as metrics
from bmp.evaluation.metrics.coco import CocoNumbers, Kind, evaluate_coco, to_results
from bmp.evaluation.metrics.matching import EqualPrecision, Matches

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Overlap:
    """Who is found, by the overlap of boxes or of masks, from IoU 0.5 on; None where there is no number.

    recall, precision, mean_iou: in [0, 1], of all people known after the round. found, lost: how many of the labelled
    people are matched now and were not after the round before, and the other way round.
    """

    recall: float | None
    precision: float | None
    mean_iou: float | None
    found: int
    lost: int


@dataclass(frozen=True, eq=False)
class Round:
    """The numbers of everybody known after a round.

    number: of the round, from 1. people: how many are known. coco: by kind, only kinds that the ground truth has labels
    for.
    boxes: overlap of boxes. masks: overlap of masks, None where the ground truth has none. matches: which result is
    which person, by masks where there are masks, else by boxes.
    """

    number: int
    people: int
    coco: dict[Kind, CocoNumbers]
    boxes: Overlap
    masks: Overlap | None
    matches: Matches


@dataclass(frozen=True, eq=False)
class Comparison:
    """All rounds, and the recall of boxes after the last where it is as precise as after the first."""

    rounds: list[Round]
    box_recall: EqualPrecision


def compare_rounds(
    ground_truth: Mapping[str, Any],
    rows_of: Callable[[int], Rows],
    rounds: int,
    segm_score: str = "detection_times_iou",
) -> Comparison:
    """Measure the people known after each round.

    Masks and keypoints are compared where the ground truth has them: masks where every person has one, keypoints where
    anybody has one.

    Args:
        ground_truth: COCO dict of persons.
        rows_of: gives the annotations, with all digits, of everybody known after a round, counted from 1.
        rounds: how many there are.
        segm_score: a name of ``bmp.evaluation.metrics.coco.SEGM_SCORES``.
    """
    kinds = labelled_kinds(ground_truth)
    done: list[Round] = []
    before: dict[str, Matches] = {}
    first_boxes = boxes = None
    for number in range(1, rounds + 1):
        rows = rows_of(number)
        coco = {kind: evaluate_coco(ground_truth, to_results(rows, kind, segm_score), kind) for kind in kinds}
        boxes = metrics.match(ground_truth, rows, "bbox")
        first_boxes = first_boxes or boxes
        masks = metrics.match(ground_truth, rows, "segm", segm_score=segm_score) if "segm" in kinds else None
        done.append(
            Round(
                number,
                len(rows),
                coco,
                _overlap(before.get("bbox"), boxes),
                None if masks is None else _overlap(before.get("segm"), masks),
                boxes if masks is None else masks,
            )
        )
        before = {"bbox": boxes} if masks is None else {"bbox": boxes, "segm": masks}
    if first_boxes is None or boxes is None:
        raise ValueError(f"expected at least 1 round, got {rounds}")
    return Comparison(done, metrics.recall_at_equal_precision(first_boxes, boxes))


def labelled_kinds(ground_truth: Mapping[str, Any]) -> list[Kind]:
    """Return the kinds of labels in the ground truth: boxes always, masks if all have one, keypoints if anybody has."""
    people = ground_truth["annotations"]
    has: dict[Literal["bbox", "segm", "keypoints"], bool] = {
        "bbox": True,
        "segm": bool(people) and all("segmentation" in row for row in people),
        "keypoints": any(row.get("num_keypoints", 0) > 0 for row in people),
    }
    return [kind for kind in get_args(Kind) if has[kind]]


def _overlap(before: Matches | None, now: Matches) -> Overlap:
    if before is None:
        found, lost = len(now.found()), 0
    else:
        found, lost = map(len, metrics.found_and_lost(before, now))
    return Overlap(metrics.recall(now), metrics.precision(now), metrics.mean_iou(now), found, lost)
