"""Torchvision's Keypoint R-CNN as a pose estimator for given boxes; knows no other stage and no loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bmp.config import ConfigSection
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.compute import dtype_of
from bmp.models.torchvision import SIDES, batches, build_rcnn, features, inputs, keypoint_rcnn
from bmp.ops.boxes import clip
from bmp.registry import POSES
from bmp.structures import Detections, Image, Poses, sent

_NEAR = 5  # of 56 cells along a box: the network draws 28, and what it says of one reaches over so many


@POSES.register_module()
class TorchvisionPose:
    """Estimates COCO's 17 keypoints with Keypoint R-CNN, which is asked for the given boxes and not for its own.

    It sees an image once, whoever is in it, and no masks. A keypoint's score is the share of its map's probability
    that lies about the place it is found at; it stands in for visibility and presence. It needs torch and torchvision
    only, and runs on no other engine.

    Args:
        checkpoint: name or path of weights of ``keypointrcnn_resnet50_fpn``, or "random".
        network: of another size, arguments of ``bmp.models.torchvision.keypoint_rcnn``.
        sides: to which the shorter edge of an image is scaled, and at most the longer one, in pixels.
        device: torch device of the network and of the results.
        batch_size: images at a time, which have to be of one size.
        dtype: "float32", or "bfloat16" for autocast. Decoding is in float32.

    Raises:
        UserError: for weights that cannot be had or do not fit, and values out of range.
    """

    keypoints = COCO_KEYPOINTS

    def __init__(
        self,
        checkpoint: str,
        network: ConfigSection | None = None,
        *,
        sides: tuple[int, int] = SIDES,
        device: str = "cpu",
        batch_size: int = 4,
        dtype: str = "float32",
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}; choose how many images fit in memory")
        self._network = build_rcnn(
            "TorchvisionPose", keypoint_rcnn, checkpoint, network, sides=sides, device=device, dtype=dtype
        )
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._dtype = dtype_of(dtype)

    @torch.no_grad()
    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        """Estimate a pose for each person; see ``bmp.stages.PoseEstimator``."""
        poses = [Poses.empty(len(self.keypoints), self._device)] * len(images)
        peopled = [row for row, each in enumerate(people) if len(each)]
        for batch in batches([images[row] for row in peopled], self._batch_size):
            rows = [peopled[number] for number in batch]
            found = self._estimate([images[row] for row in rows], [people[row] for row in rows])
            for row, each in zip(rows, found, strict=True):
                poses[row] = each
        return poses

    def _estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        from torchvision.models.detection.roi_heads import keypointrcnn_inference

        shown = inputs(self._network, images, self._device)
        sizes, heads = shown.image_sizes, self._network.roi_heads
        height, width = images[0].height, images[0].width
        factors = shown.tensors.new_tensor((sizes[0][1] / width, sizes[0][0] / height))
        # The maps are decoded pixel by pixel of the box: without the cut one far too large would fill the memory.
        boxes = [clip(sent(each.boxes, self._device), height, width) * factors.repeat(2) for each in people]
        inside = heads.keypoint_roi_pool(features(self._network, shown, self._dtype), boxes, sizes)
        maps = heads.keypoint_predictor(heads.keypoint_head(inside))
        locations, _ = keypointrcnn_inference(maps, boxes)
        shares = torch.split(certainty(maps), [len(each) for each in boxes])
        return [
            Poses(found[:, :, :2] / factors, scores, scores, scores)
            for found, scores in zip(locations, shares, strict=True)
        ]


def certainty(maps: Tensor) -> Tensor:
    """Return how sure maps are of their peaks: the probability of the 5 x 5 cells about each.

    Args:
        maps: logits (N, K, h, w) of where a keypoint is; the network was trained with their softmax.

    Returns:
        (N, K) in [0, 1].
    """
    cells = maps.flatten(2).softmax(-1)
    near = F.avg_pool2d(cells.view_as(maps), _NEAR, stride=1, padding=_NEAR // 2) * _NEAR**2
    return near.flatten(2).gather(2, cells.argmax(-1, keepdim=True))[..., 0].clamp(0, 1)
