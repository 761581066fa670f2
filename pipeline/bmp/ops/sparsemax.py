"""Sparsemax (Martins and Astudillo, 2016): the nearest probability distribution, most of it exact zeros."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LARGEST = 256


def sparsemax(scores: Tensor) -> Tensor:
    """Project each row onto the probability simplex.

    The result is max(scores - threshold, 0), with the one threshold for which a row sums to 1. It is exact up to
    float32 rounding, computed in float32 for any input type, and differentiable.

    Args:
        scores: float (..., N), N at least 1.

    Returns:
        float32 (..., N), each row in [0, 1] with sum 1.
    """
    return _Sparsemax.apply(scores.float())  # type: ignore[no-any-return]


class _Sparsemax(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, scores: Tensor) -> Tensor:
        # Moving the maximum to 0 costs nothing and keeps the sums small, hence accurate.
        scores = scores - scores.amax(-1, keepdim=True)
        result = (scores - _threshold(scores)).clamp_min(0)
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (result,) = context.saved_tensors
        support = result > 0
        mean = (gradient * support).sum(-1, keepdim=True) / support.sum(-1, keepdim=True)
        return torch.where(support, gradient - mean, 0)


def _threshold(scores: Tensor) -> Tensor:
    """Find the threshold of rows whose maximum is 0, (..., 1).

    That of the largest scores alone is the same wherever all the others lie below it, as in every peaked map.
    """
    if scores.shape[-1] > 2 * _LARGEST:
        largest = scores.topk(_LARGEST, sorted=False).values
        threshold = _newton(largest)
        if bool((largest.amin(-1, keepdim=True) <= threshold).all()):
            return threshold
    return _newton(scores)


def _newton(scores: Tensor) -> Tensor:
    """Find the threshold from all scores of rows whose maximum is 0, (..., 1).

    Newton's method on the convex, piecewise linear sum of max(scores - t, 0): from the left it never overshoots, the
    support only shrinks, and when the support stands still the threshold is exact. A few passes over the data
    replace sorting each row.
    """
    support = scores > -1
    while True:
        size = support.sum(-1, keepdim=True)
        threshold = (torch.where(support, scores, 0).sum(-1, keepdim=True) - 1) / size
        smaller = support & (scores > threshold)
        if torch.equal(smaller, support):
            return threshold
        support = smaller
