"""How the release prompts SAM; it exists for comparison only. Knows no network.

BBoxMaskPose 2.0.0 differs here from what its papers describe. Each class says how, and what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bmp.registry import PROMPTERS, SEGMENTERS
from bmp.segmenters.prompting import BoxPrompt, MaxVisibility, NegativePoints, Signal, check_fraction
from bmp.stages import ImageView, Segmenter
from bmp.structures import Detections, Image, Masks, Poses, Prompts


@PROMPTERS.register_module()
class GatedMaxVisibility(MaxVisibility):
    """The most visible keypoints of who passes two gates: the selection of BBoxMaskPose 2.0.0.

    - A person is prompted for only where some keypoint has both a score and a visibility above the gates. Everybody
      else gets no point at all, where the paper takes the best points that there are. Scores of PMPose are expected
      OKS on a scale far stricter than COCO's, so people in crowds fail.
    - Of a person who passes, keypoints below the gate of visibility are left out, whatever their score: there may be
      fewer than ``count``.

    Args:
        count: how many positive points at most.
        threshold: the gate of visibility.
        score_threshold: the gate of the score, which no longer matters once somebody passed it.
        signal: which number of the pose counts as visibility.
        negative: policy for negative points; None for none.
        box: policy for box prompts; None for none.

    Raises:
        UserError: for a count, threshold or signal that makes no sense.
    """

    def __init__(
        self,
        count: int = 3,
        threshold: float = 0.5,
        score_threshold: float = 0.5,
        signal: Signal = "visibility",
        negative: NegativePoints | None = None,
        box: BoxPrompt | None = None,
    ) -> None:
        super().__init__(count, threshold, signal, negative, box)
        self.score_threshold = check_fraction("score_threshold", score_threshold)

    def prompts(self, people: Detections, poses: Poses, others: Poses) -> Prompts:
        """Return prompts as ``MaxVisibility`` does, padding alone for those who do not pass."""
        found = super().prompts(people, poses, others)
        signal = getattr(poses, self.signal)
        passes = ((poses.scores > self.score_threshold) & (signal > self.threshold)).any(dim=1, keepdim=True)
        return replace(
            found,
            points=found.points.where(passes[:, :, None], 0.0),
            labels=found.labels.where(passes, -1),
            keypoints=found.keypoints.where(passes, -1),
        )


@SEGMENTERS.register_module()
class ExchangedColours:
    """Shows ``segmenter`` images with red and blue exchanged, as BBoxMaskPose 1 and 2.0.0 do.

    They hand images of OpenCV to SAM without conversion, although SAM and its fine-tuning on people saw RGB: skin is
    blue.

    Args:
        segmenter: any segmenter.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter

    def open(self, images: Sequence[Image]) -> list[ImageView]:
        """Prepare the images with their colours exchanged; see ``bmp.stages.Segmenter``."""
        return self.segmenter.open([Image(image.pixels.flip(-1)) for image in images])

    def inside(self, views: Sequence[ImageView]) -> tuple[Segmenter, list[ImageView]]:
        """Return the segmenter that sees the images, whose views these are."""
        return self.segmenter, list(views)

    def segment(
        self,
        views: Sequence[ImageView],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return what the segmenter makes of them; see ``bmp.stages.Segmenter``."""
        return self.segmenter.segment(views, people, poses, others)
