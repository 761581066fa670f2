"""Square, turned regions of an image: cutting them out and putting masks back; knows no network and no keypoint names.

A region is a row (centre x, centre y, side, angle): pixels of the image, and radians by which its up direction is
turned clockwise from the image's. Places within a region are fractions of its side, (0, 0) its top left corner and
(1, 1) its bottom right one. Both kinds of coordinates are continuous: pixel i covers i to i + 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bmp.structures import Image

Array = NDArray[np.float32]


def from_points(centre: Array, top: Array, scale: float) -> Array:
    """Return regions (N, 4) around ``centre`` (N, 2) with ``top`` (N, 2) above, ``scale`` times that distance wide."""
    x, y = (top - centre).T
    side = np.maximum(scale * np.hypot(x, y), 1.0)
    return np.stack([*centre.T, side, np.arctan2(x, -y)], axis=1).astype(np.float32)


def from_boxes(boxes: Array, scale: float) -> Array:
    """Return upright regions (N, 4) at the centres of xyxy ``boxes`` (N, 4), ``scale`` times their longer edge wide."""
    low, high = boxes[:, :2], boxes[:, 2:]
    side = np.maximum(scale * (high - low).max(axis=1), 1.0)
    return np.stack([*((low + high) / 2).T, side, np.zeros_like(side)], axis=1).astype(np.float32)


def axes(regions: Array) -> Array:
    """Return (N, 2, 2): the steps in the image that cross each region rightwards and downwards."""
    side, angle = regions[:, 2], regions[:, 3]
    right = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    down = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    return np.asarray(np.stack([right, down], axis=1) * side[:, None, None], dtype=np.float32)


def alike(first: Array, second: Array, difference: float) -> NDArray[np.bool_]:
    """Return which of the regions ``first`` (N, 4) show nearly what ``second`` (N, 4) show.

    That is, whose centres are nearer to each other than that part of the side, whose sides differ by a smaller part,
    and whose angles by fewer radians than ``difference``.
    """
    apart = np.linalg.norm(first[:, :2] - second[:, :2], axis=1) / second[:, 2]
    larger = np.abs(np.log(first[:, 2] / second[:, 2]))
    turned = np.abs((first[:, 3] - second[:, 3] + np.pi) % (2 * np.pi) - np.pi)
    limit = np.array([difference, np.log1p(difference), difference])
    return np.asarray((np.stack([apart, larger, turned], axis=1) < limit).all(axis=1), dtype=np.bool_)


def to_image(points: Array, regions: Array) -> Array:
    """Turn ``points`` (N, P, 2), fractions of the regions (N, 4), into pixels of the image."""
    return np.asarray(regions[:, None, :2] + (points - 0.5) @ axes(regions), dtype=np.float32)


def to_region(points: Array, regions: Array) -> Array:
    """Turn ``points`` (N, P, 2), pixels of the image, into fractions of the regions (N, 4)."""
    inverse = axes(regions).transpose(0, 2, 1) / (regions[:, 2] ** 2)[:, None, None]
    return np.asarray((points - regions[:, None, :2]) @ inverse + 0.5, dtype=np.float32)


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    digest = hashlib.sha1(repr(pixels.shape).encode(), usedforsecurity=False)
    digest.update(pixels.reshape(-1).data)
    return digest.digest()


@dataclass(frozen=True, eq=False)
class ImagePyramid:
    """An image with its smaller copies, from which regions of any size are cut without aliasing.

    levels: uint8 (H, W, 3) RGB, each half as large as the one before. key: a digest of the pixels; equal keys mean
    equal images.
    """

    levels: tuple[NDArray[np.uint8], ...]
    key: bytes

    @classmethod
    def of(cls, image: Image) -> ImagePyramid:
        """Read ``image``, from whatever device it is on, and shrink it until it is smaller than any network's input."""
        pixels = np.ascontiguousarray(image.pixels.cpu().numpy())
        levels = [pixels]
        while max(levels[-1].shape[:2]) > 128:
            height, width = (max(1, round(edge / 2)) for edge in levels[-1].shape[:2])
            levels.append(cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA))
        return cls(tuple(levels), _digest(pixels))

    @property
    def height(self) -> int:
        """Of the image, in pixels."""
        return len(self.levels[0])

    @property
    def width(self) -> int:
        """Of the image, in pixels."""
        return len(self.levels[0][0])

    def crop(self, region: Array, size: int) -> NDArray[np.uint8]:
        """Return the pixels of ``region`` (4,) as uint8 (size, size, 3); black outside the image."""
        shrinking = max(float(region[2]) / size, 1.0)
        level = self.levels[min(round(np.log2(shrinking)), len(self.levels) - 1)]
        scale = np.array([level.shape[1] / self.width, level.shape[0] / self.height])
        low, high = bounds(region, scale, level.shape[1], level.shape[0])
        if (high <= low).any():
            return np.zeros((size, size, 3), dtype=np.uint8)
        part = level[low[1] : high[1], low[0] : high[0]]
        matrix = pixel_matrix(region, size, scale, low)
        return np.asarray(cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))

    def stretched(self, box: Array, size: int) -> NDArray[np.uint8]:
        """Return the pixels of the xyxy ``box`` (4,), which lies within the image, as uint8 (size, size, 3)."""
        edges = box[2:] - box[:2]
        shrinking = max(float(edges.min()) / size, 1.0)
        level = self.levels[min(round(np.log2(shrinking)), len(self.levels) - 1)]
        scale = np.array([level.shape[1] / self.width, level.shape[0] / self.height])
        left, top = np.round(box[:2] * scale).astype(int)
        right, bottom = np.maximum(np.round(box[2:] * scale).astype(int), (left + 1, top + 1))
        return np.asarray(cv2.resize(level[top:bottom, left:right], (size, size), interpolation=cv2.INTER_LINEAR))


def bounds(region: Array, scale: Any, width: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last-plus-one (x, y) pixel of a ``scale`` times larger image that ``region`` touches."""
    reach = np.abs(axes(region[None])[0]).sum(axis=0) / 2
    limit = [width, height]
    low = np.clip(np.floor((region[:2] - reach) * scale) - 1, 0, limit)
    high = np.clip(np.ceil((region[:2] + reach) * scale) + 1, 0, limit)
    return low.astype(np.int64), high.astype(np.int64)


def pixel_matrix(region: Array, size: int, scale: Any, origin: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the affine map (2, 3) from pixel numbers of a ``size`` wide crop to those of the image past ``origin``.

    The image is ``scale`` times as large as the one that ``region`` is in pixels of.
    """
    step = axes(region[None])[0].T.astype(np.float64) / size * np.reshape(scale, (-1, 1))
    corner = region[:2] * scale - step @ np.full(2, size / 2)
    return np.column_stack([step, corner + step @ np.full(2, 0.5) - 0.5 - origin])


def extents(masks: NDArray[np.bool_], regions: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return the xyxy boxes (N, 4) in the image that hold ``masks`` (N, size, size) over ``regions`` (N, 4).

    And which masks (N,) hold anything; the box of one that does not is its region's centre.
    """
    size = masks.shape[-1]
    held: NDArray[np.bool_] = np.asarray(masks.any(axis=2))
    rows = np.broadcast_to(np.arange(size), held.shape)
    # The ends of a mask's rows hold its whole outline.
    left = np.stack([masks.argmax(axis=2), rows], axis=2)
    right = np.stack([size - masks[..., ::-1].argmax(axis=2), rows + 1], axis=2)
    points = np.concatenate([to_image((end / size).astype(np.float32), regions) for end in (left, right)], axis=1)
    points = np.where(np.concatenate([held, held], axis=1)[..., None], points, np.nan)
    some: NDArray[np.bool_] = np.asarray(held.any(axis=1))
    points[~some] = regions[~some, None, :2]
    boxes = np.concatenate([np.nanmin(points, axis=1), np.nanmax(points, axis=1)], axis=1)
    return boxes.astype(np.float32), some


def over_box(mask: Array, region: Array, box: Array, size: int) -> Array:
    """Return ``mask`` over ``region`` (4,) as (size, size) cells of the xyxy ``box`` (4,); 0 outside the region.

    mask: (S, S), values of any kind. Neighbouring cells of ``mask`` are averaged where the result has fewer.
    """
    edges = np.maximum(box[2:] - box[:2], 1e-3)
    cells = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32) * size - 0.5  # corners of the box
    corners = np.stack([box[:2], [box[0] + edges[0], box[1]], [box[0], box[1] + edges[1]]]).astype(np.float32)
    source = to_region(corners[None], region[None])[0] * len(mask) - np.float32(0.5)
    shrinking = float(edges.max()) / size / float(region[2]) * len(mask)
    reach = 2 * int(shrinking / 2) + 1
    smooth = cv2.blur(mask, (reach, reach), borderType=cv2.BORDER_REPLICATE) if reach > 1 else mask
    matrix = cv2.getAffineTransform(cells.astype(np.float32), source.astype(np.float32))
    return np.asarray(
        cv2.warpAffine(smooth, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), dtype=np.float32
    )


def paste(mask: Array, region: Array, width: int, height: int, scale: float = 1.0) -> NDArray[np.bool_]:
    """Return bool (height, width): where ``mask`` (size, size), probabilities over ``region`` (4,), exceeds one half.

    The canvas is ``scale`` times the image that the region is in pixels of; False outside the region.
    """
    canvas = np.zeros((height, width), dtype=np.bool_)
    low, high = bounds(region, scale, width, height)
    if (high > low).all():
        matrix = pixel_matrix(region, len(mask), scale, low)
        extent = tuple(int(edge) for edge in high - low)
        canvas[low[1] : high[1], low[0] : high[0]] = cv2.warpAffine(mask, matrix, extent, flags=cv2.INTER_LINEAR) > 0.5
    return canvas
