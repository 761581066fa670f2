"""The precision and memory layout of a detector's training; knows no data and no losses."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from bmp.models.compute import compute_in, prepare, training_dtype
from bmp.models.mmdet import dense_layers


@HOOKS.register_module()
class ComputeOptions(Hook):  # type: ignore[misc,unused-ignore]
    """Trains with the options that ``MMDetDetector`` has for its backbone, neck and dense head.

    Losses and weights are in float32.

    Args:
        dtype: "float32", "bfloat16" for autocast, or "auto": see ``bmp.models.compute.training_dtype``.
        channels_last: see ``bmp.models.compute.prepare``.
    """

    def __init__(self, dtype: str = "float32", channels_last: bool = True) -> None:
        training_dtype(dtype, "cpu")  # refuses unknown ones before anything is computed
        self._dtype = dtype
        self._channels_last = channels_last

    def before_train(self, runner: Any) -> None:
        """Prepare the network, after averaging hooks have made their copy of it."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        layers = dense_layers(model)
        prepare(*layers, channels_last=self._channels_last, compiled=False)
        dtype = training_dtype(self._dtype, next(model.parameters()).device)
        for layer in layers:
            compute_in(layer, dtype)
