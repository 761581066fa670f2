"""Common to all networks: number format, memory layout, folded layers, a digest of weights. Knows no stage."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from types import new_class
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bmp.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def dtype_of(name: str, *others: str) -> torch.dtype:
    """Return the number format of a stage's ``dtype`` argument; ``UserError`` for an unknown one, ``others`` named."""
    if name not in DTYPES:
        raise UserError(f"dtype: expected one of {', '.join((*DTYPES, *others))}, got {name!r}; choose one of these")
    return DTYPES[name]


def default_dtype(dtype: str | None, device: torch.device | str, engine: str = "torch") -> str:
    """Return a stage's ``dtype`` argument; for None it is "bfloat16" on CUDA with engine "torch", else "float32"."""
    if dtype is not None:
        return dtype
    return "bfloat16" if torch.device(device).type == "cuda" and engine == "torch" else "float32"


def training_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """Return the number format for training on a device: "auto" is bfloat16 where the device computes in it itself.

    A processor that has to imitate bfloat16 takes ten times as long with it. ``UserError`` for an unknown name.
    """
    if name != "auto":
        return dtype_of(name, "auto")
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of PyTorch do not say
    return torch.bfloat16 if any(map(able.get, ("avx512_bf16", "amx_bf16", "bf16"))) else torch.float32


def padded_rows(count: int, most: int) -> list[int]:
    """Return the numbers of ``count`` rows, the last one repeated until there are 1, 2, 4, 8 ... or ``most`` of them.

    Whatever is compiled, captured or tuned for one number of rows is then used again for another.

    Examples:
        >>> padded_rows(3, 24)
        [0, 1, 2, 2]
        >>> [len(padded_rows(count, 24)) for count in (1, 2, 3, 9, 17, 24)]
        [1, 2, 4, 16, 24, 24]
    """
    padded = max(count, min(most, 1 << (count - 1).bit_length()))
    return [*range(count), *[count - 1] * (padded - count)]


def autocast(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """Return the context in which networks compute in ``dtype``; for float32 it does nothing."""
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def compute_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Let ``module`` compute under autocast in ``dtype`` and return float32, in place; weights stay as they are.

    The module becomes an instance of a subclass of its class. So its state dict, copies and pickles stay as they were,
    and its own methods call the new ``forward``, too: heads of MMDetection call themselves.
    """
    if not isinstance(module, _Autocast):
        module.__class__ = _under_autocast(type(module))
    module.autocast_dtype = dtype  # type: ignore[assignment]


class _Autocast(nn.Module):
    """Mixed in before a network's class: runs its ``forward`` under autocast."""

    autocast_dtype: torch.dtype

    def forward(self, first: Any, *others: Any, **options: Any) -> Any:
        with autocast((first if isinstance(first, Tensor) else first[0]).device, self.autocast_dtype):
            return to_float32(super().forward(first, *others, **options))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Name the network's own class: a pickle cannot name one that was made while the program ran."""
        reduced: Any = super().__reduce_ex__(max(2, protocol))
        _, (_, *arguments), *state = reduced
        return (_new_under_autocast, (type(self).__bases__[1], *arguments), *state)


def _under_autocast(kind: type[nn.Module]) -> type[nn.Module]:
    return new_class(kind.__name__, (_Autocast, kind), {}, lambda body: body.update(__module__=kind.__module__))


def _new_under_autocast(kind: type[nn.Module], *arguments: Any) -> nn.Module:
    made = _under_autocast(kind)
    return made.__new__(made, *arguments)


def to_float32(outputs: Any) -> Any:
    """Return the outputs of a network, a tensor or nested tuples and lists of them, with floats as float32."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    return tuple(map(to_float32, outputs)) if isinstance(outputs, list | tuple) else outputs


def prepare(*modules: nn.Module, channels_last: bool, compiled: bool) -> None:
    """Set up, in place, the parts of a network that take most of its time.

    channels_last: keep weights, and with them activations, with the channels innermost, in which convolutions may be
    faster.
    compiled: compile each part with torch.compile when it first runs, which takes minutes and needs a C++ compiler
    on a CPU; state dicts and types of the parts stay as they are.
    """
    for module in modules:
        if channels_last:
            module.to(memory_format=torch.channels_last)
        if compiled:
            _to_python_numbers(module)
            module.compile()


def cast_weights(*modules: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of linear layers and convolutions in ``dtype``, in place, for modules that run under autocast.

    Autocast would make the same numbers of them anew at each call. Such a module cannot run without it any more.
    """
    for module in modules:
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                part.to(dtype)


def fold_batch_norms(*modules: nn.Module) -> None:
    """Let convolutions do the work of the batch norms that follow on them, in place, for use and not for training.

    It does so in sequences of layers and in MMCV's ``ConvModule``. What a module computes stays the same but for
    rounding; its state dict is that of other layers from then on. A convolution with several batch norms, as the heads
    of RTMDet share one among their levels, becomes one for each.
    """
    for module in modules:
        for part in list(module.modules()):
            if isinstance(part, nn.Sequential):
                for index, (first, second) in enumerate(pairwise(list(part))):
                    if _can_fold(first, second):
                        part[index] = _folded(first, second)
                        part[index + 1] = nn.Identity()
            elif _is_conv_module(part):
                part.conv = _folded(part.conv, part.norm)
                setattr(part, str(part.norm_name), nn.Identity())


def _is_conv_module(part: Any) -> bool:
    """Tell whether a layer is MMCV's convolution, norm and activation in one, and its norm can be folded."""
    order = getattr(part, "order", ())
    if not getattr(part, "with_norm", False) or not hasattr(part, "norm_name") or not hasattr(part, "conv"):
        return False
    follows = "norm" in order and order[order.index("norm") - 1 : order.index("norm")] == ("conv",)
    return follows and not part.with_spectral_norm and _can_fold(part.conv, part.norm)


def _can_fold(first: nn.Module, second: nn.Module) -> bool:
    return (
        isinstance(first, nn.Conv2d | nn.ConvTranspose2d)
        and isinstance(second, nn.modules.batchnorm._BatchNorm)
        and not second.training
        and second.running_mean is not None
    )


def _folded(convolution: Any, norm: Any) -> nn.Module:
    transposed = isinstance(convolution, nn.ConvTranspose2d)
    folded: nn.Module = fuse_conv_bn_eval(convolution, norm, transpose=transposed)
    return folded


def _to_python_numbers(module: nn.Module) -> None:
    """Replace attributes that are NumPy's numbers: torch.compile fails on mmpretrain's drop rates."""
    for part in module.modules():
        numbers = {name: value.item() for name, value in vars(part).items() if isinstance(value, np.generic)}
        vars(part).update(numbers)


def weights_digest(module: nn.Module) -> str:
    """Return a digest of a module's weights: equal for equal weights of equal names, on any device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the values of a tensor on any device as they are in memory."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
