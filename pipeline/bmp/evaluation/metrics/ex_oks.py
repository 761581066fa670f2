"""Ex-OKS, ProbPose's extension of OKS to keypoints outside the window; knows tensors and COCO dicts, no model.

A pose network sees a person through a window around its box. A keypoint may lie beyond it, and a good network says so
instead of guessing a location. OKS ignores such keypoints; Ex-OKS has a distance for each of the four cases:

| labelled | estimated | distance |
| --- | --- | --- |
| inside | present | between the two points |
| outside | present | from the estimate to the window |
| inside | absent | from the label to the window's edge |
| outside | absent | 0 |

Outside is flag 3 in the labels (CropCOCO's), inside 1 or 2; 0 is not labelled and does not count. This implementation
is written from the definition. How far a point beyond the window is from it has two rules, ``EdgeRule``, and numbers by
one do not compare with numbers by the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from bmp.errors import UserError, choices
from bmp.evaluation.metrics.coco import CocoNumbers, compare, summarize, to_results
from bmp.io.annotations import Annotation, CocoDataset
from bmp.ops.boxes import fit_aspect, xywh_to_xyxy

EdgeRule = Literal["edge", "corner"]
"""What the distance of a point beyond the window is measured to: the nearest point of its outline, as ProbPose defines
Ex-OKS, or its nearest corner, as the public package exococotools 1.0.0 does. A point ten pixels beside the middle of an
edge of 200 pixels is 10 pixels away by the first rule and 100.5 by the second. Points inside are measured to the
outline by both."""

OUTSIDE = 3
_ASPECT, _PADDING = 3 / 4, 1.25


@dataclass(frozen=True)
class ExOksNumbers:
    """How poses do by Ex-OKS.

    numbers: COCO's, with Ex-OKS where COCO has OKS. mean: Ex-OKS of each labelled person with the result that is its
    own, averaged over people, in [0, 1]; of all pairs in an image the most alike are each other's own, then the most
    alike of the rest; who is left without counts as 0. None where nobody has labelled keypoints. rule,
    presence_threshold: how they were measured.
    """

    numbers: CocoNumbers
    mean: float | None
    rule: EdgeRule = "edge"
    presence_threshold: float = 0.5

    @property
    def method(self) -> str:
        """A sentence for reports, without which the numbers mean nothing."""
        target = "the nearest point of its outline" if self.rule == "edge" else "its nearest corner"
        return (
            f"Ex-OKS by the rule {self.rule!r}: from a point beyond the window to {target}; keypoints count as present "
            f"from {self.presence_threshold:g}."
        )


def crop_windows(boxes: Tensor) -> Tensor:
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


def distance_to_corner(points: Tensor, boxes: Tensor) -> Tensor:
    """Return how far points beyond a box are from its nearest corner, those inside from its outline.

    Arguments and result as for ``distance_to_edge``.

    Examples:
        >>> points = torch.tensor([[5.0, 5.0], [14.0, 5.0], [13.0, 12.0]])
        >>> distance_to_corner(points, torch.tensor([0.0, 0.0, 10.0, 8.0])).tolist()
        [3.0, 5.0, 5.0]
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    inside = ((points >= low) & (points <= high)).all(dim=-1)
    corner = torch.minimum((points - low).square(), (points - high).square()).sum(dim=-1).sqrt()
    return torch.where(inside, distance_to_edge(points, boxes), corner)


_DISTANCES = {"edge": distance_to_edge, "corner": distance_to_corner}


def ex_oks(
    reference: Tensor,
    flags: Tensor,
    candidates: Tensor,
    present: Tensor,
    area: Tensor,
    window: Tensor,
    sigmas: Tensor,
    rule: EdgeRule = "edge",
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
        window: (N, 4), xyxy, what the network saw of the reference people; see ``crop_windows``.
        sigmas: (K,), falloff of each keypoint as a fraction of sqrt(area).
        rule: to what of the window the distance of a point beyond it is measured.

    Returns:
        (N, M) in [0, 1], in the precision of the poses; 0 for a reference without labelled keypoints.
    """
    window = window[:, None]
    outside, present = (flags == OUTSIDE)[:, None], present[None]
    between = (reference[:, None] - candidates[None]).square().sum(dim=-1).sqrt()
    invented = _DISTANCES[rule](candidates[None], window[:, None])
    missed = _DISTANCES[rule](reference, window)[:, None]
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
    rule: EdgeRule = "edge",
) -> ExOksNumbers:
    """Compare annotation rows with the ground truth by Ex-OKS.

    Args:
        ground_truth: COCO dict; keypoints outside the window have flag 3, as in CropCOCO. A person all of whose
            labelled keypoints are outside counts like any other.
        rows: annotations as ``bmp.io.annotations.to_annotations`` makes them; scores are those of ``to_results``.
        presence_threshold: from which ``keypoint_presence`` on a keypoint counts as inside.
        max_detections: how many results of an image count, the best first; 20 if None.
        rule: as for ``ex_oks``.

    Raises:
        UserError: as for ``bmp.evaluation.metrics.coco.evaluate_coco``, and for a rule that there is not.
    """
    check_rule(rule)
    results = to_results(rows, "keypoints")
    for result, row in zip(results, rows, strict=True):
        result["present"] = [presence >= presence_threshold for presence in row["keypoint_presence"]]
    labels = [_counted(label) for label in ground_truth["annotations"]]
    evaluation = compare(
        {**ground_truth, "annotations": labels}, results, "keypoints", max_detections, engine=_ENGINES[rule]
    )
    people = sum(label.get("num_keypoints", 0) > 0 and not label.get("iscrowd") for label in labels)
    total = sum(map(_own, evaluation.tables))
    return ExOksNumbers(summarize(evaluation), total / people if people else None, rule, presence_threshold)


def check_rule(rule: str) -> None:
    """Raise ``UserError`` unless there is such an ``EdgeRule``."""
    if rule not in get_args(EdgeRule):
        raise UserError(f"Ex-OKS: there is no rule {rule!r}; {choices(rule, get_args(EdgeRule))}")


def _counted(label: Annotation) -> Annotation:
    """Count the labelled keypoints: COCO leaves out people without any, and labels may not count those outside."""
    label = label.copy()
    if "keypoints" in label:
        label["num_keypoints"] = sum(flag > 0 for flag in label["keypoints"][2::3])
    return label


class _ExOksEval(COCOeval):  # type: ignore[misc]
    """pycocotools' evaluation with another similarity; ``tables`` are those of the people who count, by image."""

    rule: EdgeRule = "edge"

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
                crop_windows(xywh_to_xyxy(_numbers(labels, "bbox"))),
                torch.from_numpy(self.params.kpt_oks_sigmas),
                self.rule,
            ).T.numpy()
            self.tables.append(table[:, [c for c, label in zip(columns, labels, strict=True) if not label["iscrowd"]]])
        return table


class _CornerExOksEval(_ExOksEval):
    rule = "corner"


_ENGINES: dict[EdgeRule, type[_ExOksEval]] = {"edge": _ExOksEval, "corner": _CornerExOksEval}


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
