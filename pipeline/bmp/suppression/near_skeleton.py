"""What later rounds do not see of a known person: what is near the skeleton. Knows no network and no image."""

from __future__ import annotations

import numpy as np
import torch

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.ops.skeletons import JOINTS, around_skeleton, has_joints
from bmp.registry import PAINT_RULES
from bmp.structures import Instances
from bmp.structures.mask_windows import MaskWindows


@PAINT_RULES.register_module()
class NearSkeleton:
    """Paints out of each mask only what is in the neighbourhood of the person's skeleton.

    Where people overlap, detectors and small segmenters draw two of them as one. Painting such a mask out hides the
    second person from the next round for good; the skeleton, which belongs to one person, tells which pixels are
    theirs. Where that would leave less than ``least`` of a mask, all of it is painted out: then the pose is likelier
    wrong than the mask. The masks themselves stay as they are.

    Args:
        width: factor of the thickness of all limbs.
        least: share of a mask in [0, 1] that has to be near the skeleton.
        keypoints: the meaning of the poses' keypoints.

    Raises:
        UserError: for values out of range, and for keypoints without shoulders, hips, arms and legs.
    """

    def __init__(self, width: float = 1.0, least: float = 0.35, keypoints: KeypointSet = COCO_KEYPOINTS) -> None:
        if width <= 0 or not 0 <= least <= 1:
            raise UserError(
                f"NearSkeleton: expected width above 0 and least in [0, 1], got {width} and {least}; "
                "the defaults are 1 and 0.35"
            )
        if not has_joints(keypoints):
            lacking = [name for name in JOINTS if name not in keypoints.meanings]
            raise UserError(
                f"NearSkeleton: {keypoints} have no {', '.join(lacking):.100}; use a pose estimator that has, or "
                "leave NearSkeleton out"
            )
        self.width = width
        self.least = least
        self.keypoints = keypoints

    def painted(self, people: Instances) -> MaskWindows:
        """Return what is painted out of each person; see ``bmp.stages.PaintRule``.

        Raises ``ValueError`` for poses that do not start with the keypoints it is for.
        """
        points, masks = people.poses.keypoints.cpu().numpy(), people.masks.windows
        if points.shape[1] < len(self.keypoints):
            raise ValueError(
                f"NearSkeleton: expected poses with {self.keypoints} first, got {points.shape[1]}; "
                "give NearSkeleton the pose estimator's keypoint set"
            )
        patches = []
        for pose, corner, mask in zip(points, masks.corners, masks.patches, strict=True):
            height, width = mask.shape
            body = around_skeleton(pose - np.array(corner, np.float32), height, width, self.width, self.keypoints)
            near = mask & torch.from_numpy(body).to(mask.device)
            enough = near.sum() >= self.least * mask.sum()
            patches.append(torch.where(enough, near, mask))
        return masks.replaced(patches)
