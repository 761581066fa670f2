"""COCO's segmentations, polygons and run lengths: checked, brought to one form, turned into masks. Knows no file.

pycocotools is quick and trusts what it is given: run lengths that do not fill the image make it hang or read memory
that is not its own, and polygons far outside the image end the process. So nothing reaches it unchecked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from bmp.ops.masks import RunLengths, from_rle
from bmp.structures.mask_windows import MaskWindows

LARGEST_SIDE = 65_535
"""Of an image in pixels; what JPEG can hold, and more than any reader of pictures here takes."""
MOST_PIXELS = 2**28
"""Of an image; run lengths are counted in 32 bits, and masks take a byte a pixel."""


Segmentation: TypeAlias = "RunLengths | list[list[float]]"
"""Compressed run lengths, or polygons as lists x, y, x, y, ..., each of at least three corners."""


def margin(height: int, width: int) -> int:
    """Return how many pixels outside its image a label may lie: further away it is a mistake, not a person."""
    return 10 * max(height, width) + 1000


def checked_segmentation(shape: object, height: int, width: int) -> Segmentation | None:
    """Return a segmentation in one form, for an image of that size; None for an empty one.

    Polygons of one or two corners enclose nothing and are left out. Run lengths, compressed or not, are decoded and
    encoded anew. ``ValueError`` says what is wrong, in words that follow the name of the annotation.
    """
    if isinstance(shape, list):
        return _polygons(shape, height, width)
    if not shape:
        return None
    if not isinstance(shape, dict) or not isinstance(shape.get("counts"), str | list) or "size" not in shape:
        raise ValueError("expected segmentation to be polygons or run lengths with size and counts")
    if shape["size"] != [height, width]:
        raise ValueError(f"its mask is of size {shape['size']!r:.40}, its image is [{height}, {width}]; mend the sizes")
    try:
        runs = _runs(shape["counts"])
    except ValueError as error:
        raise ValueError(f"its run lengths are broken, {error}; mend them") from None
    if runs.size == 0 or int(runs.min()) < 0 or int(runs.sum()) != height * width:
        raise ValueError(f"its run lengths do not add up to the {height * width} pixels of the image; mend them")
    return encode_runs(runs, height, width)


def _polygons(shape: Sequence[object], height: int, width: int) -> list[list[float]] | None:
    beyond = margin(height, width)
    # An outline as long as this is none, and pycocotools takes 100 bytes a pixel of it.
    longest: float = max(50 * (height + width), 100_000)
    polygons: list[list[float]] = []
    drawn = 0
    for polygon in shape:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(map(_is_number, polygon)):
            raise ValueError("expected segmentation to be polygons, lists x, y, x, y, ...")
        drawn += bool(polygon)
        if any(not -beyond <= x <= width + beyond for x in polygon[::2]) or any(
            not -beyond <= y <= height + beyond for y in polygon[1::2]
        ):
            raise ValueError(
                f"its polygons reach further than {beyond} pixels out of the image ({width}x{height}); mend them"
            )
        corners = list(zip(polygon[::2], polygon[1::2], strict=True))
        longest -= sum(math.dist(*pair) for pair in pairwise([*corners, *corners[:1]]))
        if longest < 0:
            raise ValueError("its polygons are too long to be outlines; mend them")
        if len(polygon) >= 6:
            polygons.append(polygon)
    if drawn and not polygons:
        raise ValueError("none of its polygons has three corners; drop this annotation or draw its mask")
    return polygons or None


def _is_number(value: object) -> bool:
    # Compared, not converted: an integer of 400 digits is no float. NaN compares false.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 <= value <= 1e9


def _runs(counts: object) -> npt.NDArray[np.int64]:
    """Return run lengths as they are, negative ones included; ``ValueError`` says why they are none."""
    if isinstance(counts, str):
        return decode_runs(counts)
    numbers = cast("list[object]", counts)
    if not all(isinstance(run, int) and not isinstance(run, bool) and abs(run) <= MOST_PIXELS for run in numbers):
        raise ValueError("expected whole numbers")
    return np.array(numbers, dtype=np.int64)


def decode_runs(counts: str) -> npt.NDArray[np.int64]:
    """Return the run lengths in COCO's compressed text, which need not be those of any mask.

    Five bits a character, the lowest first; a sixth says that more follow. From the fourth on, a number is the
    difference to the last but one. ``ValueError`` for text that is none.
    """
    try:
        codes = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise ValueError("its text has letters outside ASCII") from None
    if codes.size == 0:
        raise ValueError("they are empty")
    wrong = codes[(codes < 0) | (codes > 63)]
    if wrong.size:
        raise ValueError(f"its text has characters that mean nothing, such as {chr(int(wrong[0]) + 48)!r}")
    ends = np.flatnonzero(codes < 32)
    if codes[-1] >= 32:
        raise ValueError("its text is cut off")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 35 bits; a run has 32
        raise ValueError("a run is longer than any image")
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= ((codes[ends] & 16) > 0) * (np.int64(1) << (5 * lengths))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def encode_runs(runs: npt.NDArray[np.int64], height: int, width: int) -> RunLengths:
    """Compress run lengths that fill the image; runs of nothing are taken out, so that equal masks have equal text."""
    if (runs[1:] == 0).any():
        edges, times = np.unique(np.cumsum(runs)[:-1], return_counts=True)
        # Where an even number of runs ends, nothing changes; neither does it behind the last pixel.
        edges = edges[(times % 2 == 1) & (edges < height * width)]
        runs = np.diff(np.concatenate(([0], edges, [height * width])))
    counts: bytes = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii")}


def to_run_lengths(shape: Segmentation, height: int, width: int) -> RunLengths:
    """Return a checked segmentation as compressed run lengths: the one place that paints polygons."""
    if not isinstance(shape, list):
        return shape
    painted = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
    return {"size": [height, width], "counts": painted["counts"].decode("ascii")}


def to_mask(shape: Segmentation | None, height: int, width: int) -> Tensor:
    """Return a checked segmentation as a mask, bool (H, W) on the CPU; an empty one for None."""
    if shape is None:
        return from_rle([{"size": [height, width], "counts": [height * width]}], height, width)[0]
    return from_rle([to_run_lengths(shape, height, width)], height, width)[0]


def to_windows(shapes: Sequence[Segmentation | None], height: int, width: int) -> MaskWindows:
    """Return checked segmentations of an image as masks on the CPU, each decoded within the box around it alone."""
    corners, patches = [], []
    for shape in shapes:
        mask = None if shape is None else to_run_lengths(shape, height, width)
        x, y, wide, high = (0, 0, 0, 0) if mask is None else (int(value) for value in coco_mask.toBbox(mask))
        if mask is None or not wide:
            patch = np.zeros((0, 0), dtype=np.bool_)
        else:
            ends = np.cumsum(decode_runs(mask["counts"])).clip(x * height, (x + wide) * height) - x * height
            inside = np.arange(len(ends)) % 2 == 1
            columns = np.repeat(inside, np.diff(ends, prepend=0)).reshape(wide, height)
            patch = np.ascontiguousarray(columns[:, y : y + high].T)
        corners.append((x, y))
        patches.append(torch.from_numpy(patch))
    return MaskWindows(height, width, tuple(corners), tuple(patches), torch.device("cpu"))


def mask_area(shape: Segmentation, height: int, width: int) -> int:
    """Return the number of pixels of a checked segmentation."""
    return int(coco_mask.area(to_run_lengths(shape, height, width)))


def mask_box(shape: Segmentation, height: int, width: int) -> list[float]:
    """Return the box around a checked segmentation, [x, y, width, height]; all zeros for an empty one."""
    box: list[float] = coco_mask.toBbox(to_run_lengths(shape, height, width)).tolist()
    return box
