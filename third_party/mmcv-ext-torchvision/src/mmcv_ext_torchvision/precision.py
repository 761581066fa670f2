"""Widening of half precision, and gradients by autograd: what every operator module shares. It knows no operator."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def widen(values: Tensor) -> Tensor:
    """Return float16 and bfloat16 values as float32, others as they are.

    Not every torchvision kernel has a half-precision form on every device, and sums over many samples need the digits.
    """
    return values.float() if values.dtype in _HALF else values


def gradients(operator: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor) -> tuple[Tensor, ...]:
    """Return d(sum(operator(*inputs) * grad_output)) / d(each input), in the widened dtype of that input.

    mmcv calls backward operators from inside its own autograd functions, where recording is off: the forward pass is
    run once more here, recorded.
    """
    with torch.enable_grad():
        leaves = [widen(values.detach()).requires_grad_() for values in inputs]
        output = operator(*leaves)
    return torch.autograd.grad(output, leaves, grad_output.to(output.dtype))
