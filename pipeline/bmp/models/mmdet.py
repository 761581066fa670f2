"""MMDetection's detectors, built and loaded; knows no image and no loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.config import ConfigSection
from bmp.errors import UserError
from bmp.models.engines import Function, Graph, run_by


def build_detector(section: ConfigSection, checkpoint: str) -> nn.Module:
    """Return the network on the CPU, in evaluation mode."""
    from mmdet.models.detectors.base import BaseDetector
    from mmdet.registry import MODELS
    from mmengine.model import revert_sync_batchnorm

    path = None if checkpoint == RANDOM else resolve(checkpoint)
    with mmdet_errors_in_one_line(str(section["type"])), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = MODELS.build(section)
    if not isinstance(model, BaseDetector):
        raise UserError(f"config: expected a detector of mmdet, got {type(model).__name__}; give a detector's config")
    model = revert_sync_batchnorm(model)
    if path is not None:
        load_strictly(model, load_state_dict(path), file=path)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


@contextmanager
def mmdet_errors_in_one_line(what: str) -> Iterator[None]:
    """Turn mmdet's errors about a bad config into one line."""
    try:
        yield
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"mmdet cannot build {what}: {reason}; mend the config") from error


def dense_layers(model: Any) -> list[nn.Module]:
    """Return a detector's backbone, neck and dense head, those of them that it has.

    They are nearly all of the work, and none of it depends on the number of detections.
    """
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    head = getattr(model, "bbox_head", None)
    layers = (model.backbone, getattr(model, "neck", None), head if isinstance(head, BaseDenseHead) else None)
    return [layer for layer in layers if layer is not None]


class _Features(nn.Module):
    """A detector's backbone and neck as a function of tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.neck = model.backbone, getattr(model, "neck", None)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        levels = self.backbone(pixels)
        return tuple(levels if self.neck is None else self.neck(levels))


class _EngineBackbone(nn.Module):
    """Stands where backbone and neck stood in a detector, and asks an engine."""

    def __init__(self, run: Function) -> None:
        super().__init__()
        self.run = run

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.run(pixels)


def give_to_engine(model: Any, engine: str, device: torch.device | str, dtype: torch.dtype) -> None:
    """Let an engine run a detector's backbone and neck, in place; its heads, which differ by much, stay in torch."""
    graph = Graph("mmdet-features", _Features(model), {"pixels": {}})
    model.backbone = _EngineBackbone(run_by(engine, graph, device, dtype))
    model.neck = None
