"""Small mmdet detectors with weights that find something: made-up, but scaled to photos so that rows differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

SIDE = 320


def _config(name: str) -> Any:
    import mmdet
    from mmengine.config import Config

    config = Config.fromfile(Path(mmdet.__path__[0]) / ".mim" / "configs" / name)
    config.model.backbone.pop("init_cfg", None)
    return config


def _shrink_test_images(config: Any, side: int) -> None:
    for step in config.test_dataloader.dataset.pipeline:
        if "scale" in step:
            step["scale"] = (side, side)
        if "size" in step:
            step["size"] = (side, side)


def rtmdet(masks: bool) -> Any:
    """Return the config of an RTMDet, with masks or without, of a few thousand weights."""
    config = _config(f"rtmdet/rtmdet{'-ins' if masks else ''}_tiny_8xb32-300e_coco.py")
    config.model.backbone.update(deepen_factor=0.167, widen_factor=0.125)
    config.model.neck.update(in_channels=[32, 64, 128], out_channels=24, num_csp_blocks=1)
    config.model.bbox_head.update(in_channels=24, feat_channels=24)
    _shrink_test_images(config, SIDE)
    return config


def mask_rcnn(masks: bool) -> Any:
    """Return the config of a small Mask R-CNN, or Faster R-CNN without masks."""
    config = _config("mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py")
    config.model.backbone.update(depth=18)
    config.model.neck.update(in_channels=[64, 128, 256, 512], out_channels=16)
    config.model.rpn_head.update(in_channels=16, feat_channels=16)
    heads = config.model.roi_head
    for part in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
        part.out_channels = 16
    heads.bbox_head.update(in_channels=16, fc_out_channels=32)
    heads.mask_head.update(num_convs=1, in_channels=16, conv_out_channels=16)
    if not masks:
        config.model.type = "FasterRCNN"
        for part in ("mask_head", "mask_roi_extractor"):
            heads.pop(part)
    _shrink_test_images(config, SIDE)
    return config


def build(config: Any) -> Any:
    """Return mmdet's model of ``config`` with seeded weights, normalised on noise so that its answers vary."""
    from mmdet.registry import MODELS
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import DefaultScope

    import mmdet.models  # noqa: F401

    with DefaultScope.overwrite_default_scope("mmdet"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = revert_sync_batchnorm(MODELS.build(config.model))
    return model
