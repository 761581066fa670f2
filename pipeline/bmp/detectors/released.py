"""How the release reads its detector; it exists for comparison only. Knows mmdet's models through the adapter."""

from __future__ import annotations

from torch import Tensor

from bmp.detectors.mmdet import MMDetDetector
from bmp.registry import DETECTORS


@DETECTORS.register_module()
class ReleasedMMDetDetector(MMDetDetector):
    """``MMDetDetector`` as BBoxMaskPose 1 and 2.0.0 read it. Takes the same arguments.

    - The model's limit of boxes, 40 in the release's config, counts things of all classes: in a street full of cars
      people are cut off.
    - The suppression counts pixels: a box from 3 to 6 is 4 wide. Small boxes overlap more than they do, and of small
      people beside each other more are dropped.
    """

    _people_only = False

    def _without_overlaps(self, boxes: Tensor, scores: Tensor) -> Tensor:
        longer = boxes + boxes.new_tensor((0, 0, 1, 1))
        return super()._without_overlaps(longer, scores)
