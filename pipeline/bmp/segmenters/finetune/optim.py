"""Which parameters weight decay pulls at, and which learn more slowly; registered into MMEngine, knows no network."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DecayMatrices(DefaultOptimWrapperConstructor):  # type: ignore[misc,unused-ignore]
    """Builds an optimizer whose weight decay leaves biases and the weights of normalisations alone.

    Those are the parameters with one dimension. Frozen parameters are not handed over. There are as few groups as can
    be, not one a parameter as MMEngine's own makes, so that the optimizer can work on many tensors at once.

    With ``paramwise_cfg = dict(rates={"image_encoder.": 0.1})`` parameters whose names begin so have that share of the
    learning rate.
    """

    def __call__(self, model: nn.Module) -> Any:
        """Return the wrapper that the config describes, for the model or a wrapper of it."""
        rates: dict[str, float] = (self.paramwise_cfg or {}).get("rates", {})
        groups: dict[tuple[bool, float], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in getattr(model, "module", model).named_parameters():
            if parameter.requires_grad:
                rate = next((share for beginning, share in rates.items() if name.startswith(beginning)), 1.0)
                groups[parameter.ndim > 1, rate].append(parameter)
        sections = [
            {
                "params": parameters,
                **({} if decayed else {"weight_decay": 0.0}),
                **({} if rate == 1 else {"lr": rate * self.optimizer_cfg["lr"]}),
            }
            for (decayed, rate), parameters in sorted(groups.items(), key=lambda group: group[0], reverse=True)
        ]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": sections})
        return OPTIM_WRAPPERS.build({"type": "OptimWrapper", **self.optim_wrapper_cfg, "optimizer": optimizer})
