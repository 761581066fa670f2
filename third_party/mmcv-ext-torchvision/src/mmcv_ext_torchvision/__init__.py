"""The operators of `mmcv._ext` 2.1 by name: those implemented here, and for the others a function that says so.

It knows the names that mmcv asks for; how an operator works is the affair of its own module.
"""

from .attention import ms_deform_attn_backward, ms_deform_attn_forward
from .boxes import bbox_overlaps, nms, nms_match, softnms
from .convolution import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    masked_col2im_forward,
    masked_im2col_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .roi_align import roi_align_backward, roi_align_forward
from .unavailable import UNAVAILABLE, unavailable
from .upsampling import carafe_backward, carafe_forward, carafe_naive_backward, carafe_naive_forward


def get_compiler_version() -> str:
    """What `mmcv.utils.collect_env` prints as mmcv's compiler."""
    return "none: operators by mmcv-ext-torchvision"


def get_compiling_cuda_version() -> str:
    """What `mmcv.utils.collect_env` prints as the CUDA version mmcv was compiled with (its own words for none)."""
    return "not available"


IMPLEMENTED = {
    operator.__name__: operator
    for operator in (
        bbox_overlaps,
        carafe_backward,
        carafe_forward,
        carafe_naive_backward,
        carafe_naive_forward,
        deform_conv_backward_input,
        deform_conv_backward_parameters,
        deform_conv_forward,
        get_compiler_version,
        get_compiling_cuda_version,
        masked_col2im_forward,
        masked_im2col_forward,
        modulated_deform_conv_backward,
        modulated_deform_conv_forward,
        ms_deform_attn_backward,
        ms_deform_attn_forward,
        nms,
        nms_match,
        roi_align_backward,
        roi_align_forward,
        sigmoid_focal_loss_backward,
        sigmoid_focal_loss_forward,
        softmax_focal_loss_backward,
        softmax_focal_loss_forward,
        softnms,
    )
}
OPERATORS = IMPLEMENTED | {name: unavailable(name) for name in UNAVAILABLE}
