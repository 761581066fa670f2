"""Learning rates and weight decay of each parameter, as SAM 2's own training has them; knows no data and no loss."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from bmp.errors import UserError

_ENCODER = "image_encoder."
_TRUNK = "image_encoder.trunk."


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SAM2Parameters(DefaultOptimWrapperConstructor):  # type: ignore[misc,unused-ignore]
    """Builds an optimizer with the parameter groups of SAM 2's training.

    Weight decay leaves biases and the weights of ``torch.nn.LayerNorm`` alone, and nothing else: not those of SAM 2's
    own normalisation of images, ``LayerNorm2d``. An image encoder that is trained may have a lower learning rate, and
    the lower the earlier a layer of its trunk is, position embeddings excepted. Frozen parameters are not handed over.
    There is a group for each pair of rate and decay, not one a parameter as in MMEngine's own constructor, so that the
    optimizer can work on many tensors at once.

    ``paramwise_cfg`` in the config of the optimizer's wrapper may have

    - encoder_rate: factor of the image encoder's learning rate; 1 by default, 0.6 in SAM 2's fine-tuning.
    - layer_decay: factor of a layer's learning rate for each layer that comes after it in the trunk; 1 by default, 0.9
      in SAM 2's fine-tuning.

    Raises:
        UserError: for other options, and factors that are not above 0.
    """

    def __call__(self, model: nn.Module) -> Any:
        """Return the wrapper that the config describes, for the model or a wrapper of it."""
        options = {"encoder_rate": 1.0, "layer_decay": 1.0, **(self.paramwise_cfg or {})}
        if len(options) > 2 or min(options.values()) <= 0:
            raise UserError(
                f"paramwise_cfg: expected encoder_rate and layer_decay above 0, got {dict(self.paramwise_cfg)}"
            )
        normalised = {
            id(parameter)
            for module in model.modules()
            if isinstance(module, nn.LayerNorm)
            for parameter in module.parameters()
        }
        trunk = next((module for name, module in model.named_modules() if f"{name}.".endswith(_TRUNK)), None)
        groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                rate = options["encoder_rate"] if _ENCODER in name else 1.0
                if _TRUNK in name and "pos_embed" not in name:
                    rate *= options["layer_decay"] ** _layers_after(trunk, name)
                groups[rate, "bias" not in name and id(parameter) not in normalised].append(parameter)
        base = self.optimizer_cfg["lr"]
        rows = [
            {"params": parameters, "lr": base * rate, **({} if decays else {"weight_decay": 0.0})}
            for (rate, decays), parameters in groups.items()
        ]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": rows})
        return OPTIM_WRAPPERS.build({"type": "OptimWrapper", **self.optim_wrapper_cfg, "optimizer": optimizer})


def _layers_after(trunk: Any, name: str) -> int:
    """Return how many layers of sam2's Hiera come after the one whose parameter it is, the neck counted as one."""
    return int(trunk.get_num_layers()) + 1 - int(trunk.get_layer_id(name))
