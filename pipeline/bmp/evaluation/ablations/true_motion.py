"""A point tracker that knows how drawn videos move: the upper bound for all others. Knows no picture.

People are drawn limb by limb, so a point on somebody moves with the nearest limb: as far along it and beside it as
before. A point beside everybody moves with the camera.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.structures import Image
from bmp.synthcrowd.videos import VideoFrame

_Floats = npt.NDArray[np.float64]
# Limbs by COCO's joints, with the middle of the shoulders as 17 and that of the hips as 18.
_LIMBS = np.array([[5, 7], [7, 9], [6, 8], [8, 10], [11, 13], [13, 15], [12, 14], [14, 16], [17, 18], [0, 17], [5, 6]])
_NEAR = 2  # pixels from somebody within which a point is on that person


@dataclass(frozen=True, eq=False)
class _Known:
    """What is true of a frame: who is where, everybody's limbs (A, L, 2, 2) and heights, and the camera."""

    owner: npt.NDArray[np.int64]
    limbs: dict[int, _Floats]
    camera: _Floats
    shot: int


class TrueMotion:
    """Follows points as they truly move; one that is hidden or leaves the picture is lost.

    Args:
        frames: of a drawn video, with the pictures that will be handed in.
    """

    delay = 0
    recovers = False

    def __init__(self, frames: Iterable[tuple[VideoFrame, Image]]) -> None:
        self._frames: dict[int, _Known] = {}
        shot = 0
        for drawn, image in frames:
            shot += drawn.cut
            self._frames[_key(image)] = _known(drawn, shot)

    def start(self, image: Image) -> None:
        """Begin; nothing has to be remembered."""

    def step(self, state: None, previous: Image, image: Image, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Follow points to the next frame; see ``PointTracker``. The error is 0, or infinite for lost ones."""
        before, after = self._of(previous), self._of(image)
        places = points.detach().cpu().numpy().astype(np.float64)
        moved, seen = places.copy(), np.zeros(len(places), np.bool_)
        if before.shot == after.shot and len(places):
            whose = _whose(before.owner, places)
            for person in np.unique(whose):
                rows = np.flatnonzero(whose == person)
                moved[rows] = _moved(places[rows], int(person), before, after)
            height, width = after.owner.shape
            inside = ((moved >= 0) & (moved < (width, height))).all(axis=1)
            seen[inside] = _whose(after.owner, moved[inside]) == whose[inside]
        found = torch.from_numpy(moved.astype(np.float32)).to(points.device)
        flags = torch.from_numpy(seen).to(points.device)
        return found, flags, torch.where(flags, 0.0, torch.inf)

    def _of(self, image: Image) -> _Known:
        try:
            return self._frames[_key(image)]
        except KeyError:
            raise UserError("TrueMotion: a frame of another video; give it the frames that it was made with") from None


def _key(image: Image) -> int:
    return zlib.crc32(image.pixels.cpu().numpy().tobytes())


def _known(drawn: VideoFrame, shot: int) -> _Known:
    owner = np.zeros(drawn.scene.image.shape[:2], np.int64)
    for identity, mask in zip(drawn.ids.tolist(), drawn.scene.visible, strict=True):
        owner[mask] = identity
    owner[drawn.scene.things > 0] = -1
    joints = drawn.joints.astype(np.float64)
    middles = np.stack([joints[:, [5, 6]].mean(axis=1), joints[:, [11, 12]].mean(axis=1)], axis=1)
    limbs = np.concatenate([joints, middles], axis=1)[:, _LIMBS]
    return _Known(owner, dict(zip(drawn.actors.tolist(), limbs, strict=True)), drawn.camera, shot)


def _whose(owner: npt.NDArray[np.int64], places: _Floats) -> npt.NDArray[np.int64]:
    """Return who is at points (N, 2): an id, also of somebody a little beside it, 0 for nobody and -1 for a thing."""
    height, width = owner.shape
    columns = places[:, 0].astype(int).clip(0, width - 1)
    rows = places[:, 1].astype(int).clip(0, height - 1)
    whose: npt.NDArray[np.int64] = owner[rows, columns]
    for number in np.flatnonzero(whose == 0):
        y, x = int(rows[number]), int(columns[number])
        window = owner[max(y - _NEAR, 0) : y + _NEAR + 1, max(x - _NEAR, 0) : x + _NEAR + 1]
        near = window[window > 0]
        if near.size:
            whose[number] = np.bincount(near).argmax()
    return whose


def _moved(places: _Floats, person: int, before: _Known, after: _Known) -> _Floats:
    """Return where points of one person, or of the background, are in the next frame."""
    if person <= 0:
        first, second = (np.vstack([known.camera, [0, 0, 1]]) for known in (before, after))
        between = second @ np.linalg.inv(first)
        moved: _Floats = places @ between[:2, :2].T + between[:2, 2]
        return moved
    old, new = before.limbs[person], after.limbs[person]
    starts, ways = old[:, 0], old[:, 1] - old[:, 0]
    lengths = np.maximum((ways**2).sum(axis=1), 1.0)
    along = ((places[:, None] - starts) * ways).sum(axis=2) / lengths
    distances = np.linalg.norm(places[:, None] - starts - along.clip(0, 1)[..., None] * ways, axis=2)
    best = distances.argmin(axis=1)
    rows = np.arange(len(places))
    share = along[rows, best][:, None]
    beside = ((places - starts[best] - share * ways[best]) * _normal(ways[best])).sum(axis=1, keepdims=True)
    new_ways = new[best, 1] - new[best, 0]
    grown = _size(new) / _size(old)
    placed: _Floats = new[best, 0] + share * new_ways + beside * grown * _normal(new_ways)
    return placed


def _normal(ways: _Floats) -> _Floats:
    unit = ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-6)
    return np.stack([-unit[:, 1], unit[:, 0]], axis=1)


def _size(limbs: _Floats) -> float:
    """Return a size of somebody that a change of pose hardly changes: how long all limbs are together."""
    return max(float(np.linalg.norm(limbs[:, 1] - limbs[:, 0], axis=1).sum()), 1e-6)
