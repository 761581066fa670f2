"""SAM 1: the networks of segment_anything, built and loaded. Knows no prompt policy."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.errors import MissingExtraError, UserError


def build_sam1(model: str, checkpoint: str) -> Any:
    """Return the network on the CPU, in evaluation mode; arguments and errors as for ``SAM1Segmenter``."""
    try:
        from segment_anything import sam_model_registry
    except ImportError as error:
        raise MissingExtraError("SAM1Segmenter", "segment-anything", "openmmlab", error) from error
    if model not in sam_model_registry:
        raise UserError(f"model {model!r} does not exist; there is: {', '.join(sorted(sam_model_registry))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = sam_model_registry[model]()
    if checkpoint != RANDOM:
        path = resolve(checkpoint)
        load_strictly(network, load_state_dict(path), file=path)
    return network.eval().requires_grad_(False)


def embedded(crops: Tensor, patch_embed: nn.Module, pos_embed: Tensor) -> Tensor:
    """Return the tokens that enter the first block for crops of any size, (P, H / 16, W / 16, C).

    Args:
        crops: float (P, 3, H, W), normalised.
        patch_embed: of SAM's image encoder.
        pos_embed: (1, rows, columns, C), of SAM's image encoder; interpolated to the crops' tokens (bicubic).
    """
    tokens: Tensor = patch_embed(crops)
    positions = F.interpolate(pos_embed.movedim(3, 1), tokens.shape[1:3], mode="bicubic", align_corners=False)
    return tokens + positions.movedim(1, 3)
