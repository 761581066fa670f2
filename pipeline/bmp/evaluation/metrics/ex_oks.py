"""Ex-OKS, ProbPose's extension of OKS to keypoints outside the window; knows tensors and COCO dicts, no model.

A pose network sees a person through a window around its box. A keypoint may lie beyond it, and a good network says so
instead of guessing a place. OKS ignores such keypoints; Ex-OKS has a distance for each of the four cases:

| labelled | estimated | distance |
| --- | --- | --- |
| inside | present | between the two points |
| outside | present | from the estimate to the window's edge |
| inside | absent | from the label to the window's edge |
| outside | absent | 0 |

Outside is flag 3 in the labels (CropCOCO's), inside 1 or 2; 0 is not labelled and does not count. There is no working
public implementation to compare with: this one is written from the definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from bmp.evaluation.metrics.coco import CocoNumbers, compare, summarize, to_results
from bmp.io.annotations import Annotation, CocoDataset
from bmp.ops.boxes import fit_aspect, xywh_to_xyxy

OUTSIDE = 3
_ASPECT, _PADDING = 3 / 4, 1.25


@dataclass(frozen=True)
class ExOksNumbers:
    """How poses do by Ex-OKS.

    numbers: COCO's, with Ex-OKS where COCO has OKS. mean: Ex-OKS of each labelled person with the result that is its
    own, averaged over people, in [0, 1]; of all pairs in an image the most alike are each other's own, then the most
    alike of the rest; who is left without counts as 0. None where nobody has labelled keypoints.
    """

    numbers: CocoNumbers
    mean: float | None


def windows(boxes: Tensor) -> Tensor:
    """Return what a pose network sees of each person: its box, 1.25 times as large, widened to 3:4.

    boxes: float (N, 4), xyxy edges in pixels. Returns the same, in general reaching out of the image.
    """
    centres, sizes = fit_aspect(boxes, _ASPECT, _PADDING)
    return torch.cat((centres - sizes / 2, centres + sizes / 2), dim=1)


def distance_to_edge(points: Tensor, boxes: Tensor) -> Tensor:
    """Return how far points are from the outline of a box, inside as outside; 0 on it.

    points: float (..., 2). boxes: float (..., 4), xyxy edges, of shapes that broadcast. Returns (...), in pixels.

    Examples:
        >>> points = torch.tensor([[5.0, 5.0], [2.0, 5.0], [13.0, 14.0]])
        >>> distance_to_edge(points, torch.tensor([0.0, 0.0, 10.0, 10.0])).tolist()
        [5.0, 2.0, 5.0]
    """
    beyond = torch.maximum(boxes[..., :2] - points, points - boxes[..., 2:])  # negative within the box
    outside = beyond.clamp(min=0).square().sum(dim=-1).sqrt()
    inside = (-beyond.amax(dim=-1)).clamp(min=0)
    return outside + inside


def ex_oks(
    reference: Tensor,
    flags: Tensor,
    candidates: Tensor,
    present: Tensor,
    area: Tensor,
    window: Tensor,
    sigmas: Tensor,
) -> Tensor:
    """Compare each reference pose with each candidate.

    Per keypoint exp(-d² / (2 · area · (2 · sigma)²)) with the distance d of the table above, averaged over the
    labelled keypoints of the reference.

    Args:
        reference: (N, K, 2), the labels, x and y in pixels.
        flags: integer (N, K): 0 not labelled, 1 occluded, 2 visible, 3 outside the window.
        candidates: (M, K, 2), the estimates.
        present: bool (M, K), which keypoints the candidates say are inside the window.
        area: (N,), of the reference people in square pixels.
        window: (N, 4), xyxy, what the network saw of the reference people; see ``windows``.
        sigmas: (K,), falloff of each keypoint as a fraction of sqrt(area).

    Returns:
        (N, M) in [0, 1], in the precision of the poses; 0 for a reference without labelled keypoints.
    """
    window = window[:, None]
    outside, present = (flags == OUTSIDE)[:, None], present[None]
    between = (reference[:, None] - candidates[None]).square().sum(dim=-1).sqrt()
    invented = distance_to_edge(candidates[None], window[:, None])
    missed = distance_to_edge(reference, window)[:, None]
    distance = torch.where(
        present, torch.where(outside, invented, between), torch.where(outside, torch.zeros_like(between), missed)
    )
    falloff = 2 * area[:, None] * (2 * sigmas.to(area)).square()
    # As in OKS, a person without area resembles only an exact copy of itself.
    similarity = torch.exp(-distance.square() / falloff.clamp(min=torch.finfo(falloff.dtype).tiny)[:, None])
    labelled = (flags > 0).to(similarity)
    return (similarity * labelled[:, None]).sum(dim=-1) / labelled.sum(dim=1, keepdim=True).clamp(min=1)


def evaluate_ex_oks(
    ground_truth: CocoDataset,
    rows: Sequence[Annotation],
    presence_threshold: float = 0.5,
    max_detections: int | None = None,
) -> ExOksNumbers:
    """Compare annotation rows with the ground truth by Ex-OKS.

    Args:
        ground_truth: COCO dict; keypoints outside the window have flag 3, as in CropCOCO. A person all of whose
            labelled keypoints are outside counts like any other.
        rows: annotations as ``bmp.io.annotations.to_annotations`` makes them; scores are those of ``to_results``.
        presence_threshold: from which ``keypoint_presence`` on a keypoint counts as inside.
        max_detections: how many results of an image count, the best first; 20 if None.

    Raises:
        UserError: as for ``bmp.evaluation.metrics.coco.evaluate_coco``.
    """
    results = to_results(rows, "keypoints")
    for result, row in zip(results, rows, strict=True):
        result["present"] = [presence >= presence_threshold for presence in row["keypoint_presence"]]
    labels = [_counted(label) for label in ground_truth["annotations"]]
    evaluation = compare(
        {**ground_truth, "annotations": labels}, results, "keypoints", max_detections, engine=_ExOksEval
    )
    people = sum(label.get("num_keypoints", 0) > 0 and not label.get("iscrowd") for label in labels)
    total = sum(map(_own, evaluation.tables))
    return ExOksNumbers(summarize(evaluation), total / people if people else None)


def _counted(label: Annotation) -> Annotation:
    """Count the labelled keypoints: COCO leaves out people without any, and labels may not count those outside."""
    label = label.copy()
    if "keypoints" in label:
        label["num_keypoints"] = sum(flag > 0 for flag in label["keypoints"][2::3])
    return label


class _ExOksEval(COCOeval):  # type: ignore[misc]
    """pycocotools' evaluation with another similarity; ``tables`` are those of the people who count, by image."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tables: list[npt.NDArray[np.float64]] = []

    def computeOks(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803
        """Return Ex-OKS, float64 (results by score, labels), or an empty list for none of either."""
        table = super().computeOks(imgId, catId)
        if not len(table):
            return table
        labels = self.cocoGt.loadAnns(self.cocoGt.getAnnIds(imgIds=[imgId], catIds=[catId]))
        # COCO's own table stays where nothing is labelled: a result there is neither right nor wrong.
        columns = [column for column, label in enumerate(labels) if label["num_keypoints"]]
        labels = [labels[column] for column in columns]
        results = sorted(self.cocoDt.imgToAnns[imgId], key=lambda result: -float(result["score"]))
        results = [result for result in results if result["category_id"] == catId][: len(table)]
        if labels:
            keypoints = _numbers(labels, "keypoints").reshape(len(labels), -1, 3)
            table[:, columns] = ex_oks(
                keypoints[..., :2],
                keypoints[..., 2].long(),
                _numbers(results, "keypoints").reshape(len(results), -1, 3)[..., :2],
                _numbers(results, "present").bool(),
                _numbers(labels, "area"),
                windows(xywh_to_xyxy(_numbers(labels, "bbox"))),
                torch.from_numpy(self.params.kpt_oks_sigmas),
            ).T.numpy()
            self.tables.append(table[:, [c for c, label in zip(columns, labels, strict=True) if not label["iscrowd"]]])
        return table


def _numbers(rows: Sequence[Mapping[str, Any]], field: str) -> Tensor:
    return torch.tensor([row[field] for row in rows], dtype=torch.float64)


def _own(table: npt.NDArray[np.float64]) -> float:
    """Return the sum over one-to-one pairs, the most alike first."""
    total = 0.0
    rest = table.copy()
    for _ in range(min(table.shape)):
        result, person = np.unravel_index(rest.argmax(), rest.shape)
        total += float(rest[result, person])
        rest[result], rest[:, person] = -1, -1
    return total
