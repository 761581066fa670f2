"""What a parser learns from: cross-entropy, Lovász-softmax, and edges between parts. Knows no network."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

IGNORED = 255
"""The label of pixels that do not count."""


def lovasz_by_class(logits: Tensor, labels: Tensor) -> dict[int, Tensor]:
    """Return the Lovász extension of 1 - IoU for each class that is present.

    Berman et al., The Lovász-softmax loss, CVPR 2018; over all pixels of the batch together.

    Args:
        logits: float (B, C, h, w).
        labels: int64 (B, h, w), ``IGNORED`` for pixels that do not count.
    """
    counted = labels.flatten() != IGNORED
    probabilities = logits.softmax(dim=1).movedim(1, -1).flatten(0, 2)[counted]
    known = labels.flatten()[counted]
    losses = {}
    for number in torch.unique(known).tolist():
        own = (known == number).to(probabilities.dtype)
        errors, order = (own - probabilities[:, number]).abs().sort(descending=True)
        hits = own[order].cumsum(0)
        misses = (1 - own[order]).cumsum(0)
        total = own.sum()
        jaccard = 1 - (total - hits) / (total + misses)
        losses[number] = errors @ jaccard.diff(prepend=jaccard.new_zeros(1))
    return losses


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of ``lovasz_by_class``; 0 where no pixel counts."""
    losses = lovasz_by_class(logits, labels)
    return torch.stack(list(losses.values())).mean() if losses else logits.sum() * 0


def edges_of(labels: Tensor) -> Tensor:
    """Return which pixels have a neighbour at a side with another label: bool (B, h, w)."""
    edges = torch.zeros_like(labels, dtype=torch.bool)
    down, right = labels[:, 1:] != labels[:, :-1], labels[:, :, 1:] != labels[:, :, :-1]
    edges[:, 1:] |= down
    edges[:, :-1] |= down
    edges[:, :, 1:] |= right
    edges[:, :, :-1] |= right
    return edges


def edge_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of edge logits (B, 1, h, w); pixels on edges weigh the share of those that are not."""
    counted = labels != IGNORED
    edges = edges_of(labels)[counted]
    if not len(edges):
        return logits.sum() * 0
    share = edges.to(logits.dtype).mean()
    weights = torch.where(edges, 1 - share, share)
    return F.binary_cross_entropy_with_logits(logits[:, 0][counted], edges.to(logits.dtype), weights)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the pixels that count; 0 where none does."""
    if not bool((labels != IGNORED).any()):
        return logits.sum() * 0
    return F.cross_entropy(logits, labels, ignore_index=IGNORED)
