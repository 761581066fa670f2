"""Part maps: from probabilities to labels inside a mask, specks to their neighbours, scores. Knows no network."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

SMALLEST = 16
"""Connected parts of fewer pixels go to a neighbour."""


def window_of(bits: Tensor) -> tuple[slice, slice]:
    """Return the rows and columns of the box around a mask, bool (H, W); both are empty for an empty mask."""
    x, y, width, height = cv2.boundingRect(bits.cpu().view(torch.uint8).numpy()) if bits.numel() else (0, 0, 0, 0)
    return slice(y, y + height), slice(x, x + width)


def sampled(values: Tensor, area: Tensor, rows: slice, columns: slice) -> Tensor:
    """Read a map at the middles of pixels.

    Args:
        values: float (C, h, w), cells that cover ``area`` evenly.
        area: float (4,), xyxy edges in pixels.
        rows: of the pixels.
        columns: of the pixels.

    Returns:
        float (C, H, W), bilinear; beyond the area the values at its edge.
    """
    x1, y1, x2, y2 = area.tolist()
    x = (torch.arange(columns.start, columns.stop, device=values.device) + 0.5 - x1) / (x2 - x1) * 2 - 1
    y = (torch.arange(rows.start, rows.stop, device=values.device) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(values.dtype)
    if not grid.numel():
        return values.new_zeros(len(values), len(y), len(x))
    return F.grid_sample(values[None], grid[None], align_corners=False, padding_mode="border")[0]


def labels_inside(probabilities: Tensor, inside: Tensor, *, fill: bool = True, smallest: int = SMALLEST) -> Tensor:
    """Label the pixels of a mask by the most probable part.

    Args:
        probabilities: float (C, h, w); the background is number 0.
        inside: bool (h, w), the mask.
        fill: give pixels whose best label is the background their best other one, so that parts tile the mask.
        smallest: see ``merge_specks``.

    Returns:
        uint8 (h, w), 0 outside.
    """
    if not inside.any():
        return torch.zeros_like(inside, dtype=torch.uint8)
    best = probabilities[1:].argmax(dim=0) + 1 if fill else probabilities.argmax(dim=0)
    labels = merge_specks((best * inside).to(torch.uint8).cpu().numpy(), inside.cpu().numpy(), smallest)
    return torch.from_numpy(labels).to(inside.device)


def merge_specks(labels: NDArray[np.uint8], inside: NDArray[np.bool_], smallest: int = SMALLEST) -> NDArray[np.uint8]:
    """Give connected parts of fewer than ``smallest`` pixels the label of the neighbour with the longest common border.

    Neighbours share the side of a pixel; the smallest specks go first, and what they join grows by them. A speck
    without a neighbour stays, since a person may be as small.

    Args:
        labels: (h, w).
        inside: (h, w), the mask; what is outside is nobody's neighbour.
        smallest: in pixels.

    Returns:
        (h, w), a copy.
    """
    merged = labels.copy()
    numbers = np.zeros(labels.shape, np.int32)  # of connected parts, from 1; 0 is outside
    sizes, label_of = [0], [0]
    for label in np.unique(labels[inside]).tolist():
        count, found, statistics, _ = cv2.connectedComponentsWithStats(
            ((labels == label) & inside).astype(np.uint8), connectivity=4
        )
        numbers[found > 0] = found[found > 0] + len(sizes) - 1
        sizes += statistics[1:, cv2.CC_STAT_AREA].tolist()
        label_of += [label] * (count - 1)
    padded = np.pad(numbers, 1)
    area = np.array(sizes)
    for speck in sorted((n for n in range(1, len(sizes)) if sizes[n] < smallest), key=sizes.__getitem__):
        while area[speck] < smallest:
            y, x = np.nonzero(padded == speck)
            around = np.concatenate([padded[y - 1, x], padded[y + 1, x], padded[y, x - 1], padded[y, x + 1]])
            around = around[(around > 0) & (around != speck)]
            if not len(around):
                break
            neighbour = int(np.bincount(around).argmax())
            padded[y, x] = neighbour
            merged[y - 1, x - 1] = label_of[neighbour]
            area[neighbour] += area[speck]
            area[speck] = smallest
    return merged


def mean_scores(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the mean probability of each label over the pixels that have it: float32 (C,), 0 where none has, as 0.

    probabilities: float (C, h, w) in [0, 1]. labels: uint8 (h, w), 0 for pixels that do not count.
    """
    numbers = labels.long()
    own = probabilities.gather(0, numbers[None])[0].flatten().double()
    sums = own.new_zeros(len(probabilities)).index_add_(0, numbers.flatten(), own)
    means = sums / numbers.flatten().bincount(minlength=len(probabilities)).clamp(min=1)
    means[0] = 0
    return means.float().clamp(0, 1)
