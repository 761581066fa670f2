"""Losses of the probabilistic head that MMPose lacks; they know maps, not the head that makes them."""

from __future__ import annotations

from mmpose.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ExpectedOKSLoss(nn.Module):  # type: ignore[misc,unused-ignore]
    """One minus the OKS to be expected when the place is drawn from the predicted distribution (ProbPose).

    A map of exact zeros around the target gets no gradient, so training has to start from flat maps: from
    ``init_weights``, as MMPose's runner does, or from trained weights.

    Args:
        loss_weight: factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, output: Tensor, target: Tensor, target_weights: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: (B, K, H, W), each map a probability distribution over its cells.
            target: (B, K, H, W) in [0, 1], the OKS that each cell would score.
            target_weights: (B, K), zero for keypoints that are not labelled.

        Returns:
            scalar, the weighted mean over the labelled keypoints, in [0, loss_weight].
        """
        missed = 1 - (output * target).sum((-2, -1))
        return self.loss_weight * (missed * target_weights).sum() / target_weights.sum().clamp_min(1)
