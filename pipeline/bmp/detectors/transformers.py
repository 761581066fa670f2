"""Detectors of Hugging Face's transformers: DETR-like ones, with or without masks; knows no other stage and no loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bmp.config import ConfigSection
from bmp.errors import UserError
from bmp.models.compute import autocast, dtype_of, prepare, to_float32
from bmp.models.transformers import IMAGENET_MEAN, IMAGENET_STD, Portable, build_transformers
from bmp.ops.boxes import clip
from bmp.ops.masks import enlarged, to_boxes
from bmp.ops.resize import squeezed
from bmp.registry import DETECTORS
from bmp.structures import Detections, Image

_BARE_COLOURS = ("RTDetr", "DFine", "Deimv2")  # networks that see colours in [0, 1] as they are
_SOFTMAX = ("DetrFor", "YolosFor", "TableTransformerFor")  # whose last class means that there is nothing
ARCHITECTURES = (
    *(f"{name}ForObjectDetection" for name in ("RTDetrV2", "RTDetr", "DFine", "Deimv2", "RfDetr", "Detr")),
    *(f"{name}ForObjectDetection" for name in ("ConditionalDetr", "DeformableDetr", "Yolos")),
    "RfDetrForInstanceSegmentation",
    "Mask2FormerForUniversalSegmentation",
    "EomtForUniversalSegmentation",
)


@DETECTORS.register_module()
class TransformersDetector(Portable):
    """Finds people with a DETR-like network of transformers; those for instance segmentation give masks, too.

    Every query has a score for being a person, whatever else it may be, so that no other class crowds people out.
    Images are squeezed to a square, as these networks were trained.

    Args:
        checkpoint, config: see ``bmp.models.transformers.build_transformers``.
        side: of the square, in pixels; None is the config's, else 640.
        device: torch device of the network and of the results.
        score_threshold: people with a score above it are kept, in [0, 1].
        nms_iou: of two boxes that overlap more than this IoU, the one with the lower score goes; in [0, 1].
        label: class that means person, by name or index.
        batch_size: images at a time.
        dtype: "float32", or "bfloat16" for autocast.
        compile: see ``bmp.models.compute.prepare``.

    Raises:
        UserError: for a network of another kind, weights that do not fit it, and values out of range.
        ImportError: where transformers is not installed.
    """

    def __init__(
        self,
        checkpoint: str,
        config: str | ConfigSection | None = None,
        *,
        side: int | None = None,
        device: str = "cpu",
        score_threshold: float = 0.3,
        nms_iou: float = 0.7,
        label: str | int = "person",
        batch_size: int = 4,
        dtype: str = "float32",
        compile: bool = False,
    ) -> None:
        for option, value in (("score_threshold", score_threshold), ("nms_iou", nms_iou)):
            if not 0 <= value <= 1:
                raise UserError(f"{option}: expected a number in [0, 1], got {value}; 0.3 and 0.7 are usual")
        if batch_size < 1 or (side is not None and side < 1):
            raise UserError(f"batch_size, side: expected at least 1, got {batch_size} and {side}")
        self._dtype = dtype_of(dtype)
        network = build_transformers("TransformersDetector", checkpoint, config, ARCHITECTURES)
        name = type(network).__name__
        self._label = _label(label, network.config.id2label)
        self._bare = name.startswith(_BARE_COLOURS)
        self._softmax = name.startswith(_SOFTMAX) or "UniversalSegmentation" in name
        sizes = (getattr(each, "image_size", None) for each in _configs(network.config))
        self._side: int = side or next((int(size) for size in sizes if isinstance(size, int)), 640)
        self._device = torch.device(device)
        self._network = network.to(self._device)
        prepare(self._network, channels_last=False, compiled=compile)
        self._score_threshold = score_threshold
        self._nms_iou = nms_iou
        self._batch_size = batch_size

    @torch.no_grad()
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Return the people of each image, best first; boxes lie within the image. See ``bmp.stages.Detector``."""
        people: list[Detections] = []
        for start in range(0, len(images), self._batch_size):
            people += self._detect(images[start : start + self._batch_size])
        return people

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        pixels = torch.cat([self._input(image) for image in images])
        with autocast(self._device, self._dtype):
            output = self._network(pixel_values=pixels)
        found = {key: to_float32(output[key]) for key in output if isinstance(output[key], Tensor)}
        logits = found["class_queries_logits"] if "class_queries_logits" in found else found["logits"]
        scores = (logits.softmax(-1) if self._softmax else logits.sigmoid())[..., self._label]
        masks = found.get("masks_queries_logits", found.get("pred_masks"))
        boxes = found.get("pred_boxes")
        return [
            self._people(
                image, scores[row], None if boxes is None else boxes[row], None if masks is None else masks[row]
            )
            for row, image in enumerate(images)
        ]

    def _input(self, image: Image) -> Tensor:
        square = squeezed(image.pixels.to(self._device), self._side)[None]
        if self._bare:
            return square
        mean, std = (square.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return square.sub_(mean).div_(std)

    def _people(self, image: Image, scores: Tensor, boxes: Tensor | None, logits: Tensor | None) -> Detections:
        size = (image.height, image.width)
        likely = (scores > self._score_threshold).nonzero()[:, 0]
        scores = scores[likely]
        if boxes is None:
            # These networks tell what a query is and where, apart: a mask is as sure as its pixels are on average.
            assert logits is not None
            shares = logits[likely].sigmoid()
            inside = shares > 0.5
            scores = scores * (shares * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
            few = logits[likely]
            factors = few.new_tensor((size[1] / few.shape[2], size[0] / few.shape[1]) * 2)
            corners = to_boxes(few > 0) * factors
        else:
            centres, halves = boxes[likely, :2], boxes[likely, 2:] / 2
            corners = torch.cat((centres - halves, centres + halves), 1) * boxes.new_tensor((size[1], size[0]) * 2)
        corners = clip(corners, *size)
        good = ((scores > self._score_threshold) & (corners[:, 2:] > corners[:, :2]).all(1)).nonzero()[:, 0]
        from torchvision.ops import nms  # slow to import

        rows = good[nms(corners[good], scores[good], self._nms_iou)]
        masks = None if logits is None else enlarged(logits[likely[rows]], *size)
        return Detections(corners[rows], scores[rows].clamp(0, 1), masks)


def _configs(config: Any) -> list[Any]:
    return [each for each in (config, getattr(config, "backbone_config", None)) if each is not None]


def _label(label: str | int, names: dict[int, str]) -> int:
    """Return the index of a class, given by name or index."""
    if isinstance(label, int) and label in names:
        return label
    found = [index for index, name in names.items() if name.lower() == str(label).lower()]
    if not found:
        listed = ", ".join(list(names.values())[:10])
        raise UserError(
            f"label: expected a class of the model, got {label!r}; give its name or index, there is: {listed}"
        )
    return int(found[0])
