"""Object keypoint similarity, COCO's measure of how similar poses are. Knows tensors, no keypoint set, no record."""

from __future__ import annotations

import torch
from torch import Tensor


def oks(reference: Tensor, candidates: Tensor, area: Tensor, sigmas: Tensor, visible: Tensor | None = None) -> Tensor:
    """Compare each reference pose with each candidate.

    Per keypoint exp(-d² / (2 · area · (2 · sigma)²)), averaged over the visible keypoints of the reference.

    Args:
        reference: (N, K, 2), x and y in pixels.
        candidates: (M, K, 2), likewise.
        area: (N,), of the reference people in square pixels.
        sigmas: (K,), falloff of each keypoint as a fraction of sqrt(area).
        visible: bool (N, K), which keypoints of the reference count; None for all of them.

    Returns:
        (N, M) in [0, 1], in the precision of the poses; 0 for a reference without visible keypoints.
    """
    squared = (reference[:, None] - candidates[None]).square().sum(dim=-1)
    falloff = 2 * area[:, None] * (2 * sigmas.to(area)).square()  # (N, K)
    # A person without area is similar only to an exact copy of itself; without a lower limit that would be 0 / 0.
    similarity = torch.exp(-squared / falloff.clamp(min=torch.finfo(falloff.dtype).tiny)[:, None])
    if visible is None:
        return similarity.mean(dim=-1)
    counts = visible.to(similarity)
    return (similarity * counts[:, None]).sum(dim=-1) / counts.sum(dim=1, keepdim=True).clamp(min=1)
