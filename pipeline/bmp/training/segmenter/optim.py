"""Which parameters weight decay pulls at; registered into MMEngine, knows no network."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DecayMatrices(DefaultOptimWrapperConstructor):  # type: ignore[misc,unused-ignore]
    """Builds an optimizer whose weight decay leaves biases and the weights of normalisations alone.

    Those are the parameters with one dimension. Frozen parameters are not handed over. There are two groups, not one a
    parameter as MMEngine's own makes, so that the optimizer can work on many tensors at once.
    """

    def __call__(self, model: nn.Module) -> Any:
        """Return the wrapper that the config describes, for the model or a wrapper of it."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim > 1]},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": groups})
        return OPTIM_WRAPPERS.build({"type": "OptimWrapper", **self.optim_wrapper_cfg, "optimizer": optimizer})
