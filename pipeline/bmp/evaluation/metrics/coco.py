"""COCO's numbers, computed by pycocotools from plain COCO dicts; knows no data set, no model and no file.

pycocotools' COCOeval is the one engine: every number equals its own to the last digit. Ground truth and results are
read and never changed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typing_extensions import NotRequired, TypedDict

from bmp.errors import UserError, choices
from bmp.io.annotations import Annotation, CocoDataset
from bmp.io.segmentations import Segmentation
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet

Kind = Literal["bbox", "segm", "keypoints"]
"""What of a person is compared: its box, its mask or its pose."""


class CocoResult(TypedDict):
    """A result in COCO's format: fields of the kind that is compared, and how sure it is.

    ``present``: for Ex-OKS, which keypoints are said to be inside the window.
    """

    image_id: int | str
    category_id: int
    score: float
    bbox: NotRequired[list[float]]
    segmentation: NotRequired[Segmentation]
    keypoints: NotRequired[list[float]]
    present: NotRequired[list[bool]]


SEGM_SCORES: dict[str, Callable[[Annotation], float]] = {
    "detection": lambda row: float(row["score"]),
    "iou": lambda row: float(row["mask_score"]),
    "detection_times_iou": lambda row: float(row["score"] * row["mask_score"]),
    "constant": lambda row: 1.0,
}
"""How sure a mask is: the detection's score, the segmenter's predicted IoU, their product, or everybody alike."""

_CONFIDENT_KEYPOINT = 0.2
_FIELDS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
_MAX_DETECTIONS = {"bbox": 100, "segm": 100, "keypoints": 20}


@dataclass(frozen=True)
class CocoNumbers:
    """Average precision and recall as COCO defines them, in [0, 1]; None where there is no number.

    There is none where no person is labelled in that range of sizes (pycocotools says -1), nor where COCO has no such
    number: small people have no poses, and recall at 1 and 10 results an image is one of boxes and masks.

    ap, ar: mean over IoU (or OKS) 0.5, 0.55, ..., 0.95. ap50, ap75, ar50, ar75: at that threshold. small, medium,
    large: people of areas up to 32², up to 96², and beyond, in square pixels. ar_1, ar_10: ar with the best 1 and 10
    results of each image; all others use the best ``max_detections``.
    """

    kind: Kind
    max_detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar: float | None
    ar50: float | None
    ar75: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    ar_1: float | None
    ar_10: float | None


def to_results(rows: Sequence[Annotation], kind: Kind, segm_score: str = "detection_times_iou") -> list[CocoResult]:
    """Return COCO results for one kind, a result a row in the same order, ready for ``json`` and pycocotools.

    The score of a box is its detection's. That of a mask is one of ``SEGM_SCORES``. That of a pose is the detection's
    times the mean score of its keypoints above 0.2, and 0 if none is, as in MMPose's ``CocoMetric``.

    A mask's result has no ``bbox``, so that pycocotools takes the area of the mask for its size; a pose's result has
    one, as MMPose's do, so that its size is that of the box. That makes a difference to the numbers by size only.

    Args:
        rows: annotations as ``bmp.io.annotations.to_annotations`` makes them.
        kind: which result to make of each.
        segm_score: a name of ``SEGM_SCORES``; for "segm" only.

    Raises:
        UserError: there is no such score.
    """
    if segm_score not in SEGM_SCORES:
        raise UserError(f"there is no segm_score {segm_score!r}; {choices(segm_score, SEGM_SCORES)}")
    score = {"bbox": SEGM_SCORES["detection"], "segm": SEGM_SCORES[segm_score], "keypoints": _pose_score}[kind]
    results = []
    for row in rows:
        result = CocoResult(image_id=row["image_id"], category_id=row["category_id"], score=score(row))
        if kind == "segm":
            result["segmentation"] = row["segmentation"]
        else:
            result["bbox"] = row["bbox"]
        if kind == "keypoints":
            result["keypoints"] = row["keypoints"]
        results.append(result)
    return results


def evaluate_coco(
    ground_truth: CocoDataset,
    results: Sequence[CocoResult],
    kind: Kind,
    max_detections: int | None = None,
    keypoints: KeypointSet = COCO_KEYPOINTS,
) -> CocoNumbers:
    """Compare results with the ground truth as pycocotools does.

    Keypoints are compared with the sigmas of their set at the labelled areas, with 20 results an image, which is also
    what MMPose's ``CocoMetric`` does for OCHuman; its additional suppression of alike poses is not part of this. What
    else the benchmark of a set asks for is in ``bmp.evaluation.metrics.poses``.

    Args:
        ground_truth: COCO dict with images, annotations and categories. Without ``iscrowd`` an annotation is no crowd;
            without ``keypoints`` nobody has labelled them. Ids of annotations do not matter, 0 included.
        results: COCO results of ``kind``; ``to_results`` makes them out of annotations.
        kind: what to compare.
        max_detections: how many results of an image count, the best first; COCO's 100, for keypoints 20, if None.
        keypoints: what those of ground truth and results mean.

    Raises:
        UserError: a field is missing, or a result is of an image that the ground truth does not have.

    Examples:
        A box that covers nine tenths of the labelled one is right at nine of COCO's ten thresholds of IoU.

        >>> person = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 40, 80], "area": 3200}
        >>> ground_truth = {"images": [{"id": 7}], "categories": [{"id": 1}], "annotations": [person]}
        >>> rows = [{"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 72], "score": 0.9}]
        >>> numbers = evaluate_coco(ground_truth, to_results(rows, "bbox"), "bbox")
        >>> print(f"{numbers.ap:.2f} {numbers.ap50:.2f}")
        0.90 1.00
    """
    return summarize(compare(ground_truth, results, kind, max_detections, keypoints=keypoints))


def summarize(evaluation: COCOeval) -> CocoNumbers:
    """Return the averages over what ``compare`` matched with COCO's own thresholds."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    limits = evaluation.params.maxDets
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]

    def mean(table: npt.NDArray[np.float64], threshold: float | None = None, area: str = "all") -> float | None:
        return _mean(evaluation, table, threshold, area, limits[-1])

    return CocoNumbers(
        kind=evaluation.params.iouType,
        max_detections=limits[-1],
        ap=mean(precision),
        ap50=mean(precision, 0.5),
        ap75=mean(precision, 0.75),
        ap_small=mean(precision, area="small"),
        ap_medium=mean(precision, area="medium"),
        ap_large=mean(precision, area="large"),
        ar=mean(recall),
        ar50=mean(recall, 0.5),
        ar75=mean(recall, 0.75),
        ar_small=mean(recall, area="small"),
        ar_medium=mean(recall, area="medium"),
        ar_large=mean(recall, area="large"),
        ar_1=_mean(evaluation, recall, None, "all", 1),
        ar_10=_mean(evaluation, recall, None, "all", 10),
    )


def compare(
    ground_truth: CocoDataset,
    results: Sequence[CocoResult],
    kind: Kind,
    max_detections: int | None = None,
    thresholds: Sequence[float] | None = None,
    engine: type[COCOeval] = COCOeval,
    keypoints: KeypointSet = COCO_KEYPOINTS,
) -> COCOeval:
    """Match results with the ground truth image by image and return pycocotools' evaluation, not accumulated yet.

    In it the id of an annotation is its index in ``ground_truth["annotations"]`` plus 1, that of a result its index in
    ``results`` plus 1: pycocotools takes id 0 for "not matched".

    Args:
        ground_truth: as for ``evaluate_coco``.
        results: as for ``evaluate_coco``.
        kind: as for ``evaluate_coco``.
        max_detections: as for ``evaluate_coco``.
        thresholds: IoU or OKS from which a result counts as right, ascending; COCO's ten if None. With thresholds of
            one's own all sizes count as one, since nobody averages over them.
        engine: COCOeval, or a class that measures alikeness differently.
        keypoints: as for ``evaluate_coco``.

    Raises:
        UserError: as for ``evaluate_coco``.
    """
    limit = _MAX_DETECTIONS[kind] if max_detections is None else max_detections
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = {
            "images": list(ground_truth["images"]),
            "categories": list(ground_truth["categories"]),
            "annotations": [
                _label(row, kind, number, keypoints) for number, row in enumerate(ground_truth["annotations"], 1)
            ],
        }
        labels.createIndex()
        found = _loaded(labels, results, kind, keypoints)
        evaluation = engine(labels, found, kind)
        parameters = evaluation.params
        if keypoints.sigmas != COCO_KEYPOINTS.sigmas:  # pycocotools has those, and its own digits of them
            parameters.kpt_oks_sigmas = np.asarray(keypoints.sigmas, dtype=np.float64)
        parameters.maxDets = (
            [limit] if kind == "keypoints" else sorted({count for count in (1, 10) if count < limit} | {limit})
        )
        if thresholds is not None:
            parameters.iouThrs = np.asarray(thresholds, dtype=np.float64)
            parameters.maxDets, parameters.areaRng, parameters.areaRngLbl = [limit], parameters.areaRng[:1], ["all"]
        evaluation.evaluate()
    return evaluation


def _label(annotation: Annotation, kind: Kind, number: int, keypoints: KeypointSet) -> dict[str, object]:
    """Return a copy for pycocotools, which writes into it."""
    label: dict[str, object] = {"iscrowd": 0, **annotation, "id": number}
    if kind == "keypoints":
        values = annotation.get("keypoints", [0.0] * (3 * len(keypoints)))
        label["keypoints"] = values
        label.setdefault("num_keypoints", sum(flag > 0 for flag in values[2::3]))
    fields = ("image_id", "category_id", "area", "bbox", _FIELDS[kind])
    _check(label, fields, kind, f"ground truth, annotation {number}", keypoints)
    return label


def _loaded(labels: COCO, results: Sequence[CocoResult], kind: Kind, keypoints: KeypointSet) -> COCO:
    """Load results as pycocotools does, but for copies of them, and none at all is nothing special."""
    copies = [dict(result) for result in results]
    shared = ("bbox",) if copies and "bbox" in copies[0] else ()  # pycocotools takes the first for all
    for number, result in enumerate(copies, 1):
        fields = ("image_id", "category_id", "score", *shared, _FIELDS[kind])
        _check(result, fields, kind, f"results, row {number}", keypoints)
        if result["image_id"] not in labels.imgs:
            raise UserError(
                f"results, row {number}: the ground truth has no image {result['image_id']!r}; "
                "compare with the ground truth that they were made for"
            )
    if copies:
        return labels.loadRes(copies)
    nobody = COCO()
    nobody.dataset = {**labels.dataset, "annotations": []}
    nobody.createIndex()
    return nobody


def _check(row: Mapping[str, object], fields: Sequence[str], kind: Kind, place: str, meaning: KeypointSet) -> None:
    for field in fields:
        if field not in row:
            raise UserError(f"{place}: has no {field!r}, which the evaluation of {kind} needs; it has {', '.join(row)}")
    keypoints = row.get("keypoints")
    if kind == "keypoints" and isinstance(keypoints, Sized) and len(keypoints) != 3 * len(meaning):
        raise UserError(
            f"{place}: expected {meaning} as x, y, v, which are {3 * len(meaning)} numbers, got {len(keypoints)}; "
            "leave out keypoints beyond those"
        )


def _mean(
    evaluation: COCOeval, table: npt.NDArray[np.float64], threshold: float | None, area: str, limit: int
) -> float | None:
    """Return the mean of what pycocotools filled in; (T, ..., A, M) for thresholds, areas and limits."""
    parameters = evaluation.params
    if area not in parameters.areaRngLbl or limit not in parameters.maxDets:
        return None
    chosen = table[..., parameters.areaRngLbl.index(area), parameters.maxDets.index(limit)]
    if threshold is not None:
        chosen = chosen[np.isclose(parameters.iouThrs, threshold)]
    known = chosen[chosen > -1]
    return float(known.mean()) if known.size else None


def _pose_score(row: Annotation) -> float:
    confident = [score for score in row["keypoint_scores"] if score > _CONFIDENT_KEYPOINT]
    return float(row["score"]) * sum(confident) / len(confident) if confident else 0.0
