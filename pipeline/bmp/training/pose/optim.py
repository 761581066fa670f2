"""Mixed precision for training on any device; knows no network and no data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.optim import OptimWrapper
from mmpose.registry import OPTIM_WRAPPERS
from torch import nn

from bmp.models.compute import autocast, training_dtype


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):  # type: ignore[misc,unused-ignore]
    """MMEngine's OptimWrapper with autocast, also on the CPU, where MMEngine's own for mixed precision refuses.

    Weights, gradients and the losses of the probabilistic head are in float32.

    Args:
        dtype: "float32", "bfloat16", or "auto": see ``bmp.models.compute.training_dtype``.
        **kwargs: the arguments of OptimWrapper.
    """

    def __init__(self, dtype: str = "auto", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        training_dtype(dtype, "cpu")  # refuses unknown ones before anything is computed
        self._dtype = dtype

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Compute with autocast inside the context, on the device of the model."""
        device = next(model.parameters()).device
        with super().optim_context(model), autocast(device, training_dtype(self._dtype, device)):
            yield
