"""Photos that are stored turned or mirrored (EXIF), and labels made on the stored pixels. Knows no COCO, no network.

Pictures are read upright, as every viewer shows them. Labels of tools that ignore EXIF are for the pixels as they are
stored. They are turned along with the picture, rather than the picture left lying on its side: networks know people
upright, and what is written speaks of the picture that people see.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import PIL.Image

from bmp.errors import UserError
from bmp.io.decoding import FORMATS, has_heif

LabelsIn = Literal["upright", "stored"]
"""Which pixels labels are for: the picture as it is seen, or as it is stored."""

_TAG = 0x0112
_MIRRORED = (2, 4, 5, 7)


@dataclass(frozen=True)
class Orientation:
    """How a picture is stored. height, width: of the stored pixels. tag: EXIF's number, 1 for upright, up to 8."""

    height: int
    width: int
    tag: int = 1

    @property
    def turned(self) -> bool:
        """Whether height and width change places."""
        return self.tag >= 5

    @property
    def mirrored(self) -> bool:
        """Whether left and right change places."""
        return self.tag in _MIRRORED

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the picture as it is seen."""
        return (self.width, self.height) if self.turned else (self.height, self.width)

    def points(self, xy: npt.NDArray[np.float64], pixels: bool = False) -> npt.NDArray[np.float64]:
        """Return where points (..., 2) of the stored picture are in the upright one.

        They count from edge to edge, 0 to width, or with ``pixels`` from the middle of the first pixel to that of the
        last one, 0 to width - 1.
        """
        x, y = xy[..., 0], xy[..., 1]
        right, below = self.width - pixels - x, self.height - pixels - y
        pairs = {
            1: (x, y),
            2: (right, y),
            3: (right, below),
            4: (x, below),
            5: (y, x),
            6: (below, x),
            7: (below, right),
        }
        return np.stack(pairs.get(self.tag, (y, right)), axis=-1)

    def boxes(self, xywh: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return boxes (N, 4), left, top, width, height, of the stored picture in the upright one."""
        corners = self.points(np.stack((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1))
        return np.concatenate((corners.min(axis=1), np.ptp(corners, axis=1)), axis=1)

    def mask(self, bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return a mask (height, width) of the stored picture as one of the upright picture."""
        if self.tag in (3, 4, 6, 7):
            bits = bits[::-1]
        if self.tag in (2, 3, 7, 8):
            bits = bits[:, ::-1]
        return np.ascontiguousarray(bits.T if self.turned else bits)


def read_orientation(path: Path) -> Orientation | None:
    """Return how a picture is stored, from the head of its file; None for what is no picture: reading it says why."""
    if not path.is_file():
        return None
    try:
        PIL.Image.init()
        has_heif()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(path, formats=[kind for kind in FORMATS if kind in PIL.Image.OPEN]) as picture:
                tag = picture.getexif().get(_TAG, 1)
                return Orientation(picture.height, picture.width, tag if tag in range(1, 9) else 1)
    except Exception:  # decoders meet broken data with exceptions of any kind
        return None


def checked_size(labelled: tuple[int, int] | None, orientation: Orientation, labels_in: LabelsIn) -> tuple[int, int]:
    """Return height and width of a picture as it is seen; ``UserError`` if it is labelled in another size.

    labelled: height and width that the labels are for, None if nothing says so.
    """
    stored, upright = (orientation.height, orientation.width), orientation.upright_size
    right, other = (stored, upright) if labels_in == "stored" else (upright, stored)
    if labelled is None or labelled == right:
        return upright
    expected, got = f"{labelled[1]}x{labelled[0]}", f"{right[1]}x{right[0]}"
    if labelled == other:
        word = "upright" if labels_in == "stored" else "stored"
        raise UserError(
            f"expected {expected} pixels as annotated, got {got}: its EXIF orientation exchanges the sides, and the "
            f'labels are for the {word} picture; say so (--labels-in {word}, or labels_in="{word}")'
        )
    raise UserError(f"expected {expected} pixels as annotated, got {got}; fetch the image that was annotated")
