"""Binary masks as tensors: overlaps, boxes, similarity, clean-up, run lengths. Knows no network and no file.

Masks are bool (N, H, W), of one image size in each call, on any device; N may be 0. Where ``MaskWindows`` are taken as
well, these cost what their windows cover. Large intermediate results are computed in chunks, so that memory stays a
small multiple of that of the masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor
from typing_extensions import TypedDict

from bmp.ops.resize import resized
from bmp.structures import Image
from bmp.structures.mask_windows import MaskWindows, tight_boxes


class RunLengths(TypedDict):
    """A mask as COCO compresses it: ``size`` is [height, width]; ``counts`` goes down the columns."""

    size: list[int]
    counts: str


@overload
def exclusive(bits: Tensor, scores: Tensor) -> Tensor: ...


@overload
def exclusive(bits: MaskWindows, scores: Tensor) -> MaskWindows: ...


def exclusive(bits: Tensor | MaskWindows, scores: Tensor) -> Tensor | MaskWindows:
    """Give each pixel to one mask: of those that contain it the one with the highest score, the first of equals.

    bits: bool (N, H, W), or windows. scores: (N,). Returns the same kind in the same order; a mask may become empty.
    """
    windows = [(slice(None), slice(None))] * len(bits) if isinstance(bits, Tensor) else list(bits.windows())
    masks = bits if isinstance(bits, Tensor) else bits.patches
    resolved = list(masks)
    free = torch.ones(bits.shape[1:], dtype=torch.bool, device=bits.device)
    for row in scores.argsort(descending=True, stable=True).tolist():
        place = free[windows[row]]
        resolved[row] = masks[row] & place
        place &= ~masks[row]
    if isinstance(bits, MaskWindows):
        return bits.replaced(resolved)
    return torch.stack(resolved) if resolved else bits.clone()


def union(bits: Tensor | MaskWindows) -> Tensor:
    """Return the pixels of any mask: bool (H, W), all false for no masks."""
    if isinstance(bits, Tensor):
        return bits.any(dim=0)
    pixels = torch.zeros(bits.shape[1:], dtype=torch.bool, device=bits.device)
    for window, patch in zip(bits.windows(), bits.patches, strict=True):
        pixels[window] |= patch
    return pixels


def paint_out(image: Image, bits: Tensor | MaskWindows) -> Image:
    """Return the image with the pixels of all masks black; ``image`` itself stays as it is.

    Raises ``ValueError`` where masks (N, H, W) and image differ in size.
    """
    if bits.shape[1:] != image.pixels.shape[:2]:
        raise ValueError(
            f"paint_out: expected masks of {image.height}x{image.width} pixels like the image, "
            f"got {tuple(bits.shape[1:])}; masks belong to the original image, not to a network's input"
        )
    if isinstance(bits, Tensor):
        return Image(image.pixels.masked_fill(union(bits).to(image.pixels.device)[:, :, None], 0))
    pixels = image.pixels.clone()
    for window, patch in zip(bits.windows(), bits.to(pixels.device).patches, strict=True):
        _blacken(pixels[window], patch)
    return Image(pixels)


def _blacken(pixels: Tensor, bits: Tensor) -> None:
    """Set the pixels, uint8 (h, w, 3), of a mask bool (h, w) to 0, in place."""
    if pixels.device.type == "cpu" and bits.numel():  # five times as fast there
        kept = cv2.merge([(bits.view(torch.uint8) - 1).numpy()] * 3)  # 255 beside the mask
        np.bitwise_and(pixels.numpy(), kept, out=pixels.numpy())
    else:
        pixels.masked_fill_(bits[:, :, None], 0)


def to_boxes(bits: Tensor | MaskWindows) -> Tensor:
    """Return the box around each mask, float32 (N, 4), xyxy edges: columns 3..5 give x1 = 3, x2 = 6; zeros if empty."""
    if isinstance(bits, Tensor):
        return tight_boxes(bits).float()
    boxes = torch.zeros(len(bits), 4, device=bits.device)
    for row, ((x, y), patch) in enumerate(zip(bits.corners, bits.patches, strict=True)):
        inside = tight_boxes(patch[None])[0]
        boxes[row] = inside + inside.new_tensor((x, y, x, y)) * (inside[2:] > inside[:2]).any()
    return boxes


def areas(bits: Tensor | MaskWindows) -> Tensor:
    """Return the number of pixels of each mask: int64 (N,)."""
    if isinstance(bits, Tensor):
        return bits.flatten(1).sum(dim=1)
    if not bits.patches:
        return torch.zeros(0, dtype=torch.int64, device=bits.device)
    return torch.stack([count(patch) for patch in bits.patches])


def count(bits: Tensor) -> Tensor:
    """Return how many of bool (...) are true: int64 ()."""
    return torch.count_nonzero(bits)  # a sum would first make eight bytes of each


def enlarged(soft: Tensor, height: int, width: int, threshold: float = 0.0) -> MaskWindows:
    """Scale soft masks to the size of their image and tell where they are above ``threshold``.

    soft: float (N, h, w), each showing the whole image. The result is, pixel by pixel, that of bilinear
    ``F.interpolate`` to (height, width), of which only what may be above the threshold is computed.
    """
    rows, columns = soft.shape[1:]
    if height * width <= _SMALL:
        whole = F.interpolate(soft[:, None], (height, width), mode="bilinear")[:, 0] if len(soft) else soft
        corners = ((0, 0),) * len(soft)
        return MaskWindows(height, width, corners, tuple(mask > threshold for mask in whole), soft.device)
    boxes = tight_boxes(soft > threshold)
    places, patches = [], []
    for mask, (left, top, right, bottom) in zip(soft, boxes.tolist(), strict=True):
        if right <= left:
            places.append((0, 0))
            patches.append(torch.zeros(0, 0, dtype=torch.bool, device=soft.device))
            continue
        x = _reached(left, right, columns, width)
        y = _reached(top, bottom, rows, height)
        places.append((x[0], y[0]))
        patches.append(resized(mask[:, :, None], height, width, y, x)[:, :, 0] > threshold)
    return MaskWindows(height, width, tuple(places), tuple(patches), soft.device)


def shrunk(masks: MaskWindows, height: int, width: int) -> Tensor:
    """Return which share of each cell of a grid over the image a mask covers: float32 (N, ``height``, ``width``).

    The result is that of bilinear ``F.interpolate`` with ``antialias``, of which only what the windows touch is
    computed.
    """
    down, across = _cells(masks.height, height, masks.device), _cells(masks.width, width, masks.device)
    shares = torch.zeros(len(masks), height, width, device=masks.device)
    for share, (rows, columns), patch in zip(shares, masks.windows(), masks.patches, strict=True):
        share += down[:, rows] @ patch.float() @ across[:, columns].T
    return shares


def _cells(pixels: int, cells: int, device: torch.device) -> Tensor:
    """Return the weight of each pixel of an axis in each cell, float32 (cells, pixels): a tent two cells wide."""
    scale = pixels / cells
    centres = (torch.arange(cells, device=device)[:, None] + 0.5) * scale
    places = torch.arange(pixels, device=device) + 0.5
    weights = (1 - (places - centres).abs() / max(scale, 1.0)).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


_SMALL = 1 << 16  # pixels of an image for which windows would cost more than they spare


def _reached(first: int, end: int, cells: int, pixels: int) -> tuple[int, int]:
    """Return the pixels, first and end, whose two cells along an axis are among ``first`` to ``end``, or a few more."""
    scale = pixels / cells
    return max(0, int((first - 0.5) * scale - 1)), min(pixels, int((end + 0.5) * scale + 2))


def iou(first: Tensor, second: Tensor, chunk: int = 1 << 24) -> Tensor:
    """Return intersection over union of each of (N, H, W) with each of (M, H, W).

    Returns float32 (N, M) in [0, 1], 0 for two empty masks. ``chunk`` limits how many pixels of all masks are
    numbers at a time. Raises ``ValueError`` where the sizes of the pictures differ.
    """
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"masks.iou: expected masks of one size, got {tuple(first.shape[1:])} and {tuple(second.shape[1:])}; "
            "compare masks of the same image only"
        )
    rows, columns = first.flatten(1), second.flatten(1)
    # float32 counts exactly up to 2**24, so the sum over chunks is made of integers
    step = max(1, min(chunk, 1 << 24) // max(1, len(rows) + len(columns)))
    shared = torch.zeros(len(rows), len(columns), dtype=torch.int64, device=rows.device)
    for start in range(0, rows.shape[1], step):
        a, b = rows[:, start : start + step].float(), columns[:, start : start + step].float()
        shared += (a @ b.T).long()
    joined = rows.sum(dim=1)[:, None] + columns.sum(dim=1)[None] - shared
    return shared / joined.clamp(min=1)


def small_components(bits: Tensor, max_area: int) -> Tensor:
    """Return the pixels of each mask's connected parts of at most ``max_area`` pixels: bool (N, H, W).

    Pixels that touch at a corner are connected, as in SAM 2.
    """
    if bits.device.type != "cpu":
        return small_parts_by_pooling(bits, max_area)
    return _small_parts(bits, tight_boxes(bits), max_area)


def fill_holes(bits: Tensor, max_area: int) -> Tensor:
    """Add to each mask its holes of at most ``max_area`` pixels, gaps at the image's edge included; bool (N, H, W)."""
    if bits.device.type != "cpu":
        return bits | small_parts_by_pooling(~bits, max_area)
    height, width = bits.shape[1:]
    # What surrounds a mask is too large for a hole if it is so wide, and larger still beyond.
    around = tight_boxes(bits) + torch.tensor((-1, -1, 1, 1)) * (max_area + 1)
    around = torch.minimum(around.clamp(min=0), torch.tensor((width, height) * 2))
    around[~bits.flatten(1).any(dim=1)] = torch.tensor((0, 0, width, height))
    return bits | _small_parts(~bits, around, max_area)


def remove_specks(bits: Tensor, max_area: int) -> Tensor:
    """Remove the separate parts of at most ``max_area`` pixels of each mask, even if all are; bool (N, H, W)."""
    return bits & ~small_components(bits, max_area)


def _small_parts(bits: Tensor, boxes: Tensor, max_area: int) -> Tensor:
    """Return the parts of at most ``max_area`` pixels within boxes int64 (N, 4) of whole pixels: bool (N, H, W)."""
    found = torch.zeros_like(bits)
    if max_area < 1:
        return found
    for mask, small, (left, top, right, bottom) in zip(bits, found, boxes.tolist(), strict=True):
        window = mask[top:bottom, left:right]
        if window.numel():
            pixels = window.to(torch.uint8).numpy()
            _, labels, statistics, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
            few = statistics[:, cv2.CC_STAT_AREA] <= max_area
            few[0] = False  # label 0 is whatever is not mask
            if few.any():
                small[top:bottom, left:right] = torch.from_numpy(few[labels])
    return found


def small_parts_by_pooling(bits: Tensor, max_area: int) -> Tensor:
    """Do what ``small_components`` does with work that a GPU needs not be waited for: bool (N, H, W).

    Each pixel takes the highest number around it, ``max_area`` times. A part of no more pixels has one number then; of
    a larger part each number has more pixels, or another number for a neighbour. Masks have less than 2**24 pixels.
    """
    count, height, width = bits.shape
    if max_area < 1 or not bits.numel():
        return torch.zeros_like(bits)
    inside = bits[:, None].float()
    labels = torch.arange(1, height * width + 1, dtype=torch.float32, device=bits.device).view(1, 1, height, width)
    labels = labels * inside
    for _ in range(max_area):
        labels = F.max_pool2d(labels, 3, stride=1, padding=1).mul_(inside)
    beyond = height * width + 1  # stands for what is not mask
    highest = F.max_pool2d(labels, 3, stride=1, padding=1)
    lowest = -F.max_pool2d(torch.where(bits[:, None], -labels, -beyond), 3, stride=1, padding=1)
    mixed = ((highest != labels) | (lowest != labels)).float() * inside
    numbers = labels.long().flatten(1)
    none = torch.zeros(count, beyond, device=bits.device)
    sizes = none.scatter_add(1, numbers, inside.flatten(1))
    neighbours = none.scatter_add(1, numbers, mixed.flatten(1))
    small = (sizes <= max_area) & (neighbours == 0)
    return small.gather(1, numbers).view_as(bits) & bits


def to_rle(bits: Tensor | MaskWindows) -> list[RunLengths]:
    """Return COCO's compressed run lengths of each mask: ``{"size": [H, W], "counts": str}``, ready for JSON."""
    masks = MaskWindows.of(bits) if isinstance(bits, Tensor) else bits
    _, height, width = masks.shape
    rles: list[RunLengths] = []
    for (x, y), patch, changes in zip(masks.corners, masks.patches, _changes(masks), strict=True):
        counts = _run_lengths(changes, patch.shape[0], x, y, height, width)
        rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        rles.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
    return rles


def _changes(masks: MaskWindows) -> Iterator[NDArray[np.int64]]:
    """Yield where each mask begins or ends: int64, down the columns of its window, which have one pixel more each.

    Within a column it does so wherever neighbours differ; beyond the window there is nothing. From a GPU only these
    numbers travel, those of all masks together.
    """
    if masks.device.type == "cpu":
        for patch in masks.patches:
            framed = np.zeros((patch.shape[1], patch.shape[0] + 2), dtype=np.bool_)
            framed[:, 1:-1] = patch.numpy().T
            yield np.flatnonzero(framed[:, 1:] != framed[:, :-1])
    else:
        yield from changes_together(masks.patches)


def changes_together(patches: Sequence[Tensor]) -> Iterator[NDArray[np.int64]]:
    """Find the changes of all patches bool (h, w) in one go; see ``_changes``."""
    if not patches:
        return
    framed = [F.pad(patch.T, (1, 1)) for patch in patches]
    lines = [(each[:, 1:] != each[:, :-1]).flatten() for each in framed]
    ends = np.cumsum([len(line) for line in lines])
    found = torch.cat(lines).nonzero()[:, 0].cpu().numpy()
    parts = np.split(found, np.searchsorted(found, ends[:-1]))
    for part, end, line in zip(parts, ends, lines, strict=True):
        yield part - (end - len(line))


def _run_lengths(changes: NDArray[np.int64], rows: int, x: int, y: int, height: int, width: int) -> list[int]:
    """Return how many pixels lie outside, inside, outside ... a mask, down the columns of its image.

    changes: see ``_changes``. rows, x, y: height and first pixel of its window.
    """
    columns, within = np.divmod(changes, rows + 1)
    changes = (columns + x) * height + within + y
    # One that ends with a column and goes on at the head of the next has neither ended nor begun.
    same = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, np.concatenate([same, same + 1]))
    counts: list[int] = np.diff(changes, prepend=0, append=height * width).tolist()
    return counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts


def from_rle(rles: Sequence[Mapping[str, Any]], height: int, width: int) -> Tensor:
    """Return bool (N, H, W) on the CPU from COCO's run lengths, compressed (str or bytes) or lists of numbers.

    Raises ``ValueError`` where one is of another size than ``height`` and ``width``.
    """
    for rle in rles:
        if list(rle["size"]) != [height, width]:
            raise ValueError(
                f"from_rle: expected masks of {height}x{width} pixels, got size {list(rle['size'])}; "
                "decode the masks of each image with that image's height and width"
            )
    if not rles:
        return torch.zeros(0, height, width, dtype=torch.bool)
    compressed = [
        coco_mask.frPyObjects(dict(rle), height, width) if isinstance(rle["counts"], list) else dict(rle)
        for rle in rles
    ]
    return torch.from_numpy(coco_mask.decode(compressed)).permute(2, 0, 1).contiguous().bool()
