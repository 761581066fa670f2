"""The box network of the lite stages, a single-shot detector (SSD) on windows of an image; knows no pose and no mask.

Input and outputs are those of ``mediapipe/ssd_mobilenet_v2_open_images.tflite``: 300 x 300 RGB in [-1, 1] in, to which
a window of any shape is stretched; for each of 1917 anchors an offset and the logits of 24 classes out.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bmp.models.lite import litert
from bmp.models.lite.logistic import sigmoid
from bmp.models.lite.regions import Array, ImagePyramid
from bmp.ops.boxes import iou

WEIGHTS = "mediapipe/ssd_mobilenet_v2_open_images.tflite"
SIZE = 300
PERSON = 4  # of the 24 classes
_GRIDS = (19, 10, 5, 3, 2, 1)
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)  # of the grids' anchors; the last only ends the row
_CENTRE, _EXTENT = 10.0, 5.0  # what offsets of centres, and logarithms of sizes, are multiplied by in the output
_SQUARE = 1.15  # ratio of the edges up to which the whole image is as good as a square
_MOST = 8  # windows besides the whole image
_LAP = 1.2  # share of an image of very long shape that its windows cover together, over the image's own
_BORDER = 0.03  # of the window's shorter edge: what ends as near to the edge as this is cut off by it
_DOUBTFUL = 0.2  # score from which something may be somebody
_LARGE = 0.1  # share of the image from which nobody is small
_SAME, _ALIKE = 0.55, 0.65  # IoU from which boxes are one person, and from which they are averaged
_ROWS = 300  # boxes of an image that are compared at most


@functools.cache
def anchors() -> Array:
    """Return the boxes (1917, 4) that the rows of the output start from: centre x, y, width, height in [0, 1]."""
    grids = []
    for number, cells in enumerate(_GRIDS):
        scale, next_scale = _SCALES[number : number + 2]
        kinds = [(1.0, 0.1), (2.0, scale), (0.5, scale)]
        if number:
            kinds = [(aspect, scale) for aspect in (1.0, 2.0, 0.5, 3.0, 1 / 3)] + [(1.0, (scale * next_scale) ** 0.5)]
        sizes = np.array([(size * aspect**0.5, size / aspect**0.5) for aspect, size in kinds])
        middles = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(middles, middles, indexing="ij")
        centres = np.stack([x.ravel(), y.ravel()], axis=1)
        grids.append(np.concatenate([centres.repeat(len(kinds), axis=0), np.tile(sizes, (len(centres), 1))], axis=1))
    return np.concatenate(grids).astype(np.float32)


def decode_boxes(offsets: Array, logits: Array, threshold: float) -> tuple[Array, Array]:
    """Read the output for one window.

    Args:
        offsets: (1917, 4), y, x, height and width relative to the anchors.
        logits: (1917, 24).
        threshold: score that a row has to reach, in (0, 1).

    Returns:
        xyxy boxes (n, 4) of people, in fractions of the window, beyond which they may reach, and scores (n,).
    """
    scores = sigmoid(logits[:, PERSON])
    rows = np.flatnonzero(scores >= threshold)
    start = anchors()[rows]
    centres = offsets[rows][:, [1, 0]] / _CENTRE * start[:, 2:] + start[:, :2]
    half = np.exp(offsets[rows][:, [3, 2]].clip(max=20) / _EXTENT) * start[:, 2:] / 2
    return np.concatenate([centres - half, centres + half], axis=1).astype(np.float32), scores[rows]


def windows(width: int, height: int) -> Array:
    """Return the xyxy boxes (T, 4) in which an image is looked at: all of it, then squares along its longer edge.

    The squares are as high as the image's shorter edge, and at least two where the image is no square itself. An
    image more than `_MOST` times as long as wide has windows that are longer than high.
    """
    long, short = max(width, height), min(width, height)
    whole = [(0.0, 0.0, float(width), float(height))]
    if long <= _SQUARE * short:
        return np.array(whole, dtype=np.float32)
    count = min(max(int(np.ceil(long / short)), 2), _MOST)
    side = max(short, _LAP * long / count)
    starts = np.linspace(0, long - side, count)
    parts = [(start, 0, start + side, short) for start in starts]
    parts = parts if width >= height else [(top, left, bottom, right) for left, top, right, bottom in parts]
    return np.array(whole + parts, dtype=np.float32)


def cut_off(boxes: Array, window: Array, width: int, height: int) -> NDArray[np.bool_]:
    """Return which of ``boxes`` (N, 4) end at an edge of the window that is not the image's: parts of somebody."""
    margin = _BORDER * (window[2:] - window[:2]).min()
    low = (boxes[:, :2] < window[:2] + margin) & (window[:2] > 1)
    high = (boxes[:, 2:] > window[2:] - margin) & (window[2:] < np.array([width, height]) - 1)
    return np.asarray((low | high).any(axis=1), dtype=np.bool_)


def large(boxes: Array, scores: Array, area: float) -> bool:
    """Return whether there is somebody, and nobody who may be small, among what is found in an image of that area.

    boxes: (N, 4). scores: (N,). Then a closer look finds parts of these people rather than others.
    """
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[scores >= _DOUBTFUL]
    return len(sizes) > 0 and bool((sizes >= _LARGE * area).all())


def merge(boxes: Array, scores: Array) -> tuple[Array, Array]:
    """Unite boxes of the same person: the best score, and the score-weighted mean of all that hardly differ from it.

    boxes: (N, 4). scores: (N,). Returns (M, 4) and (M,), best first.
    """
    order = np.argsort(-scores, kind="stable")[:_ROWS]
    boxes, scores = boxes[order], scores[order]
    alike = iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    kept: list[int] = []
    for row in range(len(boxes)):
        if not (alike[row, kept] > _SAME).any():
            kept.append(row)
    weights = (alike[kept] > _ALIKE) * scores
    means = weights @ boxes / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
    return means.astype(np.float32).reshape(-1, 4), scores[kept]


class BoxNetwork:
    """Finds people's boxes in an image.

    Args:
        path: of the network's file.
        num_threads: of the network.
    """

    def __init__(self, path: Path, num_threads: int) -> None:
        self._model = litert.load(path, num_threads)

    def __call__(self, picture: ImagePyramid, threshold: float) -> tuple[Array, Array]:
        """Return boxes (N, 4) within ``picture``, in its pixels, and scores (N,) from ``threshold`` on, best first."""
        whole, *parts = windows(picture.width, picture.height)
        found = [self._look(picture, whole, threshold)]
        if not large(*found[0], picture.width * picture.height):
            found += [self._look(picture, window, threshold) for window in parts]
        boxes, scores = (np.concatenate(columns) for columns in zip(*found, strict=True))
        means, best = merge(boxes, scores)
        # A mean of boxes that end with the image may, by rounding, end a hair outside it.
        return np.clip(means, 0, _ends(picture)), best

    def _look(self, picture: ImagePyramid, window: Array, threshold: float) -> tuple[Array, Array]:
        """Return what is found in one window, without what it cuts off."""
        crop = picture.stretched(window, SIZE).astype(np.float32) / np.float32(127.5) - np.float32(1)
        offsets, logits = self._model(crop)
        boxes, scores = decode_boxes(offsets, logits, threshold)
        boxes = boxes * np.tile(window[2:] - window[:2], 2) + np.tile(window[:2], 2)
        good = ~cut_off(boxes, window, picture.width, picture.height)
        boxes = np.clip(boxes, 0, _ends(picture))
        good &= (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
        return boxes[good], scores[good]


def _ends(picture: ImagePyramid) -> Array:
    return np.array([picture.width, picture.height] * 2, dtype=np.float32)
