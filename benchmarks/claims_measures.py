"""From rows of an arm to numbers: matched as COCO does, for the bootstrap, and person by person, for pictures.

Knows the ground truth of scenes and rows, neither networks nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from claims_statistics import PerPerson, Ranked, average_precision, recalls_at_equal_precision
from numpy.typing import NDArray

from bmp.evaluation.metrics.coco import Kind, compare, to_results
from bmp.evaluation.metrics.matching import match
from bmp.io.annotations import Annotation, CocoDataset
from bmp.ops.boxes import iou, xywh_to_xyxy

Floats = NDArray[np.float64]
Measure = Literal["mask AP", "mask AP of the loop", "pose AP", "recall"]
People = Literal["all", "overlapping"]

KINDS: dict[Measure, Kind] = {
    "mask AP": "segm",
    "mask AP of the loop": "segm",
    "pose AP": "keypoints",
    "recall": "bbox",
}
WORDS: dict[Measure, str] = {
    "mask AP": "AP of masks by predicted IoU",
    "mask AP of the loop": "AP of masks by the detection's score",
    "pose AP": "AP of poses",
    "recall": "recall of boxes at equal precision",
}
OVERLAP = 0.5
"""IoU of two people's labelled boxes from which they overlap, as the images of OCHuman were chosen."""
_ALIKE = 0.1  # IoU from which a found person may be a labelled one in a picture


@dataclass(frozen=True)
class PersonResult:
    """A labelled person in an arm. value: IoU or OKS in [0, 1]. row: what the arm has of them, None for nothing."""

    value: float
    row: Annotation | None


def part_of(ground_truth: CocoDataset, people: People) -> CocoDataset:
    """Return the ground truth with those people alone; images stay."""
    if people == "all":
        return ground_truth
    kept = overlapping(ground_truth)
    rows = [row for row in ground_truth["annotations"] if row["id"] in kept]
    return {**ground_truth, "annotations": rows}


def overlapping(ground_truth: CocoDataset) -> set[int]:
    """Return the ids of people whose box overlaps another's by ``OVERLAP``."""
    by_image: dict[int | str, list[Annotation]] = {}
    for row in ground_truth["annotations"]:
        by_image.setdefault(row["image_id"], []).append(row)
    found = set()
    for rows in by_image.values():
        boxes = xywh_to_xyxy(torch.tensor([row["bbox"] for row in rows], dtype=torch.float32))
        overlaps = iou(boxes, boxes).fill_diagonal_(0)
        found |= {row["id"] for row, most in zip(rows, overlaps.amax(dim=1).tolist(), strict=True) if most >= OVERLAP}
    return found


def recalls(
    ground_truth: CocoDataset, first: Sequence[Annotation], second: Sequence[Annotation], weights: Floats
) -> tuple[Floats, Floats]:
    """Return the recall of boxes of two arms on each draw of images, the second at the precision of the first."""
    found = [ranked(ground_truth, rows, "recall", thresholds=[0.5]) for rows in (first, second)]
    return recalls_at_equal_precision(found[0], found[1], weights)


def precisions(
    measure: Measure, people: People, ground_truth: CocoDataset, rows: Sequence[Annotation], weights: Floats
) -> Floats:
    """Return the average precision of an arm on each draw of images, in [0, 1]."""
    chosen = part_of(ground_truth, people)
    if people != "all":
        ids = {row["id"] for row in chosen["annotations"]}
        rows = [row for row in rows if row["id"] in ids]
    return average_precision(ranked(chosen, rows, measure), weights)


def ranked(
    ground_truth: CocoDataset, rows: Sequence[Annotation], measure: Measure, thresholds: Sequence[float] | None = None
) -> Ranked:
    """Match rows with people as pycocotools does, at COCO's thresholds if no others are given."""
    kind = KINDS[measure]
    results = to_results(rows, kind, "detection" if measure == "mask AP of the loop" else "iou")
    limit = max(1, len(results)) if measure == "recall" else None
    evaluation = compare(ground_truth, results, kind, limit, thresholds)
    position = {image["id"]: number for number, image in enumerate(ground_truth["images"])}
    people = np.zeros(len(position), dtype=np.int64)
    count = len(evaluation.params.iouThrs)
    scores, images = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    hits, ignored = [np.zeros((count, 0), dtype=bool)], [np.zeros((count, 0), dtype=bool)]
    entries = [each for each in evaluation.evalImgs if each and each["aRng"] == evaluation.params.areaRng[0]]
    for entry in sorted(entries, key=lambda each: position[each["image_id"]]):
        number = position[entry["image_id"]]
        people[number] = (np.asarray(entry["gtIgnore"]) == 0).sum()
        scores.append(np.asarray(entry["dtScores"], dtype=np.float64))
        images.append(np.full(len(entry["dtScores"]), number))
        hits.append(np.asarray(entry["dtMatches"]).reshape(count, -1) > 0)
        ignored.append(np.asarray(entry["dtIgnore"], dtype=bool).reshape(count, -1))
    return Ranked(
        np.concatenate(scores),
        np.concatenate(images),
        np.concatenate(hits, axis=1),
        np.concatenate(ignored, axis=1),
        people,
    )


def person_by_person(
    measure: Measure, people: People, ground_truth: CocoDataset, rows: Sequence[Annotation], *, found: bool
) -> dict[int, PersonResult]:
    """Return how well each labelled person is done, by the id of the annotation.

    found: the rows are of people who were found, not given: each counts for the person whom its mask, or for boxes and
    poses its box, is matched with. Rows of given people have their ids, and count for nobody else.
    """
    kind = KINDS[measure]
    chosen = part_of(ground_truth, people)["annotations"]
    if kind == "keypoints":
        chosen = [row for row in chosen if row.get("num_keypoints", 0)]
    values: dict[int, float] = {}
    if found:
        matches = match(ground_truth, rows, "segm" if kind == "segm" else "bbox", _ALIKE, "detection")
        ids = [row["id"] for row in ground_truth["annotations"]]
        triples = list(zip(matches.rows.tolist(), matches.person.tolist(), matches.overlaps.tolist(), strict=True))
        rows = [cast(Annotation, {**rows[row], "id": ids[person]}) for row, person, _ in triples if person >= 0]
        values = {ids[person]: overlap for _, person, overlap in triples if person >= 0}
    if kind == "keypoints" or not found:
        values = _own_overlaps(ground_truth, rows, kind)
    by_id = {row["id"]: row for row in rows}
    return {row["id"]: PersonResult(values.get(row["id"], 0.0), by_id.get(row["id"])) for row in chosen}


def mean_over_people(results: dict[int, PersonResult], ground_truth: CocoDataset) -> PerPerson:
    """Return the values with the positions of their images."""
    position = {image["id"]: number for number, image in enumerate(ground_truth["images"])}
    rows = [row for row in ground_truth["annotations"] if row["id"] in results]
    return PerPerson(
        np.array([results[row["id"]].value for row in rows]), np.array([position[row["image_id"]] for row in rows])
    )


def _own_overlaps(ground_truth: CocoDataset, rows: Sequence[Annotation], kind: Kind) -> dict[int, float]:
    """Return the IoU or OKS of each person's row with that person, by id."""
    # In the evaluation an annotation goes by its index plus 1, a result likewise.
    evaluation: Any = compare(ground_truth, to_results(rows, kind, "iou"), kind)
    overlaps: dict[int, float] = {}
    for (image_id, category), table in evaluation.ious.items():
        labels = evaluation.cocoGt.getAnnIds(imgIds=[image_id], catIds=[category])
        results = evaluation.cocoDt.loadAnns(evaluation.cocoDt.getAnnIds(imgIds=[image_id], catIds=[category]))
        order = np.argsort([-result["score"] for result in results], kind="mergesort")
        columns = {ground_truth["annotations"][label - 1]["id"]: column for column, label in enumerate(labels)}
        for line, index in enumerate(order[: len(table)]):
            own = rows[results[index]["id"] - 1]["id"]
            if own in columns:
                overlaps[own] = float(table[line, columns[own]])
    return overlaps
