"""The augmentations that ProbPose and PMPose were trained with beside MMPose's own, for MMPose's data pipeline.

They are written from their description. Random numbers come from NumPy's global generator, which MMEngine seeds in each
worker, as in MMPose's own transforms. Nothing here knows a network.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS
from numpy.typing import NDArray

from bmp.models.openmmlab import Sample

_Array = NDArray[Any]
_HIDDEN = 1


@TRANSFORMS.register_module()
class MaskNoise(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Disturb every mask as PMPose's and MaskPose's training does; put it before anything that moves the image.

    The mask is opened and closed with 5 x 5 pixels. Then it grows or shrinks, by equal chance, in one of two ways, by
    equal chance: whole cells around random seeds change sides, or the outline moves. A mask too small for the seeds,
    or that would become empty, stays as it was.

    Reads and replaces ``mask``, bool (H, W) or None.

    Args:
        lost: the largest share of the 10 cells in the person that are lost.
        won: the largest share of the 50 cells in the background that are won.
    """

    def __init__(self, lost: float = 0.5, won: float = 0.1) -> None:
        super().__init__()
        self.lost = lost
        self.won = won

    def transform(self, results: Sample) -> Sample:
        """Return the results with another mask; the array that came in is not written to."""
        mask = results.get("mask")
        if mask is None or not mask.any():
            return results
        smooth = _morphed(_morphed(mask.astype(np.uint8), cv2.MORPH_OPEN, 5), cv2.MORPH_CLOSE, 5)
        grows = np.random.rand() < 0.5
        noisy = self._with_other_cells(smooth, grows) if np.random.rand() < 0.5 else _with_moved_outline(smooth, grows)
        return {**results, "mask": noisy.astype(bool)} if noisy.any() else results

    def _with_other_cells(self, mask: _Array, grows: bool) -> _Array:
        count, share = (50, self.won) if grows else (10, self.lost)
        side = mask == (0 if grows else 1)
        pixels = np.flatnonzero(side)
        if len(pixels) < count:
            return mask
        seeds = np.random.choice(pixels, count, replace=False)
        away_from_seeds = np.ones(mask.shape, np.uint8)
        away_from_seeds.flat[seeds] = 0
        _, cells = cv2.distanceTransformWithLabels(away_from_seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        changing = cells.flat[seeds[: int(count * np.random.uniform(0, share))]]
        changed = mask.copy()
        changed[side & np.isin(cells, changing)] = int(grows)
        return changed


@TRANSFORMS.register_module()
class EdgesBlackout(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paint the surroundings of a person's middle black, and go on with the box of what is left.

    Keypoints that are hidden count as hidden, those outside the new box's crop as absent: so the network learns to say
    so. Of the box, enlarged, a share of the width and one of the height are hidden, each divided between both sides by
    chance; the description does not say more. Put it before GetBBoxCenterScale.

    Reads ``img``, ``bbox`` float (1, 4), ``keypoints`` (1, K, 2) and, where there is one, ``keypoints_visibility``;
    replaces ``img``, ``bbox`` and ``keypoints_visibility``.

    Args:
        prob: its probability.
        mask_ratio_range: the smallest and the largest share.
        context_size: factor on the box's sides.
    """

    def __init__(
        self, prob: float = 0.8, mask_ratio_range: tuple[float, float] = (0.1, 0.3), context_size: float = 1.25
    ) -> None:
        super().__init__()
        self.prob = prob
        self.mask_ratio_range = mask_ratio_range
        self.context_size = context_size

    def transform(self, results: Sample) -> Sample:
        """Return the results; the arrays that came in are not written to."""
        if np.random.rand() >= self.prob:
            return results
        box = results["bbox"][0]
        low, high = _enlarged(box, self.context_size)
        ratios, before = np.random.uniform(*self.mask_ratio_range, 2), np.random.rand(2)
        left = np.maximum(low + (high - low) * ratios * before, box[:2])
        right = np.minimum(high - (high - low) * ratios * (1 - before), box[2:])
        hidden = np.ones(results["img"].shape[:2], bool)
        (x1, y1), (x2, y2) = np.clip(np.round([left, right]).astype(int), 0, None)
        hidden[y1:y2, x1:x2] = False
        if hidden.all() or (right <= left).any():
            return results
        return {**_blacked_out(results, hidden), "bbox": np.concatenate((left, right))[None].astype(box.dtype)}


@TRANSFORMS.register_module()
class PatchesBlackout(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paint some cells of a grid over the person black; keypoints in them count as hidden.

    Put it before GetBBoxCenterScale. Reads ``img``, ``bbox``, ``keypoints`` and ``keypoints_visibility`` as
    ``EdgesBlackout`` does; replaces ``img`` and ``keypoints_visibility``.

    Args:
        prob: its probability.
        grid_size: rows and columns of the grid on the box.
        mask_ratio: share of the cells that are black.
    """

    def __init__(self, prob: float = 0.8, grid_size: tuple[int, int] = (8, 6), mask_ratio: float = 0.3) -> None:
        super().__init__()
        self.prob = prob
        self.grid_size = grid_size
        self.mask_ratio = mask_ratio

    def transform(self, results: Sample) -> Sample:
        """Return the results; the arrays that came in are not written to."""
        if np.random.rand() >= self.prob:
            return results
        rows, columns = self.grid_size
        x1, y1, x2, y2 = results["bbox"][0]
        xs = np.clip(np.round(np.linspace(x1, x2, columns + 1)).astype(int), 0, None)
        ys = np.clip(np.round(np.linspace(y1, y2, rows + 1)).astype(int), 0, None)
        hidden = np.zeros(results["img"].shape[:2], bool)
        for cell in np.random.permutation(rows * columns)[: round(rows * columns * self.mask_ratio)]:
            row, column = divmod(int(cell), columns)
            hidden[ys[row] : ys[row + 1], xs[column] : xs[column + 1]] = True
        return _blacked_out(results, hidden)


def _morphed(mask: _Array, operation: int, side: int) -> _Array:
    morphed: _Array = cv2.morphologyEx(mask, operation, np.ones((side, side), np.uint8))
    return morphed


def _with_moved_outline(mask: _Array, grows: bool) -> _Array:
    area = int(mask.sum())
    rough = _morphed(mask, cv2.MORPH_CLOSE if grows else cv2.MORPH_OPEN, max(area // 1000, 5))
    return _morphed(rough, cv2.MORPH_DILATE if grows else cv2.MORPH_ERODE, max(area // 3000, 5))


def _enlarged(box: _Array, factor: float) -> tuple[_Array, _Array]:
    """Return the corners of a box (4,) about the same middle."""
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * factor
    return middle - half, middle + half


def _blacked_out(results: dict[str, Any], hidden: _Array) -> dict[str, Any]:
    """Return the results with pixels bool (H, W) black and what was visible there hidden."""
    image = results["img"].copy()
    image[hidden] = 0
    changed = {**results, "img": image}
    flags = results.get("keypoints_visibility")
    if flags is not None:
        height, width = hidden.shape
        columns, rows = (
            np.floor(results["keypoints"][..., 0]).astype(int),
            np.floor(results["keypoints"][..., 1]).astype(int),
        )
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        covered = hidden[rows.clip(0, height - 1), columns.clip(0, width - 1)] & inside
        changed["keypoints_visibility"] = np.where(covered, np.minimum(flags, _HIDDEN), flags)
    return changed
