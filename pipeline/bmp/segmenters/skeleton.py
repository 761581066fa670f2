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
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.registry import SEGMENTERS
from bmp.segmenters.detected import DetectedMasks
from bmp.stages import ImageView, Segmenter
from bmp.structures import Detections, Image, Masks, Poses

# Thickness of what lies around bones and joints, clothes included, as a share of a grown person's height.
_LIMBS = (("shoulder", "elbow", 0.11), ("elbow", "wrist", 0.10), ("hip", "knee", 0.15), ("knee", "ankle", 0.12))
_ENDS = (("wrist", 0.12), ("ankle", 0.17))
_TRUNK, _NECK, _HEAD = 0.14, 0.10, 0.21
_JOINTS = COCO_KEYPOINTS.names[5:]
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
        keypoints: the meaning of the poses' keypoints.

    Raises:
        UserError: for values out of range, and for keypoints without shoulders, hips, arms and legs.
    """

    def __init__(
        self,
        segmenter: Segmenter | None = None,
        width: float = 1.0,
        least: float = 0.35,
        keypoints: KeypointSet = COCO_KEYPOINTS,
    ) -> None:
        if width <= 0 or not 0 <= least <= 1:
            raise UserError(
                f"SkeletonMasks: expected width above 0 and least in [0, 1], got {width} and {least}; "
                "the defaults are 1 and 0.35"
            )
        self.width = width
        self.least = least
        self.segmenter = DetectedMasks() if segmenter is None else segmenter
        self.keypoints = keypoints
        if not has_joints(self.keypoints):
            lacking = [name for name in _JOINTS if name not in self.keypoints.meanings]
            raise UserError(
                f"SkeletonMasks: {self.keypoints} have no {', '.join(lacking):.100}; use a pose estimator that has, or "
                "leave SkeletonMasks out"
            )

    def open(self, images: Sequence[Image]) -> list[ImageView]:
        """Prepare the images for the segmenter."""
        return self.segmenter.open(images)

    def inside(self, views: Sequence[ImageView]) -> tuple[Segmenter, list[ImageView]]:
        """Return the segmenter that makes the masks, whose views these are."""
        return self.segmenter, list(views)

    def segment(
        self,
        views: Sequence[ImageView],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return masks row by row for ``people``; raises what the segmenter raises.

        Raises ``ValueError`` for poses that do not start with the keypoints it is for.
        """
        whole = self.segmenter.segment(views, people, poses, others)
        return [self._cut(masks, own) for masks, own in zip(whole, poses, strict=True)]

    def _cut(self, masks: Masks, poses: Poses) -> Masks:
        if poses.keypoints.shape[1] < len(self.keypoints):
            raise ValueError(
                f"SkeletonMasks: expected poses with {self.keypoints} first, got {poses.keypoints.shape[1]}; "
                "give SkeletonMasks the pose estimator's keypoint set"
            )
        if not len(masks):
            return masks
        height, width = masks.bits.shape[1:]
        points = poses.keypoints.cpu().numpy()
        bodies = [around_skeleton(each, height, width, self.width, self.keypoints) for each in points]
        near = masks.bits & torch.from_numpy(np.stack(bodies)).to(masks.device)
        enough = near.sum((1, 2)) >= self.least * masks.bits.sum((1, 2))
        return replace(masks, bits=torch.where(enough[:, None, None], near, masks.bits))


def has_joints(keypoints: KeypointSet) -> bool:
    """Tell whether ``around_skeleton`` can draw these: shoulders, hips, elbows, wrists, knees and ankles are there."""
    return all(name in keypoints.meanings for name in _JOINTS)


def around_skeleton(
    keypoints: NDArray[Any],
    height: int,
    width: int,
    thickness: float = 1.0,
    meaning: KeypointSet = COCO_KEYPOINTS,
) -> NDArray[np.bool_]:
    """Draw the neighbourhood of a skeleton as a mask.

    Args:
        keypoints: (K, 2) x and y in pixels, those of ``meaning`` first.
        height: of the image, in pixels.
        width: of the image, in pixels.
        thickness: factor of the thickness of all limbs.
        meaning: what the keypoints mean; shoulders, hips, elbows, wrists, knees and ankles have to be among them.

    Returns:
        bool (height, width). The thickness follows from the length of the torso or the reach of the whole skeleton,
        whichever makes the larger person.
    """
    points = np.nan_to_num(keypoints[: len(meaning)]).clip(-1e4, 1e4)
    numbers = {name: number for number, name in enumerate(meaning.meanings)}
    # Feet, hands and the outlines of faces say nothing that joints do not.
    faces = [name for name in COCO_KEYPOINTS.names[:5] if name in numbers]
    heads = faces or [name for name in numbers if name.endswith(("head", "head_top"))]
    place = {name: points[numbers[name]] for name in (*heads, *_JOINTS)}
    corners = np.stack([place["left_shoulder"], place["right_shoulder"], place["right_hip"], place["left_hip"]])
    shoulders, hips = corners[:2].mean(0), corners[2:].mean(0)
    head = np.stack([place[name] for name in heads]).mean(0) if heads else shoulders
    points = np.stack(list(place.values()))
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
