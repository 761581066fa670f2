"""Overlaps and suppression of axis-aligned boxes, as `mmcv.ops.nms` and `mmcv.ops.bbox` call them.

Boxes are xyxy. With `offset` 1 (the convention of MMDetection 1.x) a box from column 3 to column 5 is 3 wide, with
`offset` 0 it is 2 wide. This module knows nothing of classes, batches or thresholds of any model.
"""

import torch
import torchvision
from torch import Tensor

from .precision import widen

_NAIVE, _LINEAR, _GAUSSIAN = range(3)  # the numbers by which mmcv names the decays of soft NMS


def _with_offset(boxes: Tensor, offset: int) -> Tensor:
    """Return boxes (N, 4) whose plain width and height already contain the offset."""
    boxes = widen(boxes)
    return boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the int64 rows, best score first, of the boxes that overlap no better kept one by more than the threshold.

    Args:
        boxes: (N, 4) float.
        scores: (N,) float.
        iou_threshold: In [0, 1].
        offset: 0 or 1.
    """
    boxes = _with_offset(boxes, offset)
    kept: Tensor = torchvision.ops.nms(boxes, scores.to(boxes.dtype), iou_threshold)
    return kept


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of overlapping boxes instead of dropping them; rows under the minimum score fall away.

    Args:
        boxes: (N, 4) float.
        scores: (N,) float.
        dets: (N, 5) float, filled in its first rows: box and lowered score, in the order of the result.
        iou_threshold: Overlap from which on `naive` and `linear` lower a score.
        sigma: Spread of the `gaussian` decay exp(-iou² / sigma).
        min_score: Rows whose lowered score is below it are left out.
        method: 0 naive (score 0), 1 linear (times 1 - iou), 2 gaussian.
        offset: 0 or 1.

    Returns:
        int64 (M,), M <= N: rows of `boxes` in the order in which they were taken.

    Raises:
        ValueError: `method` is none of the three.
    """
    if method not in (_NAIVE, _LINEAR, _GAUSSIAN):
        raise ValueError(f"soft NMS expects method 0 (naive), 1 (linear) or 2 (gaussian), got {method}")
    overlaps = torchvision.ops.box_iou(*[_with_offset(boxes, offset)] * 2)
    lowered = widen(scores).clone()
    rest = torch.arange(len(boxes), device=boxes.device)
    taken = []
    while rest.numel():
        best = int(lowered[rest].argmax())
        row = rest[best]
        taken.append(row)
        rest = torch.cat((rest[:best], rest[best + 1 :]))
        overlap = overlaps[row, rest]
        if method == _GAUSSIAN:
            lowered[rest] *= torch.exp(-overlap.square() / sigma)
        else:
            close = 1 - overlap if method == _LINEAR else torch.zeros_like(overlap)
            lowered[rest] *= torch.where(overlap >= iou_threshold, close, 1)
        rest = rest[lowered[rest] >= min_score]
    rows = torch.stack(taken) if taken else rest
    dets[: len(rows), :4] = boxes[rows]
    dets[: len(rows), 4] = lowered[rows]
    return rows


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return the groups that NMS would form, best score first in each: the kept row, then those it suppresses.

    Args:
        dets: (N, 5) float, boxes and scores.
        iou_threshold: Overlap from which on a row joins the group of a better one.
    """
    dets = widen(dets)
    boxes, scores = dets[:, :4], dets[:, 4]
    close = torchvision.ops.box_iou(boxes, boxes) >= iou_threshold
    close.fill_diagonal_(True)  # a box without area overlaps nothing, not even itself
    rest = scores.argsort(descending=True, stable=True)
    groups = []
    while rest.numel():
        group = close[rest[0], rest]
        groups.append(rest[group].tolist())
        rest = rest[~group]
    return groups


def bbox_overlaps(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Fill `ious` with the overlaps of boxes: of all pairs, or with `aligned` of rows of the same number.

    Args:
        boxes1: (N, 4) float.
        boxes2: (M, 4) float; M = N where `aligned`.
        ious: (N, M), or (N,) where `aligned`.
        mode: 0 intersection over union, 1 intersection over the area of the first box.
        aligned: Compare row i with row i only.
        offset: 0 or 1.
    """
    first, second = _with_offset(boxes1, offset), _with_offset(boxes2, offset)
    if not aligned:
        first = first[:, None]
    size = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    shared = size.clamp(min=0).prod(-1)
    area = (first[..., 2:] - first[..., :2]).prod(-1)
    if mode == 0:
        area = area + (second[..., 2:] - second[..., :2]).prod(-1) - shared
    # Two boxes without area share nothing: 0, not 0/0.
    ious.copy_(torch.where(shared > 0, shared / area, 0))
