"""The first layers of a small ViT in place of raw patches; registered into MMEngine as a convolution, knows no ViT."""

from __future__ import annotations

from itertools import pairwise

from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.utils import _pair


@MODELS.register_module()
class ConvStem(nn.Sequential):
    """Three convolutions of stride 2 in place of one of stride 8 (Xiao et al., 2021).

    A ViT that starts from random weights learns faster, and more, than with a linear projection of patches. For
    ``patch_size=8, patch_cfg=dict(conv_type="ConvStem")`` of a VisionTransformer.

    Args:
        in_channels: of the image.
        out_channels: of the patches' embeddings, a multiple of 4.
        kernel_size, stride: of the replaced convolution, have to be 8.
        padding, dilation: likewise, have to be 0 and 1.
        bias: of no use before a normalization.

    Raises:
        ValueError: for another geometry.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 8,
        stride: int | tuple[int, int] = 8,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = False,
    ) -> None:
        geometry = (_pair(kernel_size), _pair(stride), _pair(padding), _pair(dilation))
        if geometry != (_pair(8), _pair(8), _pair(0), _pair(1)):
            raise ValueError(
                f"ConvStem: expected patches of 8 pixels side by side, got {kernel_size} pixels every {stride} with "
                f"padding {padding} and dilation {dilation}; set patch_size=8 and patch_cfg.padding=0"
            )
        widths = (in_channels, out_channels // 4, out_channels // 2, out_channels)
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        # The last one's sign is for the transformer to use.
        super().__init__(*layers[:-1])
