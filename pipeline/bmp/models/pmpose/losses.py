"""Losses of the probabilistic head that MMPose lacks; they know maps and their scores, not the head that makes them."""

from __future__ import annotations

import torch
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from bmp.ops.sparsemax import sparsemax


@MODELS.register_module()
class ExpectedOKSLoss(nn.Module):  # type: ignore[misc,unused-ignore]
    """One minus the expected OKS of a location drawn from the predicted distribution (ProbPose).

    A map of exact zeros around the target gets no gradient. Training has to start from flat maps, from
    ``init_weights`` as MMPose's runner does, or from trained weights; and ``SparsemaxLoss`` beside this one recovers
    maps that lost their target on the way.

    Args:
        loss_weight: factor of the result.
        smoothing_weight: in [0, 1], the share of the result that is a penalty on the slope of the maps: the squared
            length of their gradient (Sobel's, in units of a cell), summed over the cells. The release has 0.05.

    Raises:
        ValueError: for a share outside [0, 1].
    """

    def __init__(self, loss_weight: float = 1.0, smoothing_weight: float = 0.0) -> None:
        super().__init__()
        if not 0 <= smoothing_weight <= 1:
            raise ValueError(f"ExpectedOKSLoss: expected smoothing_weight in [0, 1], got {smoothing_weight}")
        self.loss_weight = loss_weight
        self.smoothing_weight = smoothing_weight

    def forward(self, output: Tensor, target: Tensor, target_weights: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: (B, K, H, W), each map a probability distribution over its cells.
            target: (B, K, H, W) in [0, 1], the OKS of a prediction in each cell.
            target_weights: (B, K), zero for keypoints that are not labelled.

        Returns:
            scalar, the weighted mean over the labelled keypoints, at least 0; in [0, loss_weight] without smoothing.
        """
        values = 1 - (output * target).sum((-2, -1))
        if self.smoothing_weight:
            values = (1 - self.smoothing_weight) * values + self.smoothing_weight * _slope(output)
        return self.loss_weight * (values * target_weights).sum() / target_weights.sum().clamp_min(1)


@MODELS.register_module()
class SparsemaxLoss(nn.Module):  # type: ignore[misc,unused-ignore]
    """The loss that belongs to sparsemax (Martins and Astudillo, 2016; a Fenchel-Young loss of Blondel et al., 2020).

    With p the sparsemax of the scores and q the target scaled to sum 1, it is <p - q, scores> - (|p|² - |q|²) / 2:
    convex in the scores, zero where p is q, and with the gradient p - q in every cell, also in those where the map is
    exactly zero. So it pulls a distribution towards a target that it does not touch.

    Args:
        loss_weight: factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor, target: Tensor, target_weights: Tensor, maps: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            scores: float (B, K, H, W), the input of the sparsemax over the cells of each map.
            target: (B, K, H, W), not negative; a map of zeros has no target distribution, and needs weight zero.
            target_weights: (B, K), zero for keypoints that are not labelled.
            maps: (B, K, H, W), the sparsemax of the scores where it is known already.

        Returns:
            scalar, the weighted mean over the labelled keypoints, at least 0.
        """
        cells, wanted = scores.float().flatten(2), target.float().flatten(2)
        wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(1e-6)
        # The gradient through p vanishes: p is where the maximum that defines the loss is taken.
        given = sparsemax(cells.detach()) if maps is None else maps.detach().flatten(2)
        apart = ((given - wanted) * cells).sum(-1) - (given.square() - wanted.square()).sum(-1) / 2
        return self.loss_weight * (apart * target_weights).sum() / target_weights.sum().clamp_min(1)


def _slope(maps: Tensor) -> Tensor:
    """Return the squared length of the gradient of maps (B, K, H, W), summed over the cells: (B, K)."""
    across = maps.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    kernels = torch.stack([across, across.T])[:, None]
    gradient = functional.conv2d(maps.flatten(0, 1)[:, None], kernels, padding=1)
    return gradient.square().sum((1, 2, 3)).view(maps.shape[:2])
