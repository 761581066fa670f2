"""Mask prompts: a segmenter that starts from the masks of another. It knows no network, nor where masks come from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.registry import SEGMENTERS
from bmp.segmenters.prompted import EncodedImage, PromptedSegmenter
from bmp.stages import ImageView, Segmenter
from bmp.structures import Detections, Image, Masks, Poses, Prompts


@SEGMENTERS.register_module()
class MaskPromptedSegmenter:
    """Hands the masks of ``start`` to ``segmenter`` as SAM's third kind of prompt, beside the points of the pose.

    To SAM the points correct an earlier answer, so that both the detector's mask and the pose count. A person without
    a pixel in ``start`` is segmented by points alone. A checkpoint trained with such prompts (``starts`` of
    ``PoseSAM``) has learned how far to trust them; others take them for their own answers.

    Args:
        segmenter: one that is prompted with points, ``SAM2Segmenter`` for one.
        start: any segmenter, such as ``DetectedMasks``.

    Raises:
        UserError: for a segmenter without point prompts.
    """

    def __init__(self, segmenter: PromptedSegmenter, start: Segmenter) -> None:
        if not isinstance(segmenter, PromptedSegmenter):
            raise UserError(
                "MaskPromptedSegmenter: expected a segmenter that is prompted with points, such as SAM2Segmenter, got "
                f"{type(segmenter).__name__}"
            )
        self.segmenter = segmenter
        self.start = start

    def open(self, images: Sequence[Image]) -> list[tuple[EncodedImage, ImageView]]:
        """Prepare each image for both segmenters."""
        return list(zip(self.segmenter.open(images), self.start.open(images), strict=True))

    def inside(self, views: Sequence[tuple[EncodedImage, ImageView]]) -> tuple[Segmenter, list[ImageView]]:
        """Return the segmenter that is prompted, and its part of the views."""
        return self.segmenter, [view for view, _ in views]

    @torch.no_grad()
    def segment(
        self,
        views: Sequence[tuple[EncodedImage, ImageView]],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return masks row by row for ``people``; the scores are ``segmenter``'s."""
        encoded = [view for view, _ in views]
        starts = self.start.segment([view for _, view in views], people, poses, others)
        choose = self.segmenter.prompter.prompts
        prompts = [choose(*image) for image in zip(people, poses, others, strict=True)]
        begun = [masks.bits.flatten(1).any(dim=1) for masks in starts]
        previous = [
            self.segmenter.mask_prompts(view, masks.bits[rows])
            for view, masks, rows in zip(encoded, starts, begun, strict=True)
        ]
        # A network has one answer to no mask and another to an empty one, so the two are sent to it separately.
        corrected = self.segmenter.logits(encoded, _rows(prompts, begun), previous)
        anew = self.segmenter.logits(encoded, _rows(prompts, [~rows for rows in begun]))
        answers = [_merge(*image) for image in zip(begun, corrected, anew, strict=True)]
        return [
            Masks(self.segmenter.bits(view, logits), scores, asked.to(logits.device))
            for view, asked, (logits, scores) in zip(encoded, prompts, answers, strict=True)
        ]


def _rows(prompts: Sequence[Prompts], rows: Sequence[Tensor]) -> list[Prompts]:
    return [asked[own.to(asked.device)] for asked, own in zip(prompts, rows, strict=True)]


def _merge(begun: Tensor, corrected: tuple[Tensor, Tensor], anew: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Put logits and scores of those who were begun with and of the others back into one order."""
    order = torch.cat([begun.nonzero()[:, 0], (~begun).nonzero()[:, 0]]).argsort().to(corrected[0].device)
    logits, scores = (torch.cat(parts)[order] for parts in zip(corrected, anew, strict=True))
    return logits, scores
