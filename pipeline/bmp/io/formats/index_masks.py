"""Reads and writes pictures whose pixels are numbers of objects, as DAVIS and YouTube-VOS have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from bmp.errors import UserError
from bmp.io.atomic import replacing_path, writing
from bmp.io.decoding import one_line

_ONE_NUMBER = ("P", "L", "1", "I;16", "I")


def read_index_mask(path: Path) -> npt.NDArray[np.int64]:
    """Return which object each pixel belongs to, int64 (H, W), 0 for none.

    Raises:
        UserError: the file is missing or broken, or has colours in place of numbers.
    """
    with one_line(str(path)), PIL.Image.open(path) as picture:
        mode, numbers = picture.mode, np.array(picture)
    if mode not in _ONE_NUMBER or numbers.ndim != 2:
        raise UserError(
            f"{path}: expected a picture with a number a pixel (palette or grey), got colours ({mode}); name the "
            "annotations, not their overlay"
        )
    return numbers.astype(np.int64)


def write_index_mask(path: Path, numbers: npt.NDArray[np.integer]) -> None:
    """Write which object each pixel belongs to, (H, W) from 0 to 255, as PNG with the colours of DAVIS."""
    if numbers.ndim != 2 or (numbers.size and not 0 <= numbers.min() <= numbers.max() <= 255):
        raise UserError(f"{path}: expected numbers (H, W) from 0 to 255, got {numbers.shape}")
    picture = PIL.Image.fromarray(numbers.astype(np.uint8), mode="P")
    picture.putpalette(_palette())
    with writing(path), replacing_path(path) as temporary:
        picture.save(temporary, format="PNG")


def _palette() -> list[int]:
    """Return the colours of PASCAL VOC, whose numbers are spread over the bits of red, green and blue."""
    colors = []
    for number in range(256):
        for channel in range(3):
            bits = [(number >> (3 * step + channel)) & 1 for step in range(8)]
            colors.append(sum(bit << (7 - step) for step, bit in enumerate(bits)))
    return colors
