"""CARAFE, upsampling by predicted kernels, as `mmcv.ops.carafe` calls it. It knows nothing of who predicts them.

mmcv hands over scratch tensors (names that start with r) for its compiled kernel's memory layout. Only `rfeatures` is
used here: mmcv gives it back to the backward operator in place of the features.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .precision import gradients, widen


def _reassemble(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """Return (N, C, H * scale, W * scale): each output pixel is a weighted sum of the window around its source pixel.

    `masks` (N, groups * kernel², H * scale, W * scale) holds the weights, in each group row by row of the window.
    """
    images, channels, height, width = features.shape
    windows = functional.unfold(features, kernel_size, padding=kernel_size // 2)
    windows = windows.view(images, group_size, channels // group_size, kernel_size**2, height, width)
    weights = masks.view(images, group_size, kernel_size**2, height, scale_factor, width, scale_factor)
    mixed = torch.einsum("ngckhw,ngkhiwj->ngchiwj", windows, weights)
    return mixed.reshape(images, channels, height * scale_factor, width * scale_factor)


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Fill `output` (N, C, H * scale, W * scale) from `features` (N, C, H, W); channels form `group_size` groups."""
    output.copy_(_reassemble(widen(features), widen(masks), kernel_size, group_size, scale_factor))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill `grad_input` and `grad_masks`, each of its input's shape; arguments as in the forward."""

    def reassemble(features: Tensor, masks: Tensor) -> Tensor:
        return _reassemble(features, masks, kernel_size, group_size, scale_factor)

    of_features, of_masks = gradients(reassemble, [features, masks], grad_output)
    grad_input.copy_(of_features)
    grad_masks.copy_(of_masks)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill `output` as `carafe_naive_forward` does, and `rfeatures` for the backward."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill `grad_input` and `grad_masks` as `carafe_naive_backward` does."""
    carafe_naive_backward(grad_output, rfeatures, masks, grad_input, grad_masks, kernel_size, group_size, scale_factor)
