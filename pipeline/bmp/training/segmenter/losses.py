"""SAM 2's losses of masks, of predicted IoU and of object scores. They know no network and no prompts.

The formulas, and the weights 20, 1, 1 and 1, are those that SAM 2 was trained and is fine-tuned with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from bmp.errors import UserError

_HALF = 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """What SAM's mask decoder answered about B people with M masks each.

    logits: float (B, M, h, w), of the ground truth's size or a smaller one. ious: float (B, M), each mask's predicted
    IoU.
    object_scores: float (B, 1), the logit of there being anybody at all.
    """

    logits: Tensor
    ious: Tensor
    object_scores: Tensor


def focal_loss(logits: Tensor, ground_truth: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Compute the focal loss of masks (Lin et al., 2017), the mean over their pixels.

    Args:
        logits: float (B, M, H, W).
        ground_truth: bool (B, H, W).
        alpha: weight of the ground truth's pixels; the others' is 1 - alpha.
        gamma: how much less a pixel counts that is right already.

    Returns:
        float (B, M), at least 0.
    """
    target = ground_truth[:, None].to(logits.dtype).expand_as(logits)
    loss: Tensor = sigmoid_focal_loss(logits, target, alpha, gamma)
    return loss.mean(dim=(2, 3))


def dice_loss(logits: Tensor, ground_truth: Tensor) -> Tensor:
    """Compute 1 - (2 Σpt + 1) / (Σp + Σt + 1) of probabilities p and labels t over pixels (Milletari et al., 2016).

    The ones keep the loss of an empty mask of nobody at 0. ``logits`` and ``ground_truth`` as for ``focal_loss``;
    returns float (B, M) in [0, 1).
    """
    probability, target = logits.sigmoid().flatten(2), ground_truth[:, None].flatten(2).to(logits.dtype)
    shared = (probability * target).sum(dim=2)
    return 1 - (2 * shared + 1) / (probability.sum(dim=2) + target.sum(dim=2) + 1)


def iou_loss(logits: Tensor, ious: Tensor, ground_truth: Tensor) -> Tensor:
    """Compute the distance between predicted IoU float (B, M) and the actual one of the masks, 0 for two empty ones.

    ``logits`` and ``ground_truth`` as for ``focal_loss``; returns float (B, M). Only ``ious`` gets a gradient.
    """
    bits, target = (logits > 0).flatten(2), ground_truth[:, None].flatten(2)
    shared, joined = (bits & target).sum(dim=2), (bits | target).sum(dim=2)
    return (ious - shared / joined.clamp(min=1)).abs()


def object_score_loss(scores: Tensor, present: Tensor) -> Tensor:
    """Compute the cross-entropy of logits (B, 1) with whether anybody is there, bool (B,): float (B,)."""
    return F.binary_cross_entropy_with_logits(scores[:, 0], present.to(scores.dtype), reduction="none")


def mean_people(count: int, device: torch.device | str = "cpu") -> float:
    """Return how many people a process of the training has in this step, the mean over all of them, at least 1.

    Gradients are averaged over the processes. Divided by this number, everybody counts alike, in whichever process they
    are; divided by a process's own number, somebody in a crowd would count less.
    """
    total = torch.tensor(float(count), device=device)
    all_reduce(total, "mean")
    return max(1.0, float(total))


class SAMLoss(nn.Module):
    """The loss of all predictions of a training step: the first one and those after each correction.

    Of several masks the one with the lowest weighted sum of focal and dice loss counts, and the IoU head learns from
    all. Where the ground truth is empty, only the object score counts. Logits are scaled up to the ground truth as SAM
    scales them, in float32 whatever the network computes in.

    Args:
        focal: weight of the focal loss.
        dice: weight of the dice loss.
        iou: weight of the IoU's loss.
        object_score: weight of the object score's loss.
        stride: side in pixels of the squares by which masks are compared. 1 is what SAM does; 2 is good enough for a
            decoder whose pixels are larger, and where it is small itself, comparing takes half of a step's time.
    """

    def __init__(
        self, focal: float = 20.0, dice: float = 1.0, iou: float = 1.0, object_score: float = 1.0, stride: int = 1
    ) -> None:
        super().__init__()
        if stride < 1:
            raise UserError(f"loss: expected a stride of at least 1 pixel, got {stride}")
        self._stride = stride
        self.weights = {"focal": focal, "dice": dice, "iou": iou, "object_score": object_score}

    def forward(
        self, predictions: Sequence[Prediction], ground_truth: Tensor, people: float | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses, which are to be added up.

        Args:
            predictions: at least one, each about the same B people; the numbers of masks may differ.
            ground_truth: bool (B, H, W).
            people: what the sum over the B people is divided by, where they are not all that the step is about; see
                ``mean_people``. None for B.

        Returns:
            scalars "loss_focal", "loss_dice", "loss_iou" and "loss_object_score", weighted: the sum over the
            predictions, the mean over the people; 0 for nobody.
        """
        present = ground_truth.flatten(1).any(dim=1)
        if self._stride > 1:
            # A square counts as the person's where at least half of its pixels are.
            ground_truth = F.avg_pool2d(ground_truth.float()[:, None], self._stride)[:, 0] >= _HALF
        rows = torch.stack([self._one(prediction, ground_truth, present) for prediction in predictions]).sum(dim=0)
        losses = rows.sum(dim=1) / max(1, len(ground_truth) if people is None else people)
        return {f"loss_{name}": loss for name, loss in zip(self.weights, losses, strict=True)}

    def _one(self, prediction: Prediction, ground_truth: Tensor, present: Tensor) -> Tensor:
        """Return the weighted losses (4, B) of one prediction, in the order of the weights."""
        logits, ious, scores = prediction.logits.float(), prediction.ious.float(), prediction.object_scores.float()
        if logits.shape[2:] != ground_truth.shape[1:]:
            logits = F.interpolate(logits, ground_truth.shape[1:], mode="bilinear", align_corners=False)
        iou = self.weights["iou"] * iou_loss(logits, ious, ground_truth).mean(dim=1)
        if logits.shape[1] > 1:
            # The others get no gradient, so nothing of them is kept for it: pixels are most of a step's memory.
            with torch.no_grad():
                best = torch.stack(self._of_masks(logits, ground_truth)).sum(dim=0).argmin(dim=1)
            logits = logits[torch.arange(len(best), device=best.device), best][:, None]
        focal, dice = self._of_masks(logits, ground_truth)
        of_mask = torch.stack((focal[:, 0], dice[:, 0], iou))
        object_score = self.weights["object_score"] * object_score_loss(scores, present)
        return torch.cat((of_mask * present, object_score[None]))

    def _of_masks(self, logits: Tensor, ground_truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted focal and dice loss (B, M) of each mask."""
        return self.weights["focal"] * focal_loss(logits, ground_truth), self.weights["dice"] * dice_loss(
            logits, ground_truth
        )
