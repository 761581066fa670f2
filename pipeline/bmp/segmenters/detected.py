"""The detector's own masks in place of a segmenter's: a baseline without any network. Knows no prompts."""

from __future__ import annotations

from collections.abc import Sequence

from bmp.errors import UserError
from bmp.registry import SEGMENTERS
from bmp.structures import Detections, Image, Masks, Poses


@SEGMENTERS.register_module()
class DetectedMasks:
    """Gives each person the mask that came with the detection; the poses do not matter.

    For telling what a segmenter adds to the detector, and for pipelines that have none. Detectors do not predict the
    IoU of their masks; the detection score stands in for it, so that of two overlapping masks the surer detection
    keeps the pixels.
    """

    def open(self, images: Sequence[Image]) -> list[Image]:
        """Return the images themselves."""
        return list(images)

    def segment(
        self,
        views: Sequence[Image],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return masks row by row for ``people``; raises ``UserError`` where their detections have none."""
        return [self._segment(*one) for one in zip(views, people, strict=True)]

    def _segment(self, image: Image, people: Detections) -> Masks:
        if not len(people):
            return Masks.empty(image.height, image.width, people.device)
        windows = people.windows
        if windows is None:
            raise UserError(
                "DetectedMasks: expected people with masks, got boxes only; choose a detector that makes masks, or "
                "another segmenter"
            )
        return Masks(windows, people.scores)
