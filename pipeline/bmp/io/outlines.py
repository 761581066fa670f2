"""Masks as polygons and back, without the loss of a pixel; knows no file format.

Corners lie where pixels meet, as COCO has them: a mask over columns 3..5 has corners at x = 3 and x = 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from bmp.io.segmentations import checked_segmentation, to_run_lengths
from bmp.ops.masks import RunLengths, from_rle

Ring = npt.NDArray[np.int64]


def outlines(mask: npt.NDArray[np.bool_]) -> list[Ring]:
    """Return the outlines of a mask, bool (H, W), as rings of corners (P, 2), x and y: its parts and their holes."""
    # At twice the size the way around a pixel has four corners, which name the edges where pixels meet.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_corners((contour[:, 0].astype(np.int64) + 1) // 2) for contour in found]
    return [ring for ring in rings if len(ring) >= 4]


def _corners(path: Ring) -> Ring:
    """Leave out steps on the spot, and what lies between two corners."""
    path = path[(path != np.roll(path, 1, axis=0)).any(axis=1)]
    before, after = path - np.roll(path, 1, axis=0), np.roll(path, -1, axis=0) - path
    corners: Ring = path[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return corners


def one_ring(rings: Sequence[Ring]) -> Ring:
    """Join rings, at least one, into one that goes from each to the next and back on the same line."""
    joined = rings[0]
    for ring in rings[1:]:
        distances, nearest = cKDTree(joined).query(ring)
        there = int(distances.argmin())
        here = int(nearest[there])
        way = np.concatenate((ring[there:], ring[: there + 1]))
        joined = np.concatenate((joined[: here + 1], way, joined[here:]))
    return joined


def polygon_of(run_lengths: RunLengths) -> list[float]:
    """Return a mask as one polygon x, y, x, y, ...; empty for a mask of no pixels."""
    height, width = run_lengths["size"]
    rings = outlines(from_rle([run_lengths], height, width)[0].numpy())
    return one_ring(rings).astype(float).ravel().tolist() if rings else []


def filled(polygon: Sequence[float], height: int, width: int) -> RunLengths:
    """Return the mask that a polygon x, y, x, y, ... encloses; ``ValueError`` for one that cannot be an outline."""
    checked = checked_segmentation([list(polygon)], height, width)
    if checked is None:
        raise ValueError("expected a polygon of three corners or more")
    return to_run_lengths(checked, height, width)


def to_bits(run_lengths: RunLengths) -> npt.NDArray[np.bool_]:
    """Return a mask as bool (H, W)."""
    height, width = run_lengths["size"]
    bits: npt.NDArray[np.bool_] = from_rle([run_lengths], height, width)[0].numpy()
    return bits


def to_runs(bits: npt.NDArray[np.bool_]) -> RunLengths:
    """Return a mask, bool (H, W), as run lengths."""
    from bmp.ops.masks import to_rle

    return to_rle(torch.from_numpy(np.ascontiguousarray(bits))[None])[0]
