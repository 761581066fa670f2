"""Binary masks as tensors: overlaps, boxes, similarity, clean-up, run lengths. Knows no network and no file.

Masks are bool (N, H, W), of one image size in each call, on any device; N may be 0. Large intermediate results are
computed in chunks, so that memory stays a small multiple of that of the masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from typing_extensions import TypedDict

from bmp.structures import Image


class RunLengths(TypedDict):
    """A mask as COCO compresses it: ``size`` is [height, width]; ``counts`` goes down the columns."""

    size: list[int]
    counts: str


def exclusive(bits: Tensor, scores: Tensor) -> Tensor:
    """Give each pixel to one mask: of those that contain it the one with the highest score, the first of equals.

    bits: bool (N, H, W). scores: (N,). Returns bool (N, H, W) in the same order; a mask may become empty.
    """
    resolved = torch.empty_like(bits)
    free = torch.ones(bits.shape[1:], dtype=torch.bool, device=bits.device)
    for row in scores.argsort(descending=True, stable=True).tolist():
        resolved[row] = bits[row] & free
        free &= ~bits[row]
    return resolved


def union(bits: Tensor) -> Tensor:
    """Return the pixels of any mask: bool (H, W), all false for no masks."""
    return bits.any(dim=0)


def paint_out(image: Image, bits: Tensor) -> Image:
    """Return the image with the pixels of all masks black; ``image`` itself stays as it is.

    Raises ``ValueError`` where masks (N, H, W) and image differ in size.
    """
    if bits.shape[1:] != image.pixels.shape[:2]:
        raise ValueError(
            f"paint_out: expected masks of {image.height}x{image.width} pixels like the image, "
            f"got {tuple(bits.shape[1:])}; masks belong to the original image, not to a network's input"
        )
    hidden = union(bits).to(image.pixels.device)
    return Image(image.pixels.masked_fill(hidden[:, :, None], 0))


def to_boxes(bits: Tensor) -> Tensor:
    """Return the box around each mask, float32 (N, 4), xyxy edges: columns 3..5 give x1 = 3, x2 = 6; zeros if empty."""
    if bits.device.type != "cpu" or not bits.numel():
        return _boxes_of_tensor(bits)
    # Nine times as fast there.
    found = [cv2.boundingRect(np.ascontiguousarray(mask)) for mask in bits.view(torch.uint8).numpy()]
    boxes = torch.tensor(found, dtype=torch.float32)
    return torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1)


def _boxes_of_tensor(bits: Tensor) -> Tensor:
    """Do the same on any device."""
    _, height, width = bits.shape
    columns, rows = bits.any(dim=1).byte(), bits.any(dim=2).byte()
    # the first of the largest values is where a mask begins, and seen from the other side where it ends
    edges = [columns.argmax(dim=1), rows.argmax(dim=1)]
    edges += [width - columns.flip(1).argmax(dim=1), height - rows.flip(1).argmax(dim=1)]
    return torch.stack(edges, dim=1).float() * columns.any(dim=1)[:, None]


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

    Pixels that touch at a corner are connected, as in SAM 2. The labelling runs on the CPU.
    """
    count, height, width = bits.shape
    found = torch.zeros_like(bits)
    step = max(1, (1 << 24) // (height * width + width))
    for start in range(0, count if max_area > 0 else 0, step):
        part = bits[start : start + step]
        # One tall picture for one call of OpenCV; the empty row under each mask keeps neighbours apart.
        tall = np.zeros((len(part), height + 1, width), dtype=np.uint8)
        tall[:, :height] = part.cpu().numpy()
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(tall.reshape(-1, width), connectivity=8)
        small = statistics[:, cv2.CC_STAT_AREA] <= max_area
        small[0] = False  # label 0 is whatever is not mask
        pixels = small[labels].reshape(tall.shape)[:, :height]
        found[start : start + step] = torch.from_numpy(pixels.copy()).to(bits.device)
    return found


def fill_holes(bits: Tensor, max_area: int) -> Tensor:
    """Add to each mask its holes of at most ``max_area`` pixels, gaps at the image's edge included; bool (N, H, W)."""
    return bits | small_components(~bits, max_area)


def remove_specks(bits: Tensor, max_area: int) -> Tensor:
    """Remove the separate parts of at most ``max_area`` pixels of each mask, even if all are; bool (N, H, W)."""
    return bits & ~small_components(bits, max_area)


def to_rle(bits: Tensor) -> list[RunLengths]:
    """Return COCO's compressed run lengths of each mask: ``{"size": [H, W], "counts": str}``, ready for JSON."""
    # pycocotools reads columns first. Only the box around a mask is turned over: that is the slow part.
    columns = np.zeros(bits.shape[:0:-1], dtype=np.uint8)
    rles: list[RunLengths] = []
    for mask in bits.cpu().view(torch.uint8).numpy():
        x, y, width, height = cv2.boundingRect(mask) if mask.size else (0, 0, 0, 0)
        box = columns[x : x + width, y : y + height]
        box[...] = mask[y : y + height, x : x + width].T
        rle = coco_mask.encode(columns.T)
        box[...] = 0
        rles.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
    return rles


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
