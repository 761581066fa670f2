"""People found in the features that SAM's image encoder has of the whole image; known people are taken out of them.

It does not know how the encoder works, nor who else asks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.config import ConfigSection
from bmp.errors import UserError, choices
from bmp.models.compute import autocast, dtype_of
from bmp.models.people_head import PeopleHead, PeopleOutput, people_head
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.ops.boxes import clip
from bmp.ops.masks import enlarged, paint_out, to_boxes, union
from bmp.registry import DETECTORS
from bmp.structures import Detections, Image
from bmp.structures.mask_windows import MaskWindows

Known = Literal["fill", "suppress", "repaint"]
"""How people who are known already are taken out, see ``SAMDetector``."""

_WAYS = ("fill", "suppress", "repaint")
_STEP = 32  # pixels of a picture's side; the encoder's position embeddings are repeated in its windows
_CANDIDATES = 200  # cells of an image, the best ones, that are compared with each other


class SquareEncoder(Protocol):
    """What this detector needs of an encoder; see ``bmp.models.sam2_encoder.SAM2Encoder``."""

    side: int

    def levels(self, images: Sequence[Image]) -> list[tuple[Tensor, ...]]:
        """Return the features of each image."""
        ...

    def levels_at(self, images: Sequence[Image], side: int) -> list[tuple[Tensor, ...]]:
        """Return the features of each image in a square of another size."""
        ...


class EncodedDetector:
    """The detector of an existing network and encoder; arguments as for ``SAMDetector``.

    Attributes:
        encoder: has the features of the images.
    """

    def __init__(
        self,
        network: PeopleHead,
        encoder: SquareEncoder,
        *,
        known: Known = "fill",
        score_threshold: float = 0.3,
        nms_iou: float = 0.3,
        painted_side: int | None = None,
        batch_size: int = 4,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if known not in _WAYS:
            raise UserError(f"known: there is no way {known!r}; {choices(str(known), _WAYS)}")
        for option, value in (("score_threshold", score_threshold), ("nms_iou", nms_iou)):
            if not 0 <= value <= 1:
                raise UserError(f"{option}: expected a number in [0, 1], got {value}; 0.3 is usual")
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}; choose how many images fit in memory")
        if painted_side is not None and (painted_side < _STEP or painted_side % _STEP):
            raise UserError(f"painted_side: expected a multiple of {_STEP} pixels, got {painted_side}")
        self.network = network
        self.encoder = encoder
        self._known = known
        self._score_threshold = score_threshold
        self._nms_iou = nms_iou
        self._painted_side = painted_side or encoder.side // 2
        self._batch_size = batch_size
        self._dtype = dtype

    @property
    def _device(self) -> torch.device:
        return self.network.encoder_digest.device

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Return the people of each image, best first; boxes lie within the image. See ``bmp.stages.Detector``."""
        return self._detect(images, [MaskWindows.empty(image.height, image.width) for image in images])

    def detect_further(self, images: Sequence[Image], known: Sequence[MaskWindows]) -> list[Detections]:
        """Return the people of each image but for those who are known; see ``bmp.stages.FeatureDetector``."""
        return self._detect(images, known)

    def _detect(self, images: Sequence[Image], known: Sequence[MaskWindows]) -> list[Detections]:
        people: list[Detections] = []
        with torch.inference_mode():
            for start in range(0, len(images), self._batch_size):
                rows = slice(start, start + self._batch_size)
                people += self._batch(images[rows], known[rows])
        return people

    def _batch(self, images: Sequence[Image], known: Sequence[MaskWindows]) -> list[Detections]:
        anybody = any(len(each) for each in known)
        again = anybody and self._known == "repaint"
        if again:
            painted = [paint_out(*one) for one in zip(images, known, strict=True)]
            rows = self.encoder.levels_at(painted, self._painted_side)
        else:
            rows = self.encoder.levels(images)
        levels = [torch.cat(level).to(self._device) for level in zip(*rows, strict=True)]
        if again:
            # The head was trained on maps of the size that they have when the picture is not smaller.
            sides = [self.encoder.side // stride for stride in (4, 8, 16)]
            levels = [
                F.interpolate(level, (side, side), mode="bilinear", align_corners=False)
                for level, side in zip(levels, sides, strict=True)
            ]
        size = (levels[0].shape[-2], levels[0].shape[-1])
        filled = torch.stack([_share(each, size) for each in known]).to(self._device) if anybody else None
        with autocast(self._device, self._dtype):
            found = self.network(levels, filled if self._known == "fill" else None)
        points = self.network.points(*levels[1].shape[-2:]).to(self._device)
        explained = filled if self._known == "suppress" else None
        return [
            self._people(image, found, row, points, None if explained is None else explained[row, 0])
            for row, image in enumerate(images)
        ]

    def _people(
        self, image: Image, found: PeopleOutput, row: int, points: Tensor, explained: Tensor | None
    ) -> Detections:
        from torchvision.ops import nms  # slow to import

        size = image.height, image.width
        scores = found.scores[row].sigmoid()
        likely = (scores > self._score_threshold).nonzero()[:, 0]
        likely = likely[scores[likely].argsort(descending=True, stable=True)[:_CANDIDATES]]
        scores = scores[likely]
        boxes = clip(found.boxes[row, likely] * scores.new_tensor((image.width, image.height) * 2), *size)
        rows = torch.arange(len(likely), device=scores.device)
        if explained is not None and len(likely):
            # Whose mask is that of somebody known is not somebody else.
            drawn = self.network.draw(found.maps[row], found.kernels[row, likely], points[likely]) > 0
            covered = (drawn * explained).flatten(1).sum(1) / drawn.flatten(1).sum(1).clamp_min(1)
            scores = scores * (1 - covered)
            rows = (scores > self._score_threshold).nonzero()[:, 0]
        rows = rows[(boxes[rows, 2:] > boxes[rows, :2]).all(1)]
        rows = rows[nms(boxes[rows], scores[rows], self._nms_iou)]
        kept = likely[rows]
        logits = self.network.draw(found.maps[row], found.kernels[row, kept], points[kept])
        masks = enlarged(logits, *size) if len(rows) else MaskWindows.empty(*size, device=logits.device)
        return Detections(_between(boxes[rows], to_boxes(masks)), scores[rows], masks)


@DETECTORS.register_module()
class SAMDetector(EncodedDetector):
    """Finds people, with masks, in the features of SAM 2's image encoder, which the segmenter has anyway.

    Give it the encoder that the segmenter has, as a shared part of the pipeline: then a round of the loop costs this
    small head and no network of its own.

    Args:
        encoder: the encoder that the weights were trained with; another one is refused.
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``, or "random" for weights made up from a
            fixed seed.
        model: a config with the arguments of ``bmp.models.people_head.PeopleHead`` as ``model``: a path, the name of
            one that comes with the package, or a dict of these arguments.
        known: how people of earlier rounds are taken out. "fill": their masks' places in the features are replaced by
            a fill that was learned. "suppress": people whose own masks are covered by theirs lose as much of their
            score. "repaint": the picture is painted black there and encoded once more, at ``painted_side``.
        score_threshold: people with a score above it are kept, in [0, 1].
        nms_iou: of two boxes that overlap more than this IoU, the one with the lower score goes; in [0, 1].
        painted_side: for "repaint", pixels of the square, a multiple of 32; half of the encoder's if None.
        device: torch device of the network.
        dtype: "float32", or "bfloat16" for autocast.
        batch_size: images at a time.

    Raises:
        UserError: for weights that do not fit the model or were trained with another encoder, and values out of range.
    """

    def __init__(
        self,
        encoder: SAM2Encoder,
        checkpoint: str,
        model: str | Path | ConfigSection = "models/people_head_nano.py",
        *,
        known: Known = "fill",
        score_threshold: float = 0.3,
        nms_iou: float = 0.3,
        painted_side: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 4,
    ) -> None:
        network = people_head(model)
        if checkpoint != RANDOM:
            file = resolve(checkpoint)
            load_strictly(network, load_state_dict(file), file=file)
            network.expect(encoder, checkpoint)
        network = network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        super().__init__(
            network,
            encoder,
            known=known,
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            painted_side=painted_side,
            batch_size=batch_size,
            dtype=dtype_of(dtype),
        )


def _between(boxes: Tensor, drawn: Tensor) -> Tensor:
    """Return the mean of boxes (N, 4) and those around the masks that were drawn, where there is a pixel of one.

    The two err independently: boxes of the head are blunt, those of masks suffer from a speck.
    """
    there = (drawn[:, 2:] > drawn[:, :2]).all(1, keepdim=True)
    return torch.where(there, (boxes + drawn) / 2, boxes)


def _share(known: MaskWindows, size: tuple[int, int]) -> Tensor:
    """Return how much of each cell of a map of the whole image is known people's: float32 (1, h, w) in [0, 1]."""
    return F.adaptive_avg_pool2d(union(known)[None].float(), size)
