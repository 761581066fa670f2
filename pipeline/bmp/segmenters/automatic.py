"""Finds whatever there is in a picture by asking a segmenter at every point of a grid, as SAM's automatic masks do.

It knows no network and no class of objects.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.ops.boxes import iou
from bmp.ops.masks import to_boxes
from bmp.stages import ImageView, PromptableSegmenter
from bmp.structures import Image, Masks, Prompts

_CHUNK = 64  # points that are asked about at one time


@torch.no_grad()
def automatic_masks(
    segmenter: PromptableSegmenter,
    view: ImageView,
    image: Image,
    *,
    side: int = 32,
    min_score: float = 0.88,
    min_stability: float = 0.95,
    overlap: float = 0.7,
    most: int = 100,
) -> Masks:
    """Return the masks that points of a grid find, the surest first.

    For each point the segmenter takes the best of its several masks. A mask stays if its predicted IoU is high enough,
    if it is stable, and if no surer one has nearly its box.

    Args:
        segmenter: is asked.
        view: of the image, as its ``open`` returned it.
        image: the image.
        side: points along each side of the grid.
        min_score: predicted IoU from which a mask counts.
        min_stability: share of its pixels that remain where the threshold of logits is raised from -1 to 1.
        overlap: IoU of boxes above which the less sure mask is the same thing once more.
        most: masks at the most.

    Raises:
        UserError: for a grid without points.
    """
    if side < 1:
        raise UserError(f"side: expected at least 1 point along a side, got {side}")
    line = (torch.arange(side) + 0.5) / side
    points = torch.cartesian_prod(line * image.height, line * image.width).flip(1)
    logits, scores, boxes = [], [], []
    for few in torch.split(points, _CHUNK):
        prompts = Prompts(few[:, None], torch.ones(len(few), 1, dtype=torch.int8), torch.full((len(few), 1), -1))
        ((found, sure),) = segmenter.logits([view], [prompts], multimask=True)
        good = (sure >= min_score) & (_stability(found) >= min_stability)
        around = to_boxes(segmenter.bits(view, found[good]))
        there = (around[:, 2:] > around[:, :2]).all(dim=1)
        logits.append(found[good][there])
        scores.append(sure[good][there])
        boxes.append(around[there])
    kept = _distinct(torch.cat(boxes), torch.cat(scores), overlap)[:most]
    return Masks(segmenter.bits(view, torch.cat(logits)[kept]), torch.cat(scores)[kept])


def _stability(logits: Tensor) -> Tensor:
    """Return how much of each mask (N, h, w) remains with a threshold of 1 in place of -1: (N,) in [0, 1]."""
    inner, outer = ((logits > level).flatten(1).sum(dim=1) for level in (1.0, -1.0))
    return inner / outer.clamp(min=1)


def _distinct(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Return the rows of boxes (N, 4) that are not nearly that of a higher score: int64, the highest first."""
    left, kept = scores.argsort(descending=True, stable=True), []
    while len(left):
        kept.append(left[0])
        left = left[1:][iou(boxes[left[:1]], boxes[left[1:]])[0] <= overlap]
    return torch.stack(kept) if kept else left
