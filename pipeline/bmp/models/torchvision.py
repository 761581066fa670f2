"""Mask R-CNN and Keypoint R-CNN of torchvision: how they are built and loaded, and how images go in.

Knows no stage and no loop. They need nothing beyond what every installation of this package has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.config import ConfigSection
from bmp.errors import UserError, choices
from bmp.hints import signature_of
from bmp.models.compute import autocast, compute_in, dtype_of
from bmp.ops.resize import resized
from bmp.structures import Image

SIDES = (800, 1333)
"""The shorter edge of an image is scaled to the first, unless its longer one would exceed the second."""

_STRIDE = 32  # of the coarsest level; sides of inputs are multiples of it
_ANCHORS = 3  # in each cell, of three shapes
_MOST = 300  # detections of an image


def mask_rcnn(layers: Sequence[int] = (3, 4, 6, 3), channels: int = 256, classes: int = 91) -> Any:
    """Build torchvision's ``maskrcnn_resnet50_fpn_v2``, or a smaller one.

    Args:
        layers: blocks in each of the four stages of the ResNet.
        channels: of the pyramid of features and of the heads.
        classes: that it tells apart, the background among them.
    """
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import RPNHead

    norm, hidden = nn.BatchNorm2d, 4 * channels
    return MaskRCNN(
        _pyramid(layers, channels, norm, norm),
        rpn_head=RPNHead(channels, _ANCHORS, conv_depth=2),
        box_head=FastRCNNConvFCHead((channels, 7, 7), [channels] * 4, [hidden], norm_layer=norm),
        box_predictor=FastRCNNPredictor(hidden, classes),
        box_detections_per_img=_MOST,
        mask_head=MaskRCNNHeads(channels, [channels] * 4, 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(channels, channels, classes),
    )


def keypoint_rcnn(layers: Sequence[int] = (3, 4, 6, 3), channels: int = 256) -> Any:
    """Build torchvision's ``keypointrcnn_resnet50_fpn``, or a smaller one; arguments as for ``mask_rcnn``."""
    from torchvision.models.detection import KeypointRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
    from torchvision.ops import FrozenBatchNorm2d

    hidden, width = 4 * channels, 2 * channels
    network = KeypointRCNN(
        _pyramid(layers, channels, FrozenBatchNorm2d, None),
        box_head=TwoMLPHead(channels * 49, hidden),
        box_predictor=FastRCNNPredictor(hidden, 2),
        keypoint_head=KeypointRCNNHeads(channels, [width] * 8),
        keypoint_predictor=KeypointRCNNPredictor(width, 17),
    )
    for part in network.modules():
        if isinstance(part, FrozenBatchNorm2d):
            part.eps = 0.0  # as these weights were trained
    return network


def _pyramid(layers: Sequence[int], channels: int, norm: Any, pyramid_norm: Any) -> nn.Module:
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.resnet import Bottleneck, ResNet

    levels = {f"layer{number + 1}": str(number) for number in range(4)}
    resnet = ResNet(Bottleneck, list(layers), norm_layer=norm)
    pyramid: nn.Module = BackboneWithFPN(
        resnet, levels, [256 << number for number in range(4)], channels, norm_layer=pyramid_norm
    )
    return pyramid


def build_rcnn(
    stage: str,
    make: Callable[..., Any],
    checkpoint: str,
    network: ConfigSection | None,
    *,
    sides: Sequence[int],
    device: str,
    dtype: str,
) -> Any:
    """Return a network on ``device``, in evaluation mode and without gradients.

    Args:
        stage: its name in messages.
        make: ``mask_rcnn`` or ``keypoint_rcnn``.
        checkpoint: name or path of a state dict of torchvision's, or "random" for weights made up from a fixed seed.
        network: arguments of ``make``.
        sides: see ``SIDES``.
        device: torch device.
        dtype: "float32", or "bfloat16" for autocast in the heads; ``features`` does it for the rest. What they give
            is float32.

    Raises:
        UserError: for unknown arguments and formats, sides that no image can have, and weights that cannot be had or
            do not fit.
    """
    if len(sides) != 2 or not 1 <= sides[0] <= sides[1]:
        raise UserError(f"sides: expected the shorter and the longer edge in pixels, got {sides}; {SIDES} is usual")
    compute_type = dtype_of(dtype)
    known = signature_of(make).arguments
    if wrong := [key for key in network or {} if key not in known]:
        raise UserError(f"{stage}: network has no {wrong[0]!r}; {choices(wrong[0], known)}")
    file = None if checkpoint == RANDOM else resolve(checkpoint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = make(**(network or {}))
    if file is not None:
        # Counters of training, which only some versions wrote.
        load_strictly(built, load_state_dict(file), ignore=("*.num_batches_tracked",), file=file)
    built = built.eval().requires_grad_(False)
    built.transform.min_size, built.transform.max_size = (sides[0],), sides[1]
    _tell_strides(built)
    if compute_type != torch.float32:
        for part in (built.rpn.head, *_heads(built.roi_heads)):
            compute_in(part, compute_type)
    return built.to(device)


def _tell_strides(network: Any) -> None:
    """Let the heads know that levels have strides of 4 to 32.

    They would infer it from the first image, once and for all, and wrongly from one that is much longer than high.
    """
    shares = [torch.zeros(1, network.backbone.out_channels, side, side) for side in (16, 8, 4, 2)]
    levels = {str(number): level for number, level in enumerate(shares)}
    heads = network.roi_heads
    for pool in (heads.box_roi_pool, heads.mask_roi_pool, heads.keypoint_roi_pool):
        if pool is not None:
            pool(levels, [torch.zeros(1, 4)], [(64, 64)])


def _heads(heads: Any) -> Iterator[nn.Module]:
    for kind in ("box", "mask", "keypoint"):
        for part in ("head", "predictor"):
            module = getattr(heads, f"{kind}_{part}")
            if module is not None:
                yield module


def batches(images: Sequence[Image], batch_size: int) -> Iterator[list[int]]:
    """Yield rows of images of one size, at most ``batch_size`` at a time; beside others they would be padded."""
    same: dict[tuple[int, int], list[int]] = {}
    for row, image in enumerate(images):
        same.setdefault((image.height, image.width), []).append(row)
    for rows in same.values():
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]


def inputs(network: Any, images: Sequence[Image], device: torch.device) -> Any:
    """Return images of one size as torchvision's ``ImageList``: scaled, normalised, padded to whole strides.

    It is what ``network.transform`` makes of them, without numbers for each pixel of a large photo, and with at least
    one pixel along each side.
    """
    from torchvision.models.detection.image_list import ImageList

    size, settings = (images[0].height, images[0].width), network.transform
    scale = min(settings.min_size[-1] / min(size), settings.max_size / max(size))
    height, width = (max(1, int(edge * scale)) for edge in size)
    shown = torch.stack([resized(image.pixels.to(device), height, width) for image in images]).permute(0, 3, 1, 2)
    mean, std = (shown.new_tensor(values)[:, None, None] for values in (settings.image_mean, settings.image_std))
    normalised = shown.div(255).sub_(mean).div_(std)
    padded = F.pad(normalised, (0, -width % _STRIDE, 0, -height % _STRIDE))
    return ImageList(padded, [(height, width)] * len(images))


def features(network: Any, shown: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the pyramid of an ``ImageList``: float32 (B, C, h, w) by the level's name."""
    with autocast(shown.tensors.device, dtype):
        levels = network.backbone(shown.tensors)
    return {name: level.float() for name, level in levels.items()}
