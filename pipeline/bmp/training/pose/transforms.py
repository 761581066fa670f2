"""Masks of people in an MMPose data pipeline: loaded, given a detector's errors, flipped, used for conditioning.

The batched form of the conditioning, for inference, is bmp.poses.crops. Nothing here knows a network. Random
numbers come from NumPy's global generator, which MMEngine seeds in each worker, as in MMPose's own transforms.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.datasets.transforms import RandomFlip
from mmpose.registry import TRANSFORMS
from numpy.typing import NDArray

from bmp.errors import UserError
from bmp.io.segmentations import Segmentation, checked_segmentation, to_mask
from bmp.models.openmmlab import Sample

_Array = NDArray[np.uint8]


@TRANSFORMS.register_module()
class LoadPersonMask(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Decode the person's ``segmentation``, COCO's run lengths or polygons; put it after LoadImage.

    Reads ``segmentation``, ``img_shape`` and ``bbox``; adds ``mask`` bool (H, W).

    Args:
        without_mask: what somebody gets for whom nothing was segmented: "none", or "box" for the box, filled, as
            ``MMPoseEstimator`` does it in use.
    """

    def __init__(self, without_mask: str = "none") -> None:
        super().__init__()
        if without_mask not in ("none", "box"):
            raise ValueError(f"LoadPersonMask: expected without_mask to be 'none' or 'box', got {without_mask!r}")
        self.without_mask = without_mask

    def transform(self, results: Sample) -> Sample:
        """Return the results with the mask, None where there is none."""
        segmentation = results.get("segmentation")
        if segmentation:
            return {**results, "mask": _decode(segmentation, *results["img_shape"])}
        if self.without_mask == "none":
            return {**results, "mask": None}
        mask = np.zeros(results["img_shape"], bool)
        left, top, right, bottom = results["bbox"][0]
        mask[max(0, int(top)) : max(0, int(np.ceil(bottom))), max(0, int(left)) : max(0, int(np.ceil(right)))] = True
        return {**results, "mask": mask}


@TRANSFORMS.register_module()
class NoisyMask(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Give the person's mask the errors of a detector, so that the network does not rely on its outline.

    Each error has its own probability: no mask at all, and then no other error; a part of a neighbour's mask added,
    which is the part inside a random rectangle in the person's box; missing patches, up to three ellipses; and an
    outline that is too wide or too narrow everywhere. A mask that would become empty stays unchanged.

    Reads ``mask`` bool (H, W) or None and ``neighbours``, segmentations as ``LoadPersonMask`` reads them; replaces
    ``mask``. Put it before anything that moves the image.

    Args:
        none: probability of no mask.
        neighbour: probability of a neighbour's part, for people who have a neighbour.
        patches: probability of missing patches.
        rim: probability of a moved outline.
        patch_size: the largest axes of a patch, as a share of the mask's box.
        rim_width: the largest distance that the outline moves, as a share of the root of the mask's area.
    """

    def __init__(
        self,
        none: float = 0.1,
        neighbour: float = 0.2,
        patches: float = 0.3,
        rim: float = 0.6,
        patch_size: float = 0.5,
        rim_width: float = 0.08,
    ) -> None:
        super().__init__()
        self.none = none
        self.neighbour = neighbour
        self.patches = patches
        self.rim = rim
        self.patch_size = patch_size
        self.rim_width = rim_width

    def transform(self, results: Sample) -> Sample:
        """Return the results with another mask; the array that came in is not written to."""
        mask = results.get("mask")
        if mask is None or not mask.any():
            return results
        if np.random.rand() < self.none:
            return {**results, "mask": None}
        noisy = mask.astype(np.uint8)
        box = cv2.boundingRect(noisy)
        neighbours = results.get("neighbours") or ()
        if len(neighbours) and np.random.rand() < self.neighbour:
            self._take_in(noisy, box, neighbours[np.random.randint(len(neighbours))])
        if np.random.rand() < self.patches:
            self._cut_out(noisy, box)
        if np.random.rand() < self.rim:
            self._move_rim(noisy)
        return {**results, "mask": noisy.astype(bool)} if noisy.any() else results

    def _take_in(self, mask: _Array, box: Sequence[int], neighbour: Segmentation) -> None:
        """Add the part of the neighbour inside a random rectangle in the box."""
        x, y, width, height = box
        (left, right), (top, bottom) = (
            np.sort(np.random.randint(0, size + 1, 2)) + start for start, size in ((x, width), (y, height))
        )
        mask[top:bottom, left:right] |= _decode(neighbour, *mask.shape)[top:bottom, left:right]

    def _cut_out(self, mask: _Array, box: Sequence[int]) -> None:
        """Take ellipses out."""
        x, y, width, height = box
        for _ in range(np.random.randint(1, 4)):
            center = (x + np.random.randint(width), y + np.random.randint(height))
            half_width, half_height = np.random.uniform(0.1, 0.5, 2) * self.patch_size * (width, height)
            angle = np.random.uniform(0, 180)
            cv2.ellipse(mask, (center, (2 * half_width, 2 * half_height), angle), 0, -1)

    def _move_rim(self, mask: _Array) -> None:
        """Dilate or erode, within the part of the image that can change."""
        radius = round(np.random.uniform(0, self.rim_width) * float(np.sqrt(np.count_nonzero(mask))))
        change = cv2.dilate if np.random.rand() < 0.5 else cv2.erode
        if radius == 0:
            return
        x, y, width, height = cv2.boundingRect(mask)
        part = mask[max(0, y - radius) : y + height + radius, max(0, x - radius) : x + width + radius]
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        part[...] = change(part, kernel)


@TRANSFORMS.register_module()
class FlipPerson(RandomFlip):  # type: ignore[misc,unused-ignore]
    """MMPose's RandomFlip, horizontal, that takes ``mask`` and ``keypoints_visibility`` along.

    Args:
        prob: its probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__(prob=prob, direction="horizontal")

    def transform(self, results: Sample) -> Sample:
        """Return the results, flipped or not."""
        results = super().transform(results)
        if not results["flip"]:
            return results
        flipped = dict(results)
        if results.get("mask") is not None:
            flipped["mask"] = results["mask"][:, ::-1]
        if results.get("keypoints_visibility") is not None:
            flipped["keypoints_visibility"] = results["keypoints_visibility"][..., results["flip_indices"]]
        return flipped


@TRANSFORMS.register_module()
class MaskConditioning(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Darken the pixels outside the person (BMP); put it before TopdownAffine.

    Reads ``img`` uint8 (H, W, 3) and ``mask`` bool or uint8 (H, W), replaces ``img``. Where there is no mask, or an
    empty one, the image stays as it is.

    Args:
        alpha: strength in [0, 1]; pixels outside the mask are multiplied by 1 - alpha.
    """

    def __init__(self, alpha: float = 0.25) -> None:
        super().__init__()
        self.alpha = alpha
        values = np.arange(256, dtype=np.uint8)
        self._darker = cv2.addWeighted(values, 1 - alpha, np.zeros_like(values), alpha, 0)

    def transform(self, results: Sample) -> Sample:
        """Return the results with the image conditioned; the array that came in is not written to."""
        mask = results.get("mask")
        if mask is None or not mask.any():
            return results
        image = results["img"]
        # Three times as fast as the weighted sum of the image and its masked copy, and equal to it.
        darkened = cv2.LUT(image, self._darker)
        return {**results, "img": cv2.copyTo(image, np.ascontiguousarray(mask).view(np.uint8), darkened)}


def _decode(segmentation: Segmentation, height: int, width: int) -> _Array:
    """Return bool (H, W); ``UserError`` for a segmentation that is none of such an image."""
    try:
        checked = checked_segmentation(segmentation, height, width)
    except ValueError as error:
        raise UserError(f"an annotation of an image of {width}x{height} pixels: {error}") from None
    mask: _Array = to_mask(checked, height, width).numpy()
    return mask
