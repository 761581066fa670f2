"""Multi-scale deformable attention, as `mmcv.ops.multi_scale_deform_attn` calls it on a GPU.

The formula is mmcv's own for CPU tensors, which is part of mmcv-lite; this module only hands it over under the names
of the compiled operators. `im2col_step`, a block size of the compiled kernel, changes no result and is not used.
"""

from torch import Tensor

from .precision import gradients, widen


def _attend(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    # mmcv.ops imports this package: it is not complete before the first call.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    attended: Tensor = multi_scale_deformable_attn_pytorch(value, spatial_shapes.tolist(), locations, weights)
    return attended


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return (B, Q, heads * channels): for each query the weighted sum of bilinear samples of the value maps.

    Args:
        value: (B, sum of H * W, heads, channels), the levels one after the other.
        value_spatial_shapes: int64 (levels, 2), each level's H and W.
        value_level_start_index: int64 (levels,), redundant with the shapes.
        sampling_locations: (B, Q, heads, levels, points, 2), x and y in [0, 1]; outside, maps are 0.
        attention_weights: (B, Q, heads, levels, points).
        im2col_step: Not used.
    """
    inputs = [widen(part) for part in (value, sampling_locations, attention_weights)]
    return _attend(inputs[0], value_spatial_shapes, *inputs[1:]).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three `grad_` tensors, each of its input's shape; arguments as in the forward."""

    def attend(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return _attend(value, value_spatial_shapes, locations, weights)

    found = gradients(attend, [value, sampling_locations, attention_weights], grad_output)
    for out, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), found, strict=True):
        out.copy_(gradient)
