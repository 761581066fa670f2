"""The neighbourhood of a skeleton as a mask; no network, and no knowledge of what it is used for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bmp.label_sets import COCO_KEYPOINTS, KeypointSet

# Thickness of what lies around bones and joints, clothes included, as a share of a grown person's height.
_LIMBS = (("shoulder", "elbow", 0.11), ("elbow", "wrist", 0.10), ("hip", "knee", 0.15), ("knee", "ankle", 0.12))
_ENDS = (("wrist", 0.12), ("ankle", 0.17))
_TRUNK, _NECK, _HEAD = 0.14, 0.10, 0.21
JOINTS = COCO_KEYPOINTS.names[5:]
"""What a neighbourhood is drawn around, and what therefore has to be among the keypoints."""

_TORSO = 0.3  # from shoulders to hips, as a share of the height
_REACH = 0.9  # share of an upright person's height that the farthest keypoints span


def has_joints(keypoints: KeypointSet) -> bool:
    """Tell whether ``around_skeleton`` can draw these: shoulders, hips, elbows, wrists, knees and ankles are there."""
    return all(name in keypoints.meanings for name in JOINTS)


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
        height: of the picture or the window in which the keypoints are given, in pixels.
        width: likewise.
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
    place = {name: points[numbers[name]] for name in (*heads, *JOINTS)}
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
