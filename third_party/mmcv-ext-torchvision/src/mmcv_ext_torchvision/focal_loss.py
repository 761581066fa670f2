"""The focal losses, as `mmcv.ops.focal_loss` calls them. It knows nothing of how losses are reduced.

With no class weights mmcv passes an empty tensor. A row whose target is the number of classes is background: all its
classes are negative, and as no class weight belongs to it, its weight is 1.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .precision import gradients, widen


def _row_weight(target: Tensor, weight: Tensor) -> Tensor | float:
    """Return the class weight of each row's target, (N, 1), or 1 where there are no class weights."""
    if not weight.numel():
        return 1.0
    weight = widen(weight)
    return torch.cat((weight, weight.new_ones(1)))[target][:, None]


def _sigmoid_focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    logits = widen(logits)
    positive = target[:, None] == torch.arange(logits.shape[1], device=logits.device)
    # exp(gamma * log q) in place of q ** gamma: its gradient stays finite where q is 0.
    log_yes, log_no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    loss_if_positive = -alpha * torch.exp(gamma * log_no) * log_yes
    loss_if_negative = -(1 - alpha) * torch.exp(gamma * log_yes) * log_no
    return torch.where(positive, loss_if_positive, loss_if_negative) * _row_weight(target, weight)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill `output` (N, C) with the loss of every class of logits `input` (N, C).

    Args:
        input: Logits.
        target: int64 (N,) in [0, C]; C is background.
        weight: (C,) or empty.
        output: Filled.
        gamma: Exponent that fades out easy examples.
        alpha: Weight of positives; negatives have 1 - alpha.
    """
    output.copy_(_sigmoid_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill `grad_input` (N, C) with the derivative of each loss with respect to its own logit (see the forward)."""

    def loss(logits: Tensor) -> Tensor:
        return _sigmoid_focal_loss(logits, target, weight, gamma, alpha)

    (gradient,) = gradients(loss, [input], torch.ones_like(input))
    grad_input.copy_(gradient)


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill `output` (N,) with -alpha (1 - p)^gamma log p, p the probability of the target.

    Args:
        softmax: (N, C) probabilities.
        target: int64 (N,) in [0, C); a negative one gives loss 0.
        weight: (C,) or empty.
        output: Filled.
        gamma: Exponent that fades out easy examples.
        alpha: Factor of the whole loss.
    """
    probability, row_weight = _of_target(softmax, target, weight)
    loss = -alpha * (1 - probability) ** gamma * probability.log()
    output.copy_((loss * row_weight).flatten())


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill `grad_input` (N, C) with the derivative of each row's loss with respect to its logits.

    `buff` (N,) gets the derivative with respect to log p: the factor that a row's classes share.
    """
    probability, row_weight = _of_target(softmax, target, weight)
    miss = 1 - probability
    # miss ** (gamma - 1) is infinite at p = 1 for gamma < 1, where its factor log p is 0.
    slope = gamma * miss.clamp(min=torch.finfo(miss.dtype).tiny) ** (gamma - 1) * probability * probability.log()
    shared = alpha * (slope - miss**gamma) * row_weight
    buff.copy_(shared.flatten())
    own = torch.zeros_like(softmax, dtype=shared.dtype).scatter_(1, target.clamp(min=0)[:, None], 1)
    grad_input.copy_(shared * (own - widen(softmax)))


def _of_target(softmax: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the target's probability, above 0, and the weight of each row, 0 where the target is negative; (N, 1)."""
    probabilities = widen(softmax)
    probability = probabilities.gather(1, target.clamp(min=0)[:, None])
    row_weight = (target >= 0)[:, None] * _row_weight(target.clamp(min=0), weight)
    return probability.clamp(min=torch.finfo(probability.dtype).tiny), row_weight
