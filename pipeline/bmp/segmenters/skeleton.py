"""Masks, kept to where the pose says that the person is; no network, and no knowledge of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.registry import SEGMENTERS
from bmp.segmenters.detected import DetectedMasks
from bmp.stages import ImageView, Segmenter
from bmp.structures import Detections, Image, Masks, Poses

_INDEX = {name: number for number, name in enumerate(COCO_KEYPOINTS.names)}
# Thickness of what lies around bones and joints, clothes included, as a share of a grown person's height.
_LIMBS = (("shoulder", "elbow", 0.11), ("elbow", "wrist", 0.10), ("hip", "knee", 0.15), ("knee", "ankle", 0.12))
_ENDS = (("wrist", 0.12), ("ankle", 0.17))
_TRUNK, _NECK, _HEAD = 0.14, 0.10, 0.21
_TORSO = 0.3  # from shoulders to hips, as a share of the height
_REACH = 0.9  # share of an upright person's height that the farthest keypoints span


@SEGMENTERS.register_module()
class SkeletonMasks:
    """Cuts masks down to the neighbourhood of the person's skeleton.

    Where people overlap, detectors and small segmenters draw two of them as one. Painting such a mask out hides the
    second person from the next round for good; the skeleton, which belongs to one person, tells which pixels to keep.
    Nothing is added to a mask. A cut that would leave less than ``least`` of it is not made: then the pose is likelier
    wrong than the mask. Scores stay as they were.

    Args:
        segmenter: makes the masks; None for the detector's own, ``DetectedMasks``.
        width: factor of the thickness of all limbs.
        least: share of a mask in [0, 1] that has to remain.

    Raises:
        UserError: for values out of range.
    """

    def __init__(self, segmenter: Segmenter | None = None, width: float = 1.0, least: float = 0.35) -> None:
        if width <= 0 or not 0 <= least <= 1:
            raise UserError(
                f"SkeletonMasks: expected width above 0 and least in [0, 1], got {width} and {least}; "
                "the defaults are 1 and 0.35"
            )
        self.width = width
        self.least = least
        self.segmenter = DetectedMasks() if segmenter is None else segmenter

    def open(self, images: Sequence[Image]) -> list[ImageView]:
        """Prepare the images for the segmenter."""
        return self.segmenter.open(images)

    def segment(
        self,
        views: Sequence[ImageView],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return masks row by row for ``people``; raises what the segmenter raises.

        Raises ``ValueError`` for poses that do not start with COCO's 17 keypoints.
        """
        whole = self.segmenter.segment(views, people, poses, others)
        return [self._cut(masks, own) for masks, own in zip(whole, poses, strict=True)]

    def _cut(self, masks: Masks, poses: Poses) -> Masks:
        if poses.keypoints.shape[1] < len(COCO_KEYPOINTS):
            raise ValueError(
                f"SkeletonMasks: expected poses with COCO's 17 keypoints first, got {poses.keypoints.shape[1]}; "
                "use a pose estimator with COCO's keypoints"
            )
        if not len(masks):
            return masks
        height, width = masks.bits.shape[1:]
        bodies = [around_skeleton(points, height, width, self.width) for points in poses.keypoints.cpu().numpy()]
        near = masks.bits & torch.from_numpy(np.stack(bodies)).to(masks.device)
        enough = near.sum((1, 2)) >= self.least * masks.bits.sum((1, 2))
        return replace(masks, bits=torch.where(enough[:, None, None], near, masks.bits))


def around_skeleton(keypoints: NDArray[Any], height: int, width: int, thickness: float = 1.0) -> NDArray[np.bool_]:
    """Draw the neighbourhood of a skeleton as a mask.

    Args:
        keypoints: (K, 2) x and y in pixels, COCO's 17 first.
        height: of the image, in pixels.
        width: of the image, in pixels.
        thickness: factor of the thickness of all limbs.

    Returns:
        bool (height, width). The thickness follows from the length of the torso or the reach of the whole skeleton,
        whichever makes the larger person.
    """
    points = np.nan_to_num(keypoints[: len(COCO_KEYPOINTS)]).clip(-1e4, 1e4)
    place = {name: points[number] for name, number in _INDEX.items()}
    corners = np.stack([place["left_shoulder"], place["right_shoulder"], place["right_hip"], place["left_hip"]])
    shoulders, hips, head = corners[:2].mean(0), corners[2:].mean(0), points[:5].mean(0)
    size = thickness * max(np.linalg.norm(shoulders - hips) / _TORSO, np.ptp(points, axis=0).max() * _REACH)
    drawn = np.zeros((height, width), np.uint8)

    def line(start: NDArray[Any], end: NDArray[Any], share: float) -> None:
        cv2.line(drawn, _pixel(start), _pixel(end), 1, min(max(1, round(share * size)), 32767))

    for side in ("left", "right"):
        for start, end, share in _LIMBS:
            line(place[f"{side}_{start}"], place[f"{side}_{end}"], share)
        for joint, share in _ENDS:
            line(place[f"{side}_{joint}"], place[f"{side}_{joint}"], share)
    cv2.fillConvexPoly(drawn, cv2.convexHull(corners.round().astype(np.int32)), 1)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        line(start, end, _TRUNK)
    line(shoulders, hips, _TRUNK)
    line(head, shoulders, _NECK)
    line(head, head, _HEAD)
    return drawn.astype(bool)


def _pixel(point: NDArray[Any]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
