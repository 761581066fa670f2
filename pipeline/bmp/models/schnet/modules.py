"""The pieces of the parsing network: fine-tuning by tokens, semantic refinement, the head. Knows no image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Mixing = Literal["gate", "sum", "concatenate"]
"""How semantics join features: through a gate, added as they are, or side by side through one layer."""


class FineTuning(nn.Module):
    """Adapts frozen features by learnt tokens: each position takes from those that it attends to.

    Attention on the first token means "change nothing". The tokens of a place are a product of two thin matrices, the
    linear layers are shared by all places.

    Args:
        places: how many levels or blocks are adapted.
        channels: of the features.
        tokens: of each place.
        rank: of the product.
        shared: one pair of linear layers for all places, else one for each.
    """

    def __init__(self, places: int, channels: int, tokens: int = 100, rank: int = 16, shared: bool = True) -> None:
        super().__init__()
        reach = math.sqrt(6 / (3 * 16**2 + math.sqrt(rank * channels)))
        self.token_a = nn.Parameter(torch.empty(places, tokens, rank).uniform_(-reach, reach))
        self.token_b = nn.Parameter(torch.empty(places, rank, channels).uniform_(-reach, reach))
        count = 1 if shared else places
        self.of_tokens = nn.ModuleList(nn.Linear(channels, channels) for _ in range(count))
        self.of_features = nn.ModuleList(nn.Linear(channels, channels) for _ in range(count))
        self.scale = nn.Parameter(torch.tensor(0.001))

    def forward(self, features: Tensor, place: int) -> Tensor:
        """Adapt features (..., C) of a place."""
        tokens = self.token_a[place] @ self.token_b[place]
        number = place % len(self.of_tokens)
        weights = (features @ tokens.T / math.sqrt(features.shape[-1])).softmax(dim=-1)
        taken = weights[..., 1:] @ self.of_tokens[number](tokens[1:])
        change: Tensor = self.of_features[number](taken + features)
        return features + self.scale * change

    def maps(self, features: Tensor, place: int) -> Tensor:
        """Adapt features (B, C, h, w)."""
        adapted: Tensor = self(features.movedim(1, -1), place)
        return adapted.movedim(-1, 1)


class SemanticRefinement(nn.Module):
    """Adds semantics to the features of a level, as much as a gate lets through.

    Args:
        channels: of the features.
        semantic_channels: of the semantics.
        mixing: see ``Mixing``.
    """

    def __init__(self, channels: int, semantic_channels: int, mixing: Mixing = "gate") -> None:
        super().__init__()
        self.project = nn.Conv2d(semantic_channels, channels, 1)
        self.gate = None if mixing == "sum" else nn.Conv2d(2 * channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.mixing = mixing

    def forward(self, features: Tensor, semantics: Tensor) -> Tensor:
        """Refine features (B, C, h, w) by semantics (B, S, ., .), which may be coarser."""
        # Layers of one pixel commute with the enlargement, and cost less before it.
        added = F.interpolate(self.project(semantics), features.shape[2:], mode="bilinear", align_corners=False)
        if self.gate is not None:
            both = self.gate(torch.cat([features, added], dim=1))
            added = both.sigmoid() * added if self.mixing == "gate" else both
        change: Tensor = self.gamma[:, None, None] * self.out(added)
        return features + change


class ParsingHead(nn.Module):
    """From levels to the logits of labels and of edges between parts.

    Args:
        channels: of each level.
        labels: how many, background included.
        width: channels inside.
        pools: sides of the grids into which the coarsest level is pooled.
        joint: size of the space of the text embeddings for logits by cosine, beside the linear ones; None for none.
        scale: how many times the logits are as large as the first level.
    """

    def __init__(
        self,
        channels: Sequence[int],
        labels: int,
        width: int = 128,
        pools: Sequence[int] = (1, 2, 3, 6),
        joint: int | None = None,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.reduce = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.pools = tuple(pools)
        self.pooled = nn.ModuleList(nn.Conv2d(width, width // len(self.pools), 1) for _ in self.pools)
        self.join = nn.Conv2d(width + width // len(self.pools) * len(self.pools), width, 1) if self.pools else None
        self.fuse = nn.Conv2d(len(channels) * width, width, 3, padding=1, bias=False)
        # A layer of its own, so that it can start from zero: a mask is then no news until it has been learnt.
        self.of_mask = nn.Conv2d(1, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.of_mask.weight)
        self.norm = nn.GroupNorm(8, width)
        self.classify = nn.Conv2d(width, labels, 1)
        self.edge = nn.Conv2d(width, 1, 1)
        self.to_text = None if joint is None else nn.Conv2d(width, joint, 1)

    def forward(
        self, levels: Sequence[Tensor], mask: Tensor | None = None, text: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, labels, h, w) and edge logits (B, 1, h, w), of the first level's size times ``scale``.

        Args:
            levels: (B, C, ., .), the finest first.
            mask: float (B, 1, h, w), the person in question; None for the whole image.
            text: (labels, joint), normalised, for the logits by cosine.
        """
        reduced = [layer(level) for layer, level in zip(self.reduce, levels, strict=True)]
        coarsest = reduced[-1]
        if self.join is not None:
            grids = [
                _enlarged(layer(F.adaptive_avg_pool2d(coarsest, side)), coarsest.shape[2:])
                for layer, side in zip(self.pooled, self.pools, strict=True)
            ]
            reduced[-1] = self.join(torch.cat([coarsest, *grids], dim=1))
        size = [self.scale * side for side in reduced[0].shape[2:]]
        features = self.fuse(torch.cat([_enlarged(each, size) for each in reduced], dim=1))
        if mask is not None:
            features = features + self.of_mask(mask)
        features = F.gelu(self.norm(features))
        logits = self.classify(features)
        if self.to_text is not None and text is not None:
            logits = logits + 10 * similarity(self.to_text(features), text)
        return logits, self.edge(features)


def _enlarged(values: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(values, list(size), mode="bilinear", align_corners=False)


def similarity(patches: Tensor, text: Tensor) -> Tensor:
    """Return the cosines of patches (B, D, h, w) with texts (N, D), normalised: (B, N, h, w)."""
    return torch.einsum("bdhw,nd->bnhw", F.normalize(patches, dim=1), text)
