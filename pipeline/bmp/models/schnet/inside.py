"""SCHNet inside the blocks of SAM 1's encoder, on a crop of each person: the placement nearest to the paper.

Each person is encoded anew, with CLIP beside; the placement at the neck costs a fraction. Knows no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.transforms.v2.functional import normalize

from bmp.checkpoints.sources import RANDOM
from bmp.errors import UserError
from bmp.models.sam1 import build_sam1, embedded
from bmp.models.sam2 import PIXEL_MEAN, PIXEL_STD
from bmp.models.schnet.network import SCHNet, SCHNetSettings

STRIDE = 4
"""Logits are so many times smaller than the crop."""
Tuned = Literal["all", "none"] | int
"""What of SAM's encoder is trained: all, none, or so many of its last blocks."""


class InsideSCHNet(SCHNet):
    """Parses people from crops: fine-tuning after every block of SAM, semantics after some.

    Windows of attention and relative positions are SAM's, absolute positions are interpolated to the crop's tokens.
    What leaves the blocks in which semantics come in is normalised for the head, as MMPose and others do it for taps.

    Args:
        settings: its shape; ``inside`` names SAM's model.
        sam: weights of SAM, for ``bmp.checkpoints.sources.resolve``; "random" makes them up.

    Raises:
        ImportError: where segment-anything is not installed, or open_clip if the settings need it.
        UserError: for a model that does not exist, and settings that do not fit it.
    """

    def __init__(self, settings: SCHNetSettings, sam: str = RANDOM) -> None:
        encoder: Any = build_sam1(settings.inside, sam).image_encoder
        count, width = len(encoder.blocks), int(encoder.pos_embed.shape[-1])
        if set(settings.level_channels) != {width}:
            raise UserError(f"model.level_channels: expected {width} each, as in {settings.inside}")
        if list(settings.blocks) != sorted({block for block in settings.blocks if 0 <= block < count}):
            raise UserError(
                f"model.blocks: expected rising numbers of the {count} blocks of {settings.inside}, from 0, "
                f"got {settings.blocks}"
            )
        super().__init__(settings, places=count, scale=16 // STRIDE)
        self.patch_embed, self.pos_embed, self.blocks = encoder.patch_embed, encoder.pos_embed, encoder.blocks
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in settings.blocks)

    def tune(self, tuned: Tuned) -> None:
        """Let weights of SAM's encoder be trained, or not."""
        if tuned not in ("all", "none") and not (isinstance(tuned, int) and 0 <= tuned <= len(self.blocks)):
            raise UserError(f"tuned: expected 'all', 'none' or a number up to {len(self.blocks)}, got {tuned!r}")
        for part in (self.patch_embed, self.blocks):
            part.requires_grad_(tuned == "all")
        self.pos_embed.requires_grad_(tuned == "all")
        if isinstance(tuned, int):
            self.blocks[len(self.blocks) - tuned :].requires_grad_(True)

    def refine_crops(self, crops: Tensor) -> list[Tensor]:
        """Return features (P, C, H / 16, W / 16) of crops, one for each of the settings' ``blocks``.

        crops: float (P, 3, H, W) in [0, 255], as of ``crops_of``.
        """
        tokens = embedded(normalize(crops / 255, PIXEL_MEAN, PIXEL_STD), self.patch_embed, self.pos_embed)
        semantics: Sequence[Tensor] = ()
        if self.semantics is not None:
            semantics = self.semantics_of_levels(self.semantics.to_input(crops))
        refined: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if self.tuning is not None:
                tokens = self.tuning(tokens, number)
            if number not in self.settings.blocks:
                continue
            level = len(refined)
            if semantics:
                tokens = self.refinement[level](tokens.movedim(3, 1), semantics[level]).movedim(1, 3)
            refined.append(self.norms[level](tokens).movedim(3, 1))
        return refined


def crops_of(pixels: Tensor, windows: Tensor, size: tuple[int, int], rows: Tensor | None = None) -> Tensor:
    """Cut windows out of images and scale them, without aliasing.

    Args:
        pixels: uint8 (B, 3, H, W).
        windows: float (P, 4), xyxy in pixels.
        size: height and width of the crops.
        rows: int64 (P,), the image of each window; None for the first.

    Returns:
        float32 (P, 3, *size) in [0, 255], black outside the images.
    """
    extent = windows.to(pixels.device)
    numbers = torch.zeros(len(extent), 1, device=pixels.device) if rows is None else rows[:, None].to(extent)
    # As many samples a pixel as the window is larger than the crop.
    crops: Tensor = roi_align(pixels.float(), torch.cat([numbers, extent], dim=1), size, aligned=True)
    return crops
