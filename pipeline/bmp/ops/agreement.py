"""How sure a label is, from what box, mask and pose of a person say of each other; knows no ground truth, no network.

``benchmarks/agreement.py`` fits the weights to drawn crowds and shows what they are worth on others.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bmp.ops.boxes import iou
from bmp.ops.masks import areas, count, to_boxes
from bmp.structures import Instances
from bmp.structures.mask_windows import MaskWindows

_REACH = 0.02  # distance of the points around a keypoint that are looked at with it, as a share of the box's size
_AROUND = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7))
_SEEN = 0.25  # visibility times presence from which a keypoint is in the box around the skeleton

# Fitted by benchmarks/agreement.py to the nano preset, for detectors without and with masks of their own.
WEIGHTS: dict[bool, dict[str, float]] = {
    False: {
        "": -8.28,
        "own": 1.07,
        "others": 0.77,
        "box": 0.43,
        "skeleton": 0.16,
        "mask_score": 6.19,
        "keypoints": 3.74,
        "visibility": 0.18,
    },
    True: {
        "": -7.73,
        "own": 0.63,
        "box": 0.25,
        "skeleton": 0.04,
        "mask_score": 4.99,
        "keypoints": 3.61,
        "visibility": 0.41,
        "stability": 1.93,
    },
}
"""Of the evidence by name, and of nothing (""): a logistic model. Each piece can only speak for a label."""


def with_agreement(people: Instances) -> Instances:
    """Return everybody in an image with the agreement of their labels, float32 (N,) in [0, 1].

    It estimates how good a label is: the mean of the mask's IoU and the pose's OKS with the person they are of, 0 for
    nobody. It was calibrated with the nano preset on drawn crowds; for other presets and on photos it is an order
    rather than a quantity. Evidence that a preset lacks is left out: the lite preset's detector has no masks, and its
    poses have no expected OKS, whose place the keypoints' scores take.

    Args:
        people: everybody in the image, overlaps resolved, so that others' masks can speak.
    """
    found = evidence(people)
    return people.replaced(agreement=combined(found, WEIGHTS["stability" in found]))


def combined(found: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the agreement (N,) of evidence, with a weight for each name and "" for the constant."""
    logit = sum((weight * found[name] for name, weight in weights.items() if name), start=torch.tensor(weights[""]))
    return torch.as_tensor(logit).sigmoid()


def evidence(people: Instances) -> dict[str, Tensor]:
    """Return what the evidence for each person of an image is worth, by name: float32 (N,) in [0, 1], 1 is best.

    - own: share of the visible keypoints that lie in the person's mask, points close by counted in part.
    - others: share of the visible keypoints that lie in nobody else's mask.
    - box: IoU of the detector's box and the box around the mask.
    - skeleton: IoU of the detector's box and the box around the visible keypoints.
    - mask_score: predicted IoU.
    - keypoints: expected OKS of the keypoints that are present, or where there is none their scores.
    - visibility: mean over all keypoints.
    - stability: IoU of the mask and the detector's, the answer to another prompt; only where there is one.
    """
    boxes, poses, bits = people.detections.boxes, people.poses, people.masks.windows
    seen = poses.visibility * poses.presence
    own, foreign = _shares_inside(people, seen)
    certain = poses.scores if poses.expected_oks is None else poses.expected_oks
    extents = to_boxes(bits)
    found = {
        "own": own,
        "others": 1 - foreign,
        "box": _row_iou(boxes, extents),
        "skeleton": _row_iou(boxes, _boxes_around(poses.keypoints, seen >= _SEEN)),
        "mask_score": people.masks.scores,
        "keypoints": _weighted(certain, poses.presence),
        "visibility": seen.mean(dim=1),
    }
    if people.detections.windows is not None:
        found["stability"] = _mask_overlap(bits, people.detections.windows)
    return found


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-6)


def _row_iou(first: Tensor, second: Tensor) -> Tensor:
    return iou(first, second).diagonal()


def _boxes_around(points: Tensor, which: Tensor) -> Tensor:
    """Return the box (N, 4) around those of the points (N, K, 2); zeros where there are none."""
    far = torch.where(which, 0.0, float("inf"))[..., None]
    boxes = torch.cat(((points + far).amin(dim=1), (points - far).amax(dim=1)), dim=1)
    return torch.where(which.any(dim=1)[:, None], boxes, 0)


def _shares_inside(people: Instances, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return which share of each person's keypoints, weighted by ``seen``, lies in the own and in others' masks."""
    bits, points = people.masks.windows, people.poses.keypoints
    _, height, width = bits.shape
    size = _area(people.detections.boxes).sqrt()
    around = points.new_tensor(_AROUND) * _REACH * size[:, None, None, None]  # (N, 1, 9, 2)
    x, y = (points[:, :, None] + around).round().long().unbind(dim=3)  # (N, K, 9)
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    rows = torch.arange(len(people), device=bits.device)
    inside = torch.zeros_like(within)
    anybody = within.new_zeros(len(people), *x.shape[:2])  # (N masks, N, K)
    for row in range(len(people)):
        inside[row] = bits.at(row, x[row], y[row])
        anybody[row] = bits.at(row, x[:, :, 0], y[:, :, 0])
    own = (inside & within).float().mean(dim=2)
    anybody &= within[:, :, 0]
    anybody[rows, rows] = False
    return _weighted(own, seen), _weighted(anybody.any(dim=0).float(), seen)


def _mask_overlap(bits: MaskWindows, masks: MaskWindows) -> Tensor:
    """Return the IoU (N,) of two masks of each person."""
    shared = torch.zeros(len(bits), dtype=torch.int64, device=bits.device)
    for row, ((rows, columns), (others, other_columns)) in enumerate(zip(bits.windows(), masks.windows(), strict=True)):
        top, bottom = max(rows.start, others.start), min(rows.stop, others.stop)
        left, right = max(columns.start, other_columns.start), min(columns.stop, other_columns.stop)
        if top < bottom and left < right:
            first = bits.patches[row][
                top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
            ]
            second = masks.patches[row][
                top - others.start : bottom - others.start, left - other_columns.start : right - other_columns.start
            ]
            shared[row] = count(first & second)
    return shared / (areas(bits) + areas(masks) - shared).clamp(min=1)
