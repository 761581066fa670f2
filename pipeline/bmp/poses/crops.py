"""Top-down crops of people, mask-conditioned, batched on the image's device; knows no network and no keypoint.

A window is what a crop shows of the image: its centre and its size in pixels. Crops are bilinear and rounded to
uint8, with the arithmetic of OpenCV 5's warpAffine; pixels beyond the image are black.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bmp.ops.boxes import fit_aspect
from bmp.structures import Detections, Image
from bmp.structures.mask_windows import MaskWindows

_SMALLEST = 1.0


@dataclass(frozen=True)
class Windows:
    """What P crops show: ``centers`` and ``sizes`` float32 (P, 2), (x, y) and (width, height) in image pixels."""

    centers: Tensor
    sizes: Tensor

    def __getitem__(self, rows: slice) -> Windows:
        return Windows(self.centers[rows], self.sizes[rows])

    def to_image(self, points: Tensor, width: int, height: int) -> Tensor:
        """Map points from crops of ``width`` x ``height`` into the image: 0 is a window's edge, ``width`` its other.

        Args:
            points: float32 (P, K, 2) in crop pixels.
            width: of the crops.
            height: of the crops.

        Returns:
            float32 (P, K, 2) in image pixels.
        """
        share = points / points.new_tensor((width, height)) - 0.5
        return self.centers[:, None] + share * self.sizes[:, None]

    @classmethod
    def concat(cls, parts: Sequence[Windows]) -> Windows:
        """Put the windows of at least one part in a row."""
        return cls(torch.cat([part.centers for part in parts]), torch.cat([part.sizes for part in parts]))


def chunks(
    images: Sequence[Image], people: Sequence[Detections], size: int, device: torch.device
) -> Iterator[list[tuple[Image, Detections]]]:
    """Yield who goes through a network together: ``size`` people of one image or of several, in order, on ``device``.

    An image with people is copied there once, if it is not there already.
    """
    chunk: list[tuple[Image, Detections]] = []
    room = size
    for image, group in zip(images, people, strict=True):
        start = 0
        if len(group):
            image, group = image.to(device), group.to(device)
        while start < len(group):
            part = group[start : start + room]
            chunk.append((image, part))
            start += len(part)
            room -= len(part)
            if room == 0:
                yield chunk
                chunk, room = [], size
    if chunk:
        yield chunk


def windows_around(boxes: Tensor, *, aspect: float, padding: float) -> Windows:
    """Return the windows of boxes: enlarged ``padding`` times, then widened or heightened to the aspect.

    Args:
        boxes: float32 (P, 4), xyxy in image pixels; one without any size gets a window of a pixel.
        aspect: width / height of the crops.
        padding: 1.25 in all published top-down models.
    """
    centers, sizes = fit_aspect(boxes, aspect, padding)
    return Windows(centers, sizes.clamp_min(_SMALLEST))


def crop(
    pixels: Tensor,
    windows: Windows,
    *,
    width: int,
    height: int,
    unbiased: bool,
    masks: MaskWindows | Tensor | None = None,
    boxes: Tensor | None = None,
    alpha: float = 0.25,
) -> Tensor:
    """Cut people out of one image and darken what does not belong to them (BMP's mask conditioning).

    Args:
        pixels: uint8 (H, W, 3).
        windows: P windows.
        width: of the crops.
        height: of the crops.
        unbiased: put the window's edges on the centres of the outermost pixels (UDP), else on their outer edges.
        masks: bool (P, H, W), or windows. Pixels outside a person's mask are multiplied by 1 - alpha and rounded
            before the crop; an empty mask counts as none.
        boxes: float32 (P, 4), xyxy in image pixels: the pixels that a person's box touches stand in for a mask that it
            has not. None, and a box beside the image, leave that person's pixels as they are.
        alpha: strength of the conditioning in [0, 1].

    Returns:
        uint8 (P, 3, height, width).
    """
    if not len(windows.centers):
        return pixels.new_zeros(0, 3, height, width)
    xs = _samples(windows.centers[:, 0], windows.sizes[:, 0], width, unbiased)
    ys = _samples(windows.centers[:, 1], windows.sizes[:, 1], height, unbiased)
    size = (pixels.shape[0], pixels.shape[1])
    column, column_inside, along_x = _neighbours(xs, size[1])
    row, row_inside, along_y = _neighbours(ys, size[0])
    mine = MaskWindows.of(masks) if isinstance(masks, Tensor) else masks
    crops = []
    # One person at a time, since the taps of many fall out of a processor's cache.
    for person in range(len(windows.centers)):
        # The lines above all samples, then those below; likewise the columns to the left and to the right.
        rows, columns = row[person].T.flatten(), column[person].T.flatten()
        taps = _crossings(pixels, rows, columns).float().flatten(1)
        factors = row_inside[person].T.reshape(-1, 1) & column_inside[person].T.flatten()
        outside = None
        if alpha > 0 and (mine is not None or boxes is not None):
            outside = None if boxes is None else ~_in_box(boxes[person], rows, columns, size)
            if mine is not None:
                outside = _beside(mine.corners[person], mine.patches[person], rows, columns, outside)
        if outside is not None:
            factors = torch.where(outside, 1.0 - alpha, 1.0) * factors
        taps *= factors[:, :, None].expand(-1, -1, 3).flatten(1)
        if outside is not None:
            taps.round_()
        left, right = torch.split(taps, 3 * width, dim=1)
        across = torch.sub(right, left).mul_(along_x[person].repeat_interleave(3, output_size=3 * width)).add_(left)
        above, below = torch.split(across, height)
        blended = torch.sub(below, above).mul_(along_y[person, :, None]).add_(above)
        crops.append(blended.round_().to(torch.uint8).view(height, width, 3).permute(2, 0, 1))
    return torch.stack(crops)


def crop_masks(masks: Tensor | None, windows: Windows, *, width: int, height: int) -> Tensor:
    """Cut masks out like people, with the windows' edges on the centres of the outermost pixels.

    Args:
        masks: bool (P, H, W), or None for people without.
        windows: P windows.
        width: of the crops.
        height: of the crops.

    Returns:
        float32 (P, height, width) in [0, 1]; all 1 for who has no mask or an empty one, and 0 beside the image.
    """
    people = len(windows.centers)
    if masks is None or not people:
        return windows.centers.new_ones(people, height, width)
    rows, columns = masks.shape[1:]
    xs = _samples(windows.centers[:, 0], windows.sizes[:, 0], width, unbiased=True)
    ys = _samples(windows.centers[:, 1], windows.sizes[:, 1], height, unbiased=True)
    column, column_inside, along_x = _neighbours(xs, columns)
    row, row_inside, along_y = _neighbours(ys, rows)
    index = row[:, :, :, None, None] * columns + column[:, None, None]
    taps = masks.flatten(1).gather(1, index.flatten(1)).view_as(index)
    taps &= row_inside[:, :, :, None, None] & column_inside[:, None, None]
    shares = taps.float()
    across = shares[..., 0] + along_x[:, None, None] * (shares[..., 1] - shares[..., 0])
    blended = across[:, :, 0] + along_y[:, :, None] * (across[:, :, 1] - across[:, :, 0])
    bare = ~masks.flatten(1).any(1)
    return torch.where(bare[:, None, None], 1, blended)


def _crossings(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the values (H, W, ...) where lines and columns, int64 (R,) and (C,), cross: (R, C, ...)."""
    return values.index_select(0, rows).index_select(1, columns)


def _beside(
    corner: tuple[int, int], patch: Tensor, rows: Tensor, columns: Tensor, without: Tensor | None
) -> Tensor | None:
    """Tell which crossings of lines and columns lie beside a mask: bool (R, C); ``without`` for an empty mask."""
    if not patch.numel():
        return without
    (x, y), (high, wide) = corner, patch.shape
    down, across = rows - y, columns - x
    near = ((down >= 0) & (down < high))[:, None] & ((across >= 0) & (across < wide))
    beside = ~(near & _crossings(patch, down.clamp(0, high - 1), across.clamp(0, wide - 1)))
    if without is None:
        without = torch.zeros_like(beside)
    return torch.where(patch.any(), beside, without)


def _in_box(box: Tensor, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """Tell which crossings a box touches, bool (R, C); all of them where it touches no pixel."""
    sides = torch.tensor((size[1], size[0]), device=box.device)
    first = box[:2].floor().clamp_min(0)
    end = torch.minimum(box[2:].ceil(), sides)
    misses = (first >= end).any()
    along_x, along_y = ((taps >= first[axis]) & (taps < end[axis]) | misses for axis, taps in ((0, columns), (1, rows)))
    return along_y[:, None] & along_x


def _samples(center: Tensor, size: Tensor, count: int, unbiased: bool) -> Tensor:
    """Return where the ``count`` pixels of each crop lie along one axis of the image, (P, count)."""
    step = size / (count - 1 if unbiased else count)
    return (center - 0.5 * size)[:, None] + step[:, None] * torch.arange(count, device=size.device)


def _neighbours(samples: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two pixels beside each sample, (P, count, 2), which of them exist, and the way to the second."""
    first = samples.floor()
    both = torch.stack((first, first + 1), -1).long()
    return both.clamp(0, length - 1), (both >= 0) & (both < length), samples - first
