"""Reads RTMDet-Ins for one class, with mmdet's own layers but sparingly; knows no image, no file and no config.

mmdet makes masks of all classes at the size of the image. Here the boxes of one class come first, and the masks of
the chosen ones later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bmp.models.engines import Graph

HeadMaps = tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]
"""For each level classes, distances and kernels, (B, ., h, w), and the features of the masks (B, ., H, W)."""


@dataclass(frozen=True, eq=False)
class RawDetections:
    """The output of a detector for one image: rows of one class, in any order.

    boxes: float32 (N, 4), xyxy in pixels of the image or of the network's input. scores: float32 (N,). soft: returns
    the masks of the given rows, float32 (n, h, w) of any size: they cover exactly the image, and are above
    ``threshold`` inside. None from networks without masks.
    """

    boxes: Tensor
    scores: Tensor
    soft: Callable[[Tensor], Tensor] | None = None
    threshold: float = 0.5


def fits(model: nn.Module) -> bool:
    """Say whether ``model`` is an RTMDet-Ins that this module can read."""
    from mmdet.models.dense_heads import RTMDetInsSepBNHead

    head = getattr(model, "bbox_head", None)
    return isinstance(head, RTMDetInsSepBNHead) and not head.with_objectness


class DenseLayers(nn.Module):
    """A network from normalised pixels to the outputs of its dense head, as a function of tensors.

    Args:
        model: for which ``fits`` holds.
        quick_head: a ``QuickHead`` of its head.
    """

    def __init__(self, model: Any, quick_head: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.quick_head = quick_head

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Compute of float32 (B, 3, H, W) what ``to_head_maps`` takes: flat, since exported networks have no lists."""
        classes, distances, kernels, features = self.quick_head(self.model.extract_feat(pixels))
        return (*classes, *distances, *kernels, features)


def to_head_maps(outputs: Sequence[Tensor]) -> HeadMaps:
    """Sort the outputs of ``DenseLayers``."""
    levels = len(outputs) // 3
    return (
        list(outputs[:levels]),
        list(outputs[levels : 2 * levels]),
        list(outputs[2 * levels : 3 * levels]),
        outputs[-1],
    )


def dense_graph(model: Any, quick_head: nn.Module) -> Graph:
    """Return ``DenseLayers`` for other engines; the levels are named by their strides."""
    strides = [stride[0] for stride in model.bbox_head.prior_generator.strides]
    names = [f"{kind}{stride}" for kind in ("classes", "distances", "kernels") for stride in strides]
    return Graph("rtmdet-ins", DenseLayers(model, quick_head), {"pixels": {}}, (*names, "mask_features"))


class QuickHead(nn.Module):
    """A network's dense head with the same outputs in less time: no branch is computed twice.

    Args:
        head: of a model for which ``fits`` holds.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, levels: Sequence[Tensor]) -> HeadMaps:
        """See ``forward_head``."""
        return forward_head(self.head, levels)


def read(
    model: Any,
    dense: Callable[[Tensor], tuple[Tensor, ...]],
    pixels: Tensor,
    shown: Sequence[tuple[int, int]],
    label: int,
    score_threshold: float,
) -> list[RawDetections]:
    """Run the network and read one class.

    Args:
        model: for which ``fits`` holds.
        dense: ``DenseLayers`` of it, or what computes the same.
        pixels: float32 (B, 3, H, W), normalised.
        shown: height and width of the part of each input that shows an image.
        label: the class.
        score_threshold: rows above it are returned.

    Returns:
        for each input its detections, with boxes in pixels of the input, after the NMS and the limit of rows in the
        model's ``test_cfg``, for this class alone.
    """
    from mmcv.ops import batched_nms

    head = model.bbox_head
    classes, distance_levels, kernel_levels, features = to_head_maps(dense(pixels))
    grids = head.prior_generator.grid_priors(
        [level.shape[-2:] for level in classes], device=pixels.device, with_stride=True
    )
    priors = torch.cat(grids)
    scores = _rows([level[:, label : label + 1] for level in classes])[..., 0].sigmoid()
    distances, kernels = _rows(distance_levels), _rows(kernel_levels)

    def candidates(index: int) -> RawDetections:
        rows = (scores[index] > score_threshold).nonzero()[:, 0]
        boxes = head.bbox_coder.decode(priors[rows, :2], distances[index, rows], max_shape=pixels.shape[-2:])
        best, order = batched_nms(
            boxes, scores[index, rows], torch.zeros_like(rows), head.test_cfg.nms, class_agnostic=True
        )
        most = head.test_cfg.max_per_img
        best, rows = best[:most], rows[order[:most]]

        def soft(chosen: Tensor) -> Tensor:
            picked = rows[chosen]
            logits = head._mask_predict_by_feat_single(features[index], kernels[index, picked], priors[picked])
            height, width = shown[index]
            stride = head.prior_generator.strides[0][0]
            enlarged = F.interpolate(logits[None], scale_factor=stride, mode="bilinear")[0]
            return enlarged[:, :height, :width]

        threshold = float(torch.tensor(head.test_cfg.mask_thr_binary).logit())
        return RawDetections(best[:, :4], best[:, 4], soft, threshold)

    return [candidates(index) for index in range(len(shown))]


def _rows(levels: Sequence[Tensor]) -> Tensor:
    """Join maps (B, C, h, w) of several sizes to (B, P, C), one row for each location."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def forward_head(head: Any, levels: Sequence[Tensor]) -> HeadMaps:
    """Do what the head's forward does; its branches for classes and boxes are the same layers and run once.

    Args:
        head: a ``RTMDetInsSepBNHead`` without objectness.
        levels: float (B, C, h, w) of the neck, one a stride.

    Returns:
        see ``HeadMaps``.
    """
    classes, distances, kernels = [], [], []
    for index, (level, stride) in enumerate(zip(levels, head.prior_generator.strides, strict=True)):
        features, kernel_features = level, level
        for layer in head.cls_convs[index]:
            features = layer(features)
        for layer in head.kernel_convs[index]:
            kernel_features = layer(kernel_features)
        classes.append(head.rtm_cls[index](features))
        distances.append(head.rtm_reg[index](features).relu() * stride[0])
        kernels.append(head.rtm_kernel[index](kernel_features))
    return classes, distances, kernels, head.mask_head(levels)
