"""Who was found, and how well: recall, precision, mask overlap, what a round changed; knows no data set and no model.

People are named by their index in ``ground_truth["annotations"]``, results by their index in the rows. Matching is
COCO's: results choose in the order of their scores, each the free person it overlaps most, from IoU 0.5 on; one that
overlaps only a crowd region is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bmp.evaluation.metrics.coco import compare, to_results
from bmp.io.annotations import Annotation, CocoDataset

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Matches:
    """Which result is which person; results in descending order of scores, all fields of them aligned.

    people: int64 (P,), all labelled people but crowd regions. rows: int64 (D,), the results.
    scores: float64 (D,). person: int64 (D,), the matched person, -1 for none. overlaps: float64 (D,) in [0, 1],
    the IoU with that person, 0 for none. ignored: bool (D,), on a crowd region, neither right nor wrong.
    """

    people: Ints
    rows: Ints
    scores: Floats
    person: Ints
    overlaps: Floats
    ignored: Bools

    def found(self, min_score: float = 0.0) -> Ints:
        """Return the people that results of at least that score show, ascending."""
        return np.sort(self.person[(self.person >= 0) & (self.scores >= min_score)])


@dataclass(frozen=True)
class EqualPrecision:
    """Recall of two runs where the second is at least as precise as the first; None where there is no number.

    precision: of all results of the first. first, second: recall, in [0, 1]. min_score: from which score on the
    second's results were taken; None if no choice of them is as precise, then its recall is 0.
    """

    precision: float | None
    first: float | None
    second: float | None
    min_score: float | None


def match(
    ground_truth: CocoDataset,
    rows: Sequence[Annotation],
    kind: Literal["bbox", "segm"] = "bbox",
    min_iou: float = 0.5,
    segm_score: str = "detection_times_iou",
) -> Matches:
    """Match annotation rows with the ground truth, by boxes or by masks: all rows, not only the best 100 an image.

    Args:
        ground_truth: COCO dict.
        rows: annotations as ``bmp.io.annotations.to_annotations`` makes them.
        kind: what has to overlap.
        min_iou: from which IoU on it is the same person.
        segm_score: which score orders masks, a name of ``bmp.evaluation.metrics.coco.SEGM_SCORES``.

    Raises:
        UserError: a row is of an image that the ground truth does not have, a field is missing, or there is no such
            score.

    Examples:
        >>> person = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 40, 80], "area": 3200}
        >>> ground_truth = {"images": [{"id": 7}], "categories": [{"id": 1}], "annotations": [person]}
        >>> rows = [{"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 72], "score": 0.9}]
        >>> matches = match(ground_truth, rows)
        >>> matches.person.tolist(), matches.overlaps.round(2).tolist()
        ([0], [0.9])
        >>> recall(matches), precision(matches), recall(matches, min_score=0.95)
        (1.0, 1.0, 0.0)
    """
    results = to_results(rows, kind, segm_score)
    evaluation = compare(ground_truth, results, kind, max_detections=max(1, len(results)), thresholds=[min_iou])
    person = np.full(len(results), -1)
    overlaps = np.zeros(len(results))
    ignored = np.zeros(len(results), dtype=bool)
    order: list[int] = []
    for image in filter(None, evaluation.evalImgs):
        key = image["image_id"], image["category_id"]
        # The table of overlaps has the results by score, like the matches, and the labels as they are in the ground
        # truth.
        labels = evaluation.cocoGt.getAnnIds(imgIds=[key[0]], catIds=[key[1]])
        columns = {label: column for column, label in enumerate(labels)}
        matches = zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True)
        for line, (result, label, is_ignored) in enumerate(matches):
            row = result - 1
            order.append(row)
            ignored[row] = is_ignored
            if label and not is_ignored:
                person[row] = label - 1
                overlaps[row] = evaluation.ious[key][line, columns[label]]
    scores = np.array([result["score"] for result in results], dtype=np.float64)
    best_first = np.array(order, dtype=np.int64)
    best_first = best_first[np.argsort(-scores[best_first], kind="stable")]
    people = [index for index, label in enumerate(ground_truth["annotations"]) if not label.get("iscrowd")]
    return Matches(
        np.array(people, dtype=np.int64),
        best_first,
        scores[best_first],
        person[best_first],
        overlaps[best_first],
        ignored[best_first],
    )


def recall(matches: Matches, min_score: float = 0.0) -> float | None:
    """Return the share of the people who are found by results of at least ``min_score``; None if nobody is labelled."""
    return len(matches.found(min_score)) / len(matches.people) if len(matches.people) else None


def precision(matches: Matches, min_score: float = 0.0) -> float | None:
    """Return the share of the results of at least ``min_score`` that show somebody; None if there are no results."""
    counted = (matches.scores >= min_score) & ~matches.ignored
    return float((matches.person[counted] >= 0).mean()) if counted.any() else None


def mean_iou(matches: Matches) -> float | None:
    """Return the mean IoU of matched results; None if there are none."""
    hits = matches.person >= 0
    return float(matches.overlaps[hits].mean()) if hits.any() else None


def found_and_lost(before: Matches, after: Matches) -> tuple[Ints, Ints]:
    """Return the people found only by ``after``, and those found only by ``before``; int64, ascending.

    Raises ``ValueError`` if they are not of the same ground truth.
    """
    _check_same_people(before, after)
    earlier, later = before.found(), after.found()
    return np.setdiff1d(later, earlier), np.setdiff1d(earlier, later)


def recall_at_equal_precision(first: Matches, second: Matches) -> EqualPrecision:
    """Compare the recall of two runs at the precision of the first.

    The first counts with all its results, which give the precision. Of the second only the results from some score
    on count: the lowest score at which they are at least as precise. Results of equal score stay together. So the
    second cannot gain recall by adding false positives.

    Raises ``ValueError`` if they are not of the same ground truth.
    """
    _check_same_people(first, second)
    target = precision(first)
    if target is None or not len(first.people):
        return EqualPrecision(target, recall(first), None, None)
    scores, right = second.scores[~second.ignored], second.person[~second.ignored] >= 0
    # Of one score all results come or none, so only after its last one can the list end.
    last_of_its_score = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    precise = right.cumsum() / np.arange(1, len(scores) + 1) >= target
    stops = np.flatnonzero(last_of_its_score & precise)
    if not len(stops):
        return EqualPrecision(target, recall(first), 0.0, None)
    lowest = float(scores[stops[-1]])
    return EqualPrecision(target, recall(first), recall(second, lowest), lowest)


def _check_same_people(first: Matches, second: Matches) -> None:
    if not np.array_equal(first.people, second.people):
        raise ValueError(
            f"expected matches with the same ground truth, got {len(first.people)} and {len(second.people)} people; "
            "match both runs with one ground truth"
        )
