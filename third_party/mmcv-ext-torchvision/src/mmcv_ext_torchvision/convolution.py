"""Deformable and masked convolutions, as `mmcv.ops` calls them, over torchvision's deformable convolution.

mmcv's two deformable operators spell the geometry differently (`kW`, `dH` or `kernel_w`, `stride_h`); group counts
follow from the tensors' shapes. Scratch tensors (`columns`, `ones`) and `im2col_step`, a block size, are not used.
This module knows nothing of the layers that predict offsets and masks.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional
from torchvision import ops

from .precision import gradients, widen

_FAR = 1e6
"""An offset, in pixels, that leads out of any image."""


def _plain_geometry(options: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return torchvision's geometry from the names that mmcv uses for deformable convolution version 1."""
    return {
        "stride": (options["dH"], options["dW"]),
        "padding": (options["padH"], options["padW"]),
        "dilation": (options["dilationH"], options["dilationW"]),
    }


def _modulated_geometry(options: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return torchvision's geometry from the names that mmcv uses for modulated deformable convolution."""
    return {
        "stride": (options["stride_h"], options["stride_w"]),
        "padding": (options["pad_h"], options["pad_w"]),
        "dilation": (options["dilation_h"], options["dilation_w"]),
    }


def _convolve(
    input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: dict[str, tuple[int, int]]
) -> Tensor:
    """Return the deformable convolution without bias, computed in float32 at least.

    Samples whose offset is not finite are 0, as in mmcv: torchvision reads memory that is not its own at NaN.
    """
    offset = widen(offset).nan_to_num(nan=_FAR, posinf=_FAR, neginf=-_FAR)
    mask = None if mask is None else widen(mask)
    result: Tensor = ops.deform_conv2d(widen(input), offset, widen(weight), mask=mask, **geometry)
    return result


def _as_read(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (N, C, H, W) as the compiled modulated convolution reads them for an output of `size`.

    It takes each image's numbers one after the other as (C, *size), whatever their own size. mmdet's DyHead hands over
    the maps of a finer level, and its published weights were trained so.
    """
    if tuple(maps.shape[2:]) == size:
        return maps
    images, channels = maps.shape[:2]
    return maps.flatten(1)[:, : channels * size[0] * size[1]].reshape(images, channels, *size)


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **options: int
) -> None:
    """Fill `output` (N, C_out, H_out, W_out) with the convolution whose sampling points are moved by `offset`.

    Args:
        input: (N, C_in, H, W).
        weight: (C_out, C_in / groups, K_h, K_w).
        offset: (N, offset groups * K_h * K_w * 2, H_out, W_out), y before x, in pixels.
        output: Filled.
        columns: Not used.
        ones: Not used.
        options: Geometry, as mmcv spells it.
    """
    output.copy_(_convolve(input, offset, weight, None, _plain_geometry(options)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **options: int,
) -> None:
    """Fill `grad_input` and `grad_offset`, each of its input's shape; arguments as in the forward."""

    def convolve(input: Tensor, offset: Tensor) -> Tensor:
        return _convolve(input, offset, weight, None, _plain_geometry(options))

    of_input, of_offset = gradients(convolve, [input, offset], grad_output)
    grad_input.copy_(of_input)
    grad_offset.copy_(of_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **options: int,
) -> None:
    """Add `scale` times the gradient of the weight to `grad_weight`; arguments as in the forward."""

    def convolve(weight: Tensor) -> Tensor:
        return _convolve(input, offset, weight, None, _plain_geometry(options))

    # The operator is linear in the weight: its gradient does not depend on the weight's value.
    (of_weight,) = gradients(convolve, [grad_weight], grad_output)
    grad_weight.add_(of_weight.to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **options: int,
) -> None:
    """Fill `output` like `deform_conv_forward`, each sample multiplied by its `mask`.

    Args:
        input: (N, C_in, H, W).
        weight: (C_out, C_in / groups, K_h, K_w).
        bias: (C_out,), or empty.
        ones: Not used.
        offset: (N, offset groups * K_h * K_w * 2, H_out, W_out), y before x, in pixels.
        mask: (N, offset groups * K_h * K_w, H_out, W_out).
        output: (N, C_out, H_out, W_out), filled.
        columns: Not used.
        with_bias: Whether `bias` counts.
        options: Geometry, as mmcv spells it.
    """
    height, width = output.shape[2:]
    moves, scales = _as_read(offset, (height, width)), _as_read(mask, (height, width))
    result = _convolve(input, moves, weight, scales, _modulated_geometry(options))
    output.copy_(result + widen(bias)[:, None, None] if with_bias else result)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **options: int,
) -> None:
    """Fill the `grad_` tensors, each of its input's shape; arguments as in the forward."""
    height, width = grad_output.shape[2:]

    def convolve(input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
        moves, scales = _as_read(offset, (height, width)), _as_read(mask, (height, width))
        return _convolve(input, moves, weight, scales, _modulated_geometry(options))

    found = gradients(convolve, [input, offset, mask, weight], grad_output)
    for out, gradient in zip((grad_input, grad_offset, grad_mask, grad_weight), found, strict=True):
        out.copy_(gradient)
    if with_bias:
        grad_bias.copy_(widen(grad_output).sum((0, 2, 3)))


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill `data_col` (C * K_h * K_w, M) with the windows of `features` (1, C, H, W) at M output positions.

    `mask_h_idx` and `mask_w_idx`, int64 (M,), are the row and column of each position; the stride is 1.
    """
    windows = functional.unfold(features, (kernel_h, kernel_w), padding=(pad_h, pad_w))[0]
    columns = features.shape[3] + 2 * pad_w - kernel_w + 1
    data_col.copy_(windows[:, mask_h_idx * columns + mask_w_idx])


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, output: Tensor, height: int, width: int, channels: int
) -> None:
    """Write the columns `col` (C, M) to their positions in `output` (1, C, H, W); the rest keeps its values."""
    output[0, :, mask_h_idx, mask_w_idx] = col
