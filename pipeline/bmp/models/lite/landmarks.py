"""The 33-point body landmark network on regions of an image; knows no detector and none of the stages that use it.

Input and outputs are those of ``pose_landmark_full.tflite``: 256 x 256 RGB in [0, 1] in; 39 landmarks, a flag (is
there a person at all), a mask and 64 x 64 heat maps out. Landmarks 33 and 34 say where to look next time: the middle
of the hips, and a point on the circle around it that encloses the body.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmp.models.lite import litert, regions
from bmp.models.lite.logistic import sigmoid
from bmp.models.lite.regions import Array, ImagePyramid

COCO_LANDMARKS = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
"""Which landmark is which of COCO's 17 keypoints."""
BODY = slice(0, 33)
WEIGHTS = "mediapipe/pose_landmark_full.tflite"
SIZE = 256
REGION_SCALE = 2.5  # side of a region over the radius of the circle that encloses the body
WORTH = 0.03  # flag of a first look from which there is a second one
_SHAPES: tuple[tuple[int, ...], ...] = ((39, 2), (39,), (39,), (39,), (), (SIZE, SIZE))


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What the network says of N regions.

    regions (N, 4). points (N, 39, 2) in pixels of the image. visibility, presence (N, 39), heat (N, 39): the greatest
    value of the landmark's heat map near it, flags (N,) and masks (N, 256, 256): all in [0, 1].
    """

    regions: Array
    points: Array
    visibility: Array
    presence: Array
    heat: Array
    flags: Array
    masks: Array

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, rows: NDArray[np.int64]) -> Landmarks:
        return Landmarks(**{name: value[rows] for name, value in vars(self).items()})

    def replaced(self, rows: NDArray[np.int64], other: Landmarks) -> Landmarks:
        """Return these with ``other`` in place of ``rows``."""
        columns = {name: value.copy() for name, value in vars(self).items()}
        for name, value in columns.items():
            value[rows] = getattr(other, name)
        return Landmarks(**columns)

    def next_regions(self) -> Array:
        """Return the regions (N, 4) in which the people found here are best looked at again."""
        return regions.from_points(self.points[:, 33], self.points[:, 34], REGION_SCALE)


def refine(places: Array, heat_maps: Array) -> tuple[Array, Array]:
    """Move each landmark to the weighted mean of the 7 x 7 cells around it, where one of these exceeds one half.

    places: (L, 2), fractions of the region. heat_maps: (H, W, L) in [0, 1]; cell i stands for the place i / size, not
    for its middle. Returns the new places and the greatest value (L,) around each; a landmark outside the map stays
    where it is and has 0.
    """
    height, width, count = heat_maps.shape
    size = np.array([width, height])
    cells = np.clip(np.floor(places * size), -8, size + 8).astype(np.int64)
    steps = np.arange(-3, 4)
    xs, ys = cells[:, 0, None] + steps, cells[:, 1, None] + steps
    padded = np.pad(heat_maps, ((12, 12), (12, 12), (0, 0)))
    windows = padded[ys[:, :, None] + 12, xs[:, None, :] + 12, np.arange(count)[:, None, None]]
    inside = ((places >= 0) & (places < 1)).all(axis=1)
    peaks = windows.max(axis=(1, 2)) * inside
    total = np.maximum(windows.sum(axis=(1, 2)), 1e-6)
    means = np.stack([(windows.sum(axis=1) * xs).sum(axis=1), (windows.sum(axis=2) * ys).sum(axis=1)], axis=1)
    moved = means / total[:, None] / size
    return np.where(peaks[:, None] > 0.5, moved, places).astype(np.float32), peaks.astype(np.float32)


class LandmarkModel:
    """The network, with a memory of its latest results, so that no region of an image is ever looked at twice.

    ``remember``: how many results are kept (70 kB each). The answer is the same with and without.
    """

    def __init__(self, path: Path, num_threads: int, remember: int = 512) -> None:
        self._model = litert.load(path, num_threads)
        self.remember = remember
        self._known: OrderedDict[tuple[bytes, bytes], tuple[NDArray[Any], ...]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_known": OrderedDict()}  # copies remember for themselves

    def forget(self) -> None:
        """Look at everything anew, as whoever measures time wants it."""
        self._known.clear()

    def __call__(self, picture: ImagePyramid, wanted: Array) -> Landmarks:
        """Return the landmarks of the regions ``wanted`` (N, 4) of ``picture``."""
        rows = [self._look(picture, region) for region in wanted]
        places, visibility, presence, heat, flags, masks = (
            np.asarray([row[i] for row in rows], dtype=np.float32).reshape(len(rows), *shape)
            for i, shape in enumerate(_SHAPES)
        )
        points = regions.to_image(places, wanted)
        return Landmarks(wanted, points, visibility, presence, heat, flags, masks / np.float32(255))

    def _look(self, picture: ImagePyramid, region: Array) -> tuple[NDArray[Any], ...]:
        key = (picture.key, region.tobytes())
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._run(picture.crop(region, SIZE))
            if len(self._known) > self.remember:
                self._known.popitem(last=False)
        return known

    def _run(self, crop: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """Return places (39, 2), visibility, presence, heat (39,), flag () and mask (256, 256) of one crop.

        The mask is uint8, 255 for certain.
        """
        landmarks, flag, mask, heat_maps, _ = self._model(crop.astype(np.float32) / np.float32(255))
        landmarks = landmarks.reshape(39, 5)
        places, heat = refine(landmarks[:, :2] / np.float32(SIZE), sigmoid(heat_maps))
        places[33:] = landmarks[33:, :2] / SIZE  # these two have no sharp place in the picture, and refining hurts them
        seen = sigmoid(landmarks[:, 3:])
        # Bytes take up a quarter of the memory.
        rounded = np.round(sigmoid(mask[..., 0]) * np.float32(255)).astype(np.uint8)
        return places, seen[:, 0], seen[:, 1], heat, flag[0], rounded


def look_again(
    network: Callable[[ImagePyramid, Array], Landmarks], picture: ImagePyramid, first: Landmarks
) -> Landmarks:
    """Return second looks at the people whom the ``first`` ones have seen, where these say that they are best seen.

    A first look that has seen nobody stands: its landmarks would lead anywhere.
    """
    rows = np.flatnonzero(first.flags >= WORTH)
    return first.replaced(rows, network(picture, first.next_regions()[rows]))


_loaded: dict[tuple[Path, int], LandmarkModel] = {}


def load(path: Path, num_threads: int) -> LandmarkModel:
    """Return the network of that file, one a process, so that all stages share what it remembers."""
    if (path, num_threads) not in _loaded:
        _loaded[path, num_threads] = LandmarkModel(path, num_threads)
    return _loaded[path, num_threads]


def loaded() -> list[LandmarkModel]:
    """Return the networks that this process has loaded."""
    return list(_loaded.values())
