"""Pictures scaled bilinearly, at the cost of the part that is wanted. Knows no image, mask or network."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_STRIP = 64  # lines of a picture that are numbers at a time


def squeezed(pixels: Tensor, side: int) -> Tensor:
    """Stretch a picture to a square, with antialiasing: what ``F.interpolate`` makes of it, divided by 255.

    Args:
        pixels: uint8 (H, W, C).
        side: of the square.

    Returns:
        float32 (C, side, side) in [0, 1], contiguous.
    """
    shown = pixels.permute(2, 0, 1)[None]
    # Across first, which is the library's own order, and on a processor a strip at a time: a large photo as numbers is
    # twelve times its bytes, and whatever is so large is cleared by the system before it is used.
    step = _STRIP if shown.device.type == "cpu" else shown.shape[2]
    strips = [
        F.interpolate(strip.float().div_(255), (strip.shape[2], side), mode="bilinear", antialias=True)
        for strip in torch.split(shown, step, dim=2)
    ]
    return F.interpolate(torch.cat(strips, dim=2), (side, side), mode="bilinear", antialias=True)[0].contiguous()


def resized(
    values: Tensor,
    height: int,
    width: int,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
) -> Tensor:
    """Return a part of ``values`` scaled to ``height`` x ``width``, number by number that of ``F.interpolate``.

    Where it shrinks, only the values beside each sample are read.

    Args:
        values: (h, w, C) of any dtype, not empty.
        height: of the whole result.
        width: of the whole result.
        rows: first and end of those that are wanted; None for all.
        columns: likewise.

    Returns:
        float32 (rows, columns, C): what mode "bilinear" makes of contiguous planes on a processor.

    Examples:
        >>> picture = torch.tensor([[0.0, 4.0]]).unsqueeze(2)
        >>> resized(picture, 1, 4)[0, :, 0].tolist(), resized(picture, 1, 4, columns=(1, 3))[0, :, 0].tolist()
        ([0.0, 1.0, 3.0, 4.0], [1.0, 3.0])
    """
    top, bottom = rows or (0, height)
    left, right = columns or (0, width)
    upper, lower, down = neighbours(values.shape[0], height, top, bottom, values.device)
    before, after, across = neighbours(values.shape[1], width, left, right, values.device)
    # Of the picture's lines those that are needed: all between the first and the last, or if these are too many the
    # two beside each line of the result.
    scale = values.shape[0] / height
    start, end = max(0, int((top + 0.5) * scale - 2)), min(values.shape[0], int((bottom + 0.5) * scale + 2))
    if end - start <= 2 * (bottom - top):
        lines, upper, lower = values[start:end], upper - start, lower - start
    else:
        lines = values.index_select(0, torch.cat((upper, lower)))
        upper = torch.arange(bottom - top, device=values.device)
        lower = upper + (bottom - top)
    # The library blends across first, and of two products rounds that of the second neighbour; see the tests.
    channels = values.shape[2]
    share = across.repeat_interleave(channels, output_size=len(across) * channels)
    blended = _flat(lines.index_select(1, after)).mul_(share).addcmul_(_flat(lines.index_select(1, before)), 1 - share)
    share = down[:, None]
    result = blended.index_select(0, lower).mul_(share).addcmul_(blended.index_select(0, upper), 1 - share)
    return result.view(bottom - top, right - left, channels)


def neighbours(
    cells: int, pixels: int, first: int, end: int, device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two of ``cells`` beside each of the pixels ``first`` to ``end`` of ``pixels`` along an axis.

    Returns int64 (end - first,) twice, and the share of the second float32 (end - first,).
    """
    # In float32 as the library does it, in which the pixels of large pictures are not where they are in float64.
    scale = float(np.float32(cells) / np.float32(pixels))
    samples = ((torch.arange(first, end, dtype=torch.float32, device=device) + 0.5) * scale - 0.5).clamp_(min=0)
    before = samples.long().clamp_(max=cells - 1)
    share = (samples - before).clamp_(0, 1)
    after = (before + 1).clamp_(max=cells - 1)
    return before, after, share


def _flat(values: Tensor) -> Tensor:
    """Return values (h, w, C) as float32 (h, w x C) of their own memory."""
    return values.float().flatten(1)
