"""Tells where one scene of a video ends and another begins, by brightness and colour; knows pictures, no person."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bmp.structures import Image

_GRID = 16  # cells a side in which brightness is compared
_BINS = 16  # of each channel
_SAMPLED = 256  # pixels a side that are counted, at the most


@dataclass(frozen=True, eq=False)
class Scene:
    """What a frame looks like from far away.

    size: height and width in pixels. luma: float32 (16, 16) in [0, 255]. colours: float32 (3, 16), shares of the
    pixels of each channel, which add up to 1.
    """

    size: tuple[int, int]
    luma: npt.NDArray[np.float32]
    colours: npt.NDArray[np.float32]


def scene_of(image: Image) -> Scene:
    """Look at a frame."""
    pixels = image.pixels.cpu().numpy()
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    luma = cv2.resize(grey, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    down, across = (max(1, side // _SAMPLED) for side in pixels.shape[:2])
    levels = pixels[::down, ::across].reshape(-1, 3) // (256 // _BINS)
    counts = np.stack([np.bincount(channel, minlength=_BINS) for channel in levels.T])
    return Scene((image.height, image.width), luma, (counts / len(levels)).astype(np.float32))


def is_cut(before: Scene, after: Scene, *, luma: float = 30.0, overlap: float = 0.6) -> bool:
    """Say whether two frames that follow each other show different scenes.

    They do where brightness differs by more than ``luma`` (of 255) on average over the cells of a grid, and the
    histograms of the colours have less than ``overlap`` in common; and always where the size changes.
    """
    if before.size != after.size:
        return True
    shared = float(np.minimum(before.colours, after.colours).sum()) / 3
    return float(np.abs(before.luma - after.luma).mean()) > luma and shared < overlap
