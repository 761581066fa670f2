"""Reads objects from a picture that somebody drew: by the numbers of its palette, its grey levels or its colours.

``bmp.io.formats.index_masks`` reads and writes those of data sets, which have numbers alone. Knows no video.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.io.decoding import Notice, log_notice, one_line

_VOID = 255
_INDEXED = ("P", "L", "1")
_DEEP = ("I;16", "I;16B", "I;16L", "I")  # 16 bits a pixel; the last is what earlier versions of Pillow call it


def read_object_masks(path: Path, notice: Notice = log_notice) -> dict[int, Tensor]:
    """Read the masks of a picture's objects: bool (H, W) by their numbers, in order.

    Numbers are those of the palette, or grey levels, of 8 or 16 bits. A picture of black and white has one object,
    number 1. In others of 8 bits, 255 is what DAVIS and Pascal VOC call void: it belongs to no object, which is told to
    ``notice``. Coloured pictures have their objects numbered by first appearance, row by row, with black for none.

    Raises:
        UserError: it is no picture, or has no object.
    """
    with one_line(str(path)), PIL.Image.open(path) as picture:
        picture.load()
        drawn = picture.getchannel(0) if picture.mode in ("LA", "PA") else picture
        deep = drawn.mode in _DEEP
        indexed = deep or drawn.mode in _INDEXED
        values = np.asarray(drawn if indexed else drawn.convert("RGB"))
    labels = values.astype(np.int64) if indexed else _numbered(values)
    numbers = np.unique(labels[labels > 0]).tolist()
    white = np.iinfo(np.uint16).max if deep else _VOID
    if len(numbers) == 1 and (numbers[0] == white or values.dtype == np.bool_):
        labels, numbers = (labels > 0).astype(np.int64), [1]
    elif _VOID in numbers and indexed and not deep:
        numbers.remove(_VOID)
        notice(f"{path}: pixels of number {_VOID} are taken for void, which belongs to no object")
    if not numbers:
        raise UserError(f"{path}: has no object, all of its pixels are 0; draw one with another number or colour")
    return {number: torch.from_numpy(labels == number) for number in numbers}


def frame_number(path: Path) -> int | None:
    """Return the number at the end of a file's name, as in ``00012.png`` or ``walk_12.png``; None without one."""
    found = re.search(r"(\d{1,9})$", path.stem, flags=re.ASCII)
    return int(found[1]) if found else None


def _numbered(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return a number for each colour of a picture (H, W, 3), by first appearance; 0 for black."""
    codes = colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    found, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first[found > 0])
    numbers = np.zeros(len(found), np.int64)
    numbers[np.flatnonzero(found > 0)[order]] = np.arange(1, len(order) + 1)
    return numbers[inverse.reshape(codes.shape)]
