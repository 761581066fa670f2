"""Policies that turn the points of people who are followed through a video into prompts. Knows no tracker."""

from __future__ import annotations

from dataclasses import replace

import torch

from bmp.errors import UserError
from bmp.registry import TRACK_PROMPTERS
from bmp.stages import ImageView, Segmenter
from bmp.structures import Detections, Masks, Poses, TrackedPeople

_SUPPOSED = 0.1  # factor of the visibility of joints that are not seen: they count where there is nothing better


@TRACK_PROMPTERS.register_module()
class TrackedKeypoints:
    """Asks the segmenter as on a photo, with the joints that are seen best, and with the mask of the frame before.

    For checkpoints that are prompted with keypoints, and for any segmenter that is no point-prompted one: it gets
    poses, in which only the ``count`` joints of highest visibility among those that are followed can be seen. Where
    fewer are, joints that moved with the others stand in. The mask of the frame before, moved, is handed over as the
    detector's, where ``MaskPromptedSegmenter`` with ``DetectedMasks`` finds it.

    Args:
        count: joints of each person that are handed over as visible.

    Raises:
        UserError: for a count below 1.
    """

    def __init__(self, count: int = 3) -> None:
        if count < 1:
            raise UserError(f"TrackedKeypoints: count: expected at least 1, got {count}")
        self.count = count

    def prompted_masks(self, segmenter: Segmenter, view: ImageView, people: TrackedPeople) -> Masks:
        """Return masks row by row; see ``TrackPrompter``."""
        poses, detections = people.instances.poses, people.instances.detections
        seen = torch.zeros_like(poses.visibility, dtype=torch.bool)
        rows, columns = (people.seen & (people.kinds >= 0)).nonzero(as_tuple=True)
        seen[rows, people.kinds[rows, columns]] = True
        visibility = torch.where(seen, poses.visibility, _SUPPOSED * poses.visibility)
        best = visibility.argsort(dim=1, descending=True, stable=True)[:, : self.count]
        chosen = torch.zeros_like(visibility).scatter(1, best, visibility.gather(1, best))
        given = Detections(detections.boxes, detections.scores, people.instances.masks.bits)
        nobody = Poses.empty(poses.keypoints.shape[1], poses.device)
        return segmenter.segment([view], [given], [replace(poses, visibility=chosen)], [nobody])[0]
