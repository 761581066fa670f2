"""Follows points by the pyramidal method of Lucas and Kanade, OpenCV's; it knows no object and no person.

No training and no weights. It has no memory of how a point looked, so a point that is lost is lost for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.ops.point_motion import within_border
from bmp.registry import TRACKERS
from bmp.structures import Image

_Grey: TypeAlias = "npt.NDArray[np.uint8]"
_Points: TypeAlias = "npt.NDArray[np.float32]"

_SIDE = 160  # pixels of the longer side of the pictures from which the motion of the whole is read
_SHORTEST = 8  # pixels of the shorter one
_WORTH = 4.0  # pixels of motion of the whole from which it is a help
_ROUNDS, _PRECISION = 30, 0.01


@dataclass
class Memory:
    """What is kept from frame to frame: the last image, and what was computed of it."""

    image: Image
    grey: _Grey
    small: npt.NDArray[np.float32]
    reduction: float


@TRACKERS.register_module()
class LucasKanade:
    """Pyramidal Lucas-Kanade, forward and backward.

    A point is seen if it comes back to within ``round_trip`` pixels of where it was, still looks alike, and does not
    lie in the outermost hundredth of the image. Each is looked for twice, and what looks more alike counts: far away,
    around where the motion of the whole picture would have carried it, which phase correlation of small pictures
    tells; and near to its own place, with a window of half the side, as small things that move otherwise than what is
    around them are lost in a far search.

    Its verdict is about each point alone: on fine texture, far jumps come back to where they were and are wrong all
    the same. ``bmp.ops.point_motion.agreeing`` compares the points of an object with each other.

    Args:
        window: side of the square around a point by which it is found, in pixels.
        levels: of the pyramid; each doubles how far a point may go, about 20 pixels with 4.
        round_trip: error in pixels from which a point is not seen.
        likeness: correlation of the squares of half that side below which a point is not seen, from -1 to 1.

    Raises:
        UserError: for a window below 3, no level, a round trip that is not above 0, or a likeness out of its range.
    """

    delay = 0
    recovers = False

    def __init__(self, window: int = 21, levels: int = 4, round_trip: float = 1.0, likeness: float = 0.5) -> None:
        for name, value, least in (("window", window, 3), ("levels", levels, 1)):
            if value < least:
                raise UserError(f"LucasKanade: {name}: expected at least {least}, got {value}")
        if not round_trip > 0:
            raise UserError(f"LucasKanade: round_trip: expected more than 0 pixels, got {round_trip}")
        if not -1 <= likeness <= 1:
            raise UserError(f"LucasKanade: likeness: expected -1 to 1, got {likeness}")
        self.window = window
        self._near = window // 2 | 1
        self.levels = levels
        self.round_trip = round_trip
        self.likeness = likeness

    def start(self, image: Image) -> Memory:
        """Begin with the first frame."""
        return _remembered(image)

    def step(self, state: Memory, previous: Image, image: Image, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Follow points from ``previous`` to ``image``; see ``PointTracker``. The error is that of the round trip."""
        before = state if state.image is previous else _remembered(previous)
        after = _remembered(image)
        places = points.detach().cpu().numpy().astype(np.float32)
        moved, error = self._follow(before, after, places)
        state.image, state.grey, state.small, state.reduction = after.image, after.grey, after.small, after.reduction
        found = torch.from_numpy(moved).to(points.device)
        errors = torch.from_numpy(error).to(points.device)
        seen = (errors < self.round_trip) & within_border(found, image.height, image.width)
        return found, seen, errors

    def _follow(self, before: Memory, after: Memory, places: _Points) -> tuple[_Points, _Points]:
        """Return where the points are and the error of the round trip, infinite for those that are nowhere."""
        moved, error = places.copy(), np.full(len(places), np.inf, np.float32)
        if before.grey.shape != after.grey.shape:
            return moved, error
        rows = np.flatnonzero(np.isfinite(places).all(axis=1))
        if not len(rows):
            return moved, error
        shift = _motion(before.small, after.small, before.reduction)
        # What does not move with the rest gets lost on the coarsest levels, where the rest is nearly all that there is.
        searches = ((shift, self.levels, self.window), (np.zeros_like(shift), min(2, self.levels), self._near))
        patches = self._patches(before.grey, places[rows])
        alike = np.full(len(rows), -1, np.float32)
        for guess, levels, window in searches:
            there, found = self._flow(before.grey, after.grey, places[rows], places[rows] + guess, levels, window)
            back, returned = self._flow(after.grey, before.grey, there, there - guess, levels, window)
            trip = np.where(found & returned, np.hypot(*(back - places[rows]).T), np.inf)
            likeness = (patches * self._patches(after.grey, there)).sum(axis=1)
            # Of two that came back the one that looks like the point; on texture, wrong ones come back as well.
            trip = np.where(likeness < self.likeness, np.inf, trip)
            likeness = np.where(trip < self.round_trip, likeness, -1)
            better = (likeness > alike) | ((alike < 0) & (trip < error[rows]))
            moved[rows[better]], error[rows[better]] = there[better], trip[better]
            alike[better] = likeness[better]
        return moved, error

    def _flow(
        self, first: _Grey, second: _Grey, places: _Points, guess: _Points, levels: int, window: int
    ) -> tuple[_Points, npt.NDArray[np.bool_]]:
        """Return where the points are in the second picture, and whether they were found."""
        found, status, _ = cv2.calcOpticalFlowPyrLK(
            first,
            second,
            places,
            guess.copy(),
            winSize=(window, window),
            maxLevel=levels - 1,
            criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ROUNDS, _PRECISION),
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        return found, status[:, 0] > 0

    def _patches(self, picture: _Grey, places: _Points) -> _Points:
        """Return the squares around points, of mean 0 and length 1, or 0 where all is of one grey: (M, side²)."""
        height, width = picture.shape
        # Far outside is as good as just outside, and OpenCV cannot count that far.
        centres = np.clip(np.nan_to_num(places), -1, [width, height]).astype(np.float32)
        line = np.arange(self._near, dtype=np.float32) - self._near // 2
        across = centres[:, :1] + np.tile(line, self._near)
        down = centres[:, 1:] + np.repeat(line, self._near)
        values = cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        values -= values.mean(axis=1, keepdims=True)
        unit: _Points = values / np.maximum(np.sqrt((values**2).sum(axis=1, keepdims=True)), 1e-6)
        return unit


def _remembered(image: Image) -> Memory:
    grey = cv2.cvtColor(image.pixels.cpu().numpy(), cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    reduction = max(1.0, max(height, width) / _SIDE)
    size = max(1, round(width / reduction)), max(1, round(height / reduction))
    return Memory(image, grey, cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32), reduction)


def _motion(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], reduction: float
) -> npt.NDArray[np.float32]:
    """Return how far the whole picture moved in pixels of the full size, (2,); zeros where that explains nothing."""
    height, width = before.shape
    still = np.zeros(2, np.float32)
    if min(height, width) < _SHORTEST:
        return still
    # OpenCV would write its window into the pictures themselves.
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (across, down), _ = cv2.phaseCorrelate(before * window, after * window)
    shift = np.array([across, down], np.float32)
    if not np.isfinite(shift).all() or np.hypot(*shift) * reduction < _WORTH:
        return still
    # Two pictures that have nothing in common have a best shift as well: it counts only where it brings them together.
    matrix = np.array([[1, 0, across], [0, 1, down]], np.float32)
    arrived = cv2.warpAffine(np.ones_like(before), matrix, (width, height)) > 0.99
    if arrived.mean() < 0.25:
        return still
    carried = cv2.warpAffine(before, matrix, (width, height))
    if np.abs(carried - after)[arrived].mean() >= np.abs(before - after)[arrived].mean():
        return still
    return shift * np.float32(reduction)
