"""How points that belong together move: who leaves the others behind, and the motion that all share.

Points are float32 (M, 2), x and y in pixels, on any device. Knows no tracker, no person and no picture.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

_FEWEST = 3  # points from which a motion can be told from the error of one of them
_TRIALS = 200  # samples of RANSAC


def within_border(points: Tensor, height: int, width: int, share: float = 0.01) -> Tensor:
    """Say which points (M, 2) lie in the picture and outside its border: bool (M,).

    The border is that share of the sides; a point on its inner edge is within.

    Examples:
        >>> within_border(torch.tensor([[50.0, 20.0], [0.5, 20.0], [101.0, 20.0]]), 40, 100).tolist()
        [True, False, False]
    """
    relative = points / points.new_tensor([width, height])
    return ((relative >= share) & (relative <= 1 - share)).all(dim=-1)


def agreeing(
    before: Tensor,
    after: Tensor,
    seen: Tensor,
    owners: Tensor,
    *,
    side: int,
    heights: Tensor,
    loose: Tensor | None = None,
) -> Tensor:
    """Say which of the points that a tracker saw moved like the other points of their owner: bool (M,).

    A point that jumps much farther than the median of its owner's points is on something else. The rest has to fit a
    similarity (shift, turn and scale), which RANSAC finds.

    Args:
        before: (M, 2), in the frame before.
        after: (M, 2), in this frame.
        seen: bool (M,), the tracker's own verdict, which stays false where it is.
        owners: int64 (M,), whose each point is, numbered from 0.
        side: the longer side of the picture in pixels; a jump of 30 in 320 pixels is too much.
        heights: (owners,), height of each owner in pixels; 5 pixels and 3 % of it may lie between a point and the fit.
        loose: bool (M,), points of limbs, which may be twice as far from it; None for none.

    Owners with fewer than three seen points are left as they are: there is nothing to compare with.
    """
    result = seen.clone()
    moved = after - before
    for owner in sorted(set(owners[seen].tolist())):
        rows = ((owners == owner) & result).nonzero()[:, 0]
        if len(rows) < _FEWEST:
            continue
        jump = (moved[rows] - moved[rows].median(dim=0).values).norm(dim=1)
        result[rows[jump > 30 * side / 320]] = False
        rows = rows[result[rows]]
        if len(rows) < _FEWEST:
            continue
        allowed = 5 + 0.03 * float(heights[owner])
        matrix = similarity(before[rows], after[rows], allowed)
        limits = torch.full((len(rows),), allowed, device=after.device)
        if loose is not None:
            limits = torch.where(loose[rows], 2 * limits, limits)
        fits = torch.zeros_like(limits, dtype=torch.bool)
        if matrix is not None:
            fits = (transformed(before[rows], matrix) - after[rows]).norm(dim=1) <= limits
        result[rows] = fits
    return result


def similarity(before: Tensor, after: Tensor, tolerance: float) -> Tensor | None:
    """Return the shift, turn and scale that carries most points (M, 2) to within ``tolerance`` pixels of ``after``.

    Returns float32 (2, 3), for ``transformed``, or None where fewer than two points fit one. The same input always
    gives the same answer.
    """
    if len(before) < 2:
        return None
    first, second = (points.detach().cpu().numpy().astype(np.float64) for points in (before, after))
    matrix, _ = cv2.estimateAffinePartial2D(
        first, second, method=cv2.RANSAC, ransacReprojThreshold=tolerance, maxIters=_TRIALS, confidence=0.999
    )
    if matrix is None or not np.isfinite(matrix).all():
        return None
    return torch.from_numpy(matrix.astype(np.float32)).to(before.device)


def transformed(points: Tensor, matrix: Tensor) -> Tensor:
    """Return points (..., 2) carried by a matrix (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]
