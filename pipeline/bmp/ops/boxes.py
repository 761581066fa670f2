"""Boxes as tensors: formats, sizes, overlap, and the window that a network sees. Knows no record, no network.

All boxes are float (N, 4) in pixels, xyxy edges unless a name says otherwise, on any device; N may be 0.

torchvision has most of this, too, but to import it is to import PyTorch's compiler: 1.6 s of every start.
"""

from __future__ import annotations

import torch
from torch import Tensor


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Convert (N, 4) from left, top, width, height, the format of COCO files, to edges."""
    return torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Convert (N, 4) from edges to left, top, width, height, the format of COCO files."""
    return torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1)


def area(boxes: Tensor) -> Tensor:
    """Return the area of each box, (N,), in square pixels."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Return intersection over union of each of (N, 4) with each of (M, 4): (N, M) in [0, 1], 0 for two empty boxes.

    Examples:
        >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 4.0], [5.0, 5.0, 5.0, 5.0]])
        >>> iou(boxes[:2], boxes).tolist()
        [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0]]
    """
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    joined = area(first)[:, None] + area(second) - shared
    # two boxes without area: 0 divided by 0
    return (shared / joined).nan_to_num(nan=0.0)


def inflate(boxes: Tensor, factor: float) -> Tensor:
    """Move each edge outwards by ``factor`` times the box's size in that direction; the centre stays.

    ``factor`` 0.5 is the paper's "50 % in each direction" (§4.3.3): width and height double, the area is four times
    as large. Boxes may then reach out of the image, see ``clip``. Negative factors above -0.5 shrink.

    Examples:
        >>> inflate(torch.tensor([[10.0, 10.0, 20.0, 30.0]]), 0.5).tolist()
        [[5.0, 0.0, 25.0, 40.0]]
    """
    margin = (boxes[:, 2:] - boxes[:, :2]) * factor
    return torch.cat((boxes[:, :2] - margin, boxes[:, 2:] + margin), dim=1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Cut (N, 4) to an image of that size: x in [0, width], y in [0, height]; a box outside it has no area left."""
    limit = boxes.new_tensor((width, height, width, height))
    return torch.minimum(boxes.clamp(min=0), limit)


def fit_aspect(boxes: Tensor, aspect: float, padding: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the smallest windows of one shape that hold the boxes enlarged ``padding`` times.

    Args:
        boxes: (N, 4).
        aspect: width / height of every window, above 0.
        padding: factor on width and height of the box, before it is widened to the shape; pose networks use 1.25.

    Returns:
        Centres and sizes (width, height) of the windows, (N, 2) each, in pixels.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    width, height = ((boxes[:, 2:] - boxes[:, :2]) * padding).unbind(1)
    return centre, torch.stack((torch.maximum(width, height * aspect), torch.maximum(height, width / aspect)), dim=1)
