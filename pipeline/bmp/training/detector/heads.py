"""RTMDet-Ins's head for training on a CPU: the same layers and losses, with less work; knows no backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import RTMDetInsSepBNHead
from mmdet.registry import MODELS
from torch import Tensor

from bmp.models.rtmdet_ins import forward_head


@MODELS.register_module()
class QuickRTMDetInsHead(RTMDetInsSepBNHead):  # type: ignore[misc,unused-ignore]
    """MMDetection's ``RTMDetInsSepBNHead`` with the same weights and outputs.

    No branch is computed twice. The small networks that draw the masks, one for each location with a person, are
    matrix products instead of grouped convolutions, which a CPU computes one after the other.
    """

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
        """Return classes, distances and kernels of each level, and the features of the masks."""
        return forward_head(self, feats)

    def _mask_predict_by_feat_single(self, mask_feat: Tensor, kernels: Tensor, priors: Tensor) -> Tensor:
        """Return the logits (N, H, W) of the masks that ``kernels`` (N, P) at ``priors`` (N, 4) draw."""
        height, width = mask_feat.shape[-2:]
        centres = self.prior_generator.single_level_grid_priors((height, width), level_idx=0, device=mask_feat.device)
        offsets = (priors[:, None, :2] - centres) / (priors[:, None, 2:3] * 8)
        sizes = [*self.weight_nums, *self.bias_nums]
        parts: Sequence[Tensor] = torch.split_with_sizes(kernels, sizes, dim=1)
        weights, biases = parts[: self.num_dyconvs], parts[self.num_dyconvs :]
        first, *others = (
            weight.reshape(len(weight), bias.shape[1], weight.shape[1] // bias.shape[1])
            for weight, bias in zip(weights, biases, strict=True)
        )
        # The features are the same for everybody and need not be copied beside each one's offsets.
        maps: Tensor = (
            first[..., 2:] @ mask_feat.flatten(1) + first[..., :2] @ offsets.transpose(1, 2) + biases[0][..., None]
        )
        for weight, bias in zip(others, biases[1:], strict=True):
            maps = torch.baddbmm(bias[..., None], weight, maps.relu())
        return maps.reshape(-1, height, width)
