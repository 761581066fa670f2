"""Torchvision's Mask R-CNN as a detector of people with masks; knows no other stage and no loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bmp.config import ConfigSection
from bmp.errors import UserError
from bmp.models.compute import dtype_of
from bmp.models.torchvision import SIDES, batches, build_rcnn, features, inputs, mask_rcnn
from bmp.ops.boxes import clip
from bmp.ops.resize import resized
from bmp.registry import DETECTORS
from bmp.structures import Detections, Image
from bmp.structures.mask_windows import MaskWindows

_PERSON = 1  # among the classes of COCO, of which 0 is the background


@DETECTORS.register_module()
class TorchvisionDetector:
    """Finds people and their masks with Mask R-CNN; boxes, scores and masks are those of torchvision's own network.

    It needs torch and torchvision only, and runs on no other engine. Masks are drawn for people alone, within their
    boxes.

    Args:
        checkpoint: name or path of weights of ``maskrcnn_resnet50_fpn_v2``, or "random".
        network: of another size, arguments of ``bmp.models.torchvision.mask_rcnn``.
        sides: to which the shorter edge of an image is scaled, and at most the longer one, in pixels.
        device: torch device of the network and of the results.
        score_threshold: people with a score above it are kept, in [0, 1].
        batch_size: images at a time, which have to be of one size.
        dtype: "float32", or "bfloat16" for autocast.

    Raises:
        UserError: for weights that cannot be had or do not fit, and values out of range.
    """

    def __init__(
        self,
        checkpoint: str,
        network: ConfigSection | None = None,
        *,
        sides: tuple[int, int] = SIDES,
        device: str = "cpu",
        score_threshold: float = 0.3,
        batch_size: int = 4,
        dtype: str = "float32",
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}; choose how many images fit in memory")
        if not 0 <= score_threshold <= 1:
            raise UserError(f"score_threshold: expected a number in [0, 1], got {score_threshold}; 0.3 is usual")
        self._network = build_rcnn(
            "TorchvisionDetector", mask_rcnn, checkpoint, network, sides=sides, device=device, dtype=dtype
        )
        self._network.roi_heads.score_thresh = score_threshold
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._dtype = dtype_of(dtype)

    @torch.no_grad()
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Return the people of each image, best first; boxes lie within the image. See ``bmp.stages.Detector``."""
        people = [Detections.empty(self._device)] * len(images)
        for rows in batches(images, self._batch_size):
            for row, found in zip(rows, self._detect([images[row] for row in rows]), strict=True):
                people[row] = found
        return people

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        """Do what torchvision's network does, but draw the masks of people only."""
        shown = inputs(self._network, images, self._device)
        sizes, heads = shown.image_sizes, self._network.roi_heads
        levels = features(self._network, shown, self._dtype)
        proposals, _ = self._network.rpn(shown, levels)
        logits, offsets = heads.box_predictor(heads.box_head(heads.box_roi_pool(levels, proposals, sizes)))
        found = zip(*heads.postprocess_detections(logits, offsets, proposals, sizes), strict=True)
        people = [(boxes[labels == _PERSON], scores[labels == _PERSON]) for boxes, scores, labels in found]
        inside = heads.mask_roi_pool(levels, [boxes for boxes, _ in people], sizes)
        soft = heads.mask_predictor(heads.mask_head(inside))[:, _PERSON].sigmoid()
        height, width = images[0].height, images[0].width
        factors = soft.new_tensor((width / sizes[0][1], height / sizes[0][0]) * 2)
        results = []
        for (boxes, scores), masks in zip(people, soft.split([len(scores) for _, scores in people]), strict=True):
            scaled = clip(boxes * factors, height, width)
            results.append(Detections(scaled, scores.clamp(0, 1), drawn(masks, scaled, height, width)))
        return results


def drawn(soft: Tensor, boxes: Tensor, height: int, width: int) -> MaskWindows:
    """Draw masks in an image, pixel by pixel as torchvision's ``paste_masks_in_image`` does, within windows.

    Args:
        soft: (N, M, M) in [0, 1], each of a whole box; above 0.5 is inside.
        boxes: (N, 4), within the image.
        height: of the image.
        width: of the image.
    """
    side = soft.shape[-1]
    framed = F.pad(soft, (1, 1, 1, 1))  # by nothing, so that masks fade out at the edges of their boxes
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * ((side + 2) / side)
    grown = torch.cat((centres - halves, centres + halves), 1).long().tolist()
    corners, patches = [], []
    for mask, (left, top, right, bottom) in zip(framed, grown, strict=True):
        x, y = (max(left, 0), min(right + 1, width)), (max(top, 0), min(bottom + 1, height))
        rows, columns = (y[0] - top, y[1] - top), (x[0] - left, x[1] - left)
        patch = resized(mask[:, :, None], bottom - top + 1, right - left + 1, rows, columns)[:, :, 0]
        corners.append((x[0], y[0]))
        patches.append(patch > 0.5)
    return MaskWindows(height, width, tuple(corners), tuple(patches), soft.device)
