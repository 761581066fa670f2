"""What the release shows its pose network of a mask; it exists for comparison only. Knows no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from bmp.registry import POSES
from bmp.stages import PoseEstimator
from bmp.structures import Detections, Image, Poses


@POSES.register_module()
class FilledContours:
    """Conditions ``pose`` on the outer contours of masks, filled, as BBoxMaskPose 1 and 2.0.0 do.

    The release hands masks on as polygons, and a polygon has no holes: who stands behind the crook of somebody's arm
    becomes part of the person in front. Contours of three points or fewer vanish, so that a thin mask is no mask at
    all; the release stops with an error then, here ``pose`` treats that person as one without a mask.

    Args:
        pose: any estimator that is conditioned on masks.
    """

    def __init__(self, pose: PoseEstimator) -> None:
        self.pose = pose
        self.keypoints = pose.keypoints

    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        """Estimate a pose for each person; see ``bmp.stages.PoseEstimator``."""
        return self.pose.estimate(images, [_filled(each) for each in people])


def _filled(people: Detections) -> Detections:
    if people.masks is None:
        return people
    masks = [_outline_filled(mask) for mask in people.masks.cpu()]
    return replace(people, masks=torch.stack(masks).to(people.masks.device) if masks else people.masks)


def _outline_filled(mask: Tensor) -> Tensor:
    """Fill what the outer contours of a mask, bool (H, W), enclose."""
    contours, _ = cv2.findContours(mask.byte().numpy(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(drawn, [contour for contour in contours if len(contour) > 3], -1, 1, cv2.FILLED)
    return torch.from_numpy(drawn).bool()
