"""How networks compute: number format, memory layout, compilation. Knows no network and no stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from bmp.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def dtype_of(name: str) -> torch.dtype:
    """Return the number format of a stage's ``dtype`` argument; ``UserError`` for an unknown one."""
    if name not in DTYPES:
        raise UserError(f"dtype: expected one of {', '.join(DTYPES)}, got {name!r}; choose one of these")
    return DTYPES[name]


def autocast(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """Return the context in which networks compute in ``dtype``; for float32 it does nothing."""
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def wrap_forward(module: nn.Module, around: Callable[..., Any]) -> None:
    """Let ``around`` run in the place of a module's ``forward``, in place; it is given that and its arguments.

    Pickles and deep copies of the module have it too, where ``around`` can be pickled.
    """
    inner = vars(module).get("forward") or partial(type(module).forward, module)
    module.forward = partial(around, inner)


def prepare(*modules: nn.Module, channels_last: bool, compiled: bool) -> None:
    """Set up, in place, the parts of a network that take most of its time.

    channels_last: keep weights, and with them activations, with the channels innermost, which convolutions may like.
    compiled: compile each part with torch.compile when it first runs, which takes minutes and needs a C++ compiler
    on a CPU; state dicts and types of the parts stay as they are.
    """
    for module in modules:
        if channels_last:
            module.to(memory_format=torch.channels_last)
        if compiled:
            for part in module.modules():
                for name, value in vars(part).items():
                    if isinstance(value, np.generic):  # mmpretrain's drop rates, over which torch.compile stumbles
                        vars(part)[name] = value.item()
            module.compile()
