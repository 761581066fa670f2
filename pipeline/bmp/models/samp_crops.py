"""SAMP's crop mode: SAM's ViT on each person's crop, with the detail-aware adapter, as parts of an MMPose model.

After the abstract of SAMP (ICME 2024); all beyond it is a reconstruction: that SAM's encoder is run on 16 x 12 tokens
with global attention in all blocks, where it is tapped, and what the heads are. The mask conditions the crop, as for
PMPose, and is not a channel of its own here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from mmpose.registry import MODELS
from torch import Tensor, nn

from bmp.checkpoints.sources import RANDOM
from bmp.errors import UserError
from bmp.models.pmpose.heads import ProbabilisticHeatmapHead
from bmp.models.sam1 import build_sam1, embedded
from bmp.models.samp import TEMPERATURE, DetailAdapter, resized

_AUXILIARY = (0.5, 0.25)  # weights of the losses of the coarser levels


@MODELS.register_module()
class SAMPBackbone(nn.Module):
    """The image encoder of SAM 1 on crops, and the adapter: crops to three levels of features.

    Its parts have the names of mmpretrain's ViT, by which MMPose's layer-wise decay of learning rates finds them.
    Absolute positions are interpolated to the crop's tokens (bicubic), relative ones by SAM's own rule.

    Args:
        checkpoint: SAM's, for ``bmp.checkpoints.sources.resolve``; "random" makes weights up.
        model: "vit_b", "vit_l" or "vit_h".
        taps: the blocks, from 0, whose outputs are used. By default those of ViT-B with global attention in SAM.
        tap_weights: "learned" for a mean with learned weights, "equal" for the mean.
        channels: C of the adapter.
        stem_channels, fusion: see ``bmp.models.samp.DetailAdapter``.
        trained: "all" of the encoder, "none", or how many of its last blocks.
        drop_path_rate: chance in training that the last block is left out for a crop; earlier ones in proportion.

    Raises:
        ImportError: where segment-anything is not installed.
        UserError: for a model that does not exist, and taps that it does not have.
    """

    def __init__(
        self,
        checkpoint: str = RANDOM,
        model: str = "vit_b",
        taps: Sequence[int] = (2, 5, 8, 11),
        tap_weights: Literal["learned", "equal"] = "learned",
        channels: int = 256,
        stem_channels: Sequence[int] | None = (32, 64, 128, 256),
        fusion: Literal["blocks", "sum"] = "blocks",
        trained: Literal["all", "none"] | int = "all",
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        encoder: Any = build_sam1(model, checkpoint).image_encoder
        count = len(encoder.blocks)
        if not taps or any(not 0 <= tap < count for tap in taps):
            raise UserError(f"taps: expected some of the {count} blocks of {model}, from 0, got {tuple(taps)}")
        if tap_weights not in ("learned", "equal"):
            raise UserError(f"tap_weights: expected 'learned' or 'equal', got {tap_weights!r}")
        self.patch_embed, self.pos_embed, self.layers = encoder.patch_embed, encoder.pos_embed, encoder.blocks
        for layer in self.layers:
            layer.window_size = 0  # a window of 14 would be larger than most crops
        self.requires_grad_(trained == "all")
        if isinstance(trained, int):
            for layer in self.layers[count - trained :]:
                layer.requires_grad_(True)
        width = encoder.pos_embed.shape[-1]
        self.taps = tuple(taps)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in taps)
        self.projections = nn.ModuleList(nn.Conv2d(width, channels, 1) for _ in taps)
        self.tap_scores = nn.Parameter(torch.zeros(len(taps)), requires_grad=tap_weights == "learned")
        self.adapter = DetailAdapter(channels, stem_channels, 3, fusion)
        self.drop_rates = torch.linspace(0, drop_path_rate, count).tolist()

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return F4, F8 and F16 of normalised crops (P, 3, H, W): a quarter, an eighth and a sixteenth of the crop."""
        coarse = self._tapped(crops)
        rows, columns = coarse.shape[-2:]
        levels = [resized(coarse, (rows * scale, columns * scale)) for scale in (4, 2, 1)]
        fused: tuple[Tensor, Tensor, Tensor] = self.adapter(levels, crops)
        return fused

    def init_weights(self) -> None:
        """Keep the weights that there are, SAM's; MMPose's runner asks every backbone."""

    def _tapped(self, crops: Tensor) -> Tensor:
        """Return the weighted mean of the taps, (P, C, H / 16, W / 16)."""
        tokens = embedded(crops, self.patch_embed, self.pos_embed)
        shares, levels = self.tap_scores.softmax(0), []
        for number, (layer, rate) in enumerate(zip(self.layers, self.drop_rates, strict=True)):
            tokens = self._layer(layer, tokens, rate)
            if number in self.taps:
                row = self.taps.index(number)
                normal = self.norms[row](tokens).permute(0, 3, 1, 2)
                levels.append(shares[row] * self.projections[row](normal))
        return torch.stack(levels).sum(0)

    def _layer(self, layer: nn.Module, tokens: Tensor, rate: float) -> Tensor:
        made: Tensor = layer(tokens)
        if not self.training or not rate:
            return made
        kept = (torch.rand(len(tokens), 1, 1, 1, device=tokens.device) >= rate).to(tokens.dtype)
        return tokens + (made - tokens) * kept / (1 - rate)


@MODELS.register_module()
class SAMPHead(ProbabilisticHeatmapHead):
    """The probabilistic head on three levels: maps of the finest, branches of the coarsest, all of them supervised.

    Args:
        in_channels: C of the adapter.
        out_channels: K.
        auxiliary: also supervise the maps of the two coarser levels.
        **kwargs: the other arguments of ``ProbabilisticHeatmapHead``; it has no deconvolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, auxiliary: bool = True, **kwargs: Any) -> None:
        kwargs = {"with_error": False, **kwargs, "deconv_out_channels": (), "deconv_kernel_sizes": ()}
        super().__init__(in_channels, out_channels, **kwargs)
        self.auxiliary = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 1) for _ in range(len(_AUXILIARY) if auxiliary else 0)
        )

    def _scores(self, feats: tuple[Tensor, ...]) -> Tensor:
        return super()._scores(feats[:1])

    def loss(self, feats: Any, batch_data_samples: Any, train_cfg: Any = None) -> dict[str, Tensor]:
        """Compute the losses of all levels; see ``ProbabilisticHeatmapHead.loss``."""
        losses: dict[str, Tensor] = super().loss(feats, batch_data_samples, train_cfg)
        targets = torch.stack([sample.gt_fields.heatmaps for sample in batch_data_samples])
        weights = torch.cat([sample.gt_instance_labels.keypoint_weights for sample in batch_data_samples])
        for number, (layer, level, share) in enumerate(zip(self.auxiliary, feats[1:], _AUXILIARY, strict=False), 1):
            scores = resized(layer(level).float(), targets.shape[-2:]) / TEMPERATURE
            maps = self.maps(scores)
            losses[f"loss_kpt{number}"] = share * self.loss_module(maps, targets, weights)
            if self.score_loss is not None:
                known = maps if self.normalize == 1 else None
                losses[f"loss_scores{number}"] = share * self.score_loss(scores, targets, weights, known)
        return losses
