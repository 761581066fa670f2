"""The expected-OKS loss by hand."""

import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from bmp.mmpose_ext.losses import ExpectedOKSLoss


def test_by_hand():
    output = torch.zeros(1, 3, 2, 2)
    output[0, 0, 0, 0] = 1  # sure and right
    output[0, 1, 0, 0] = output[0, 1, 1, 1] = 0.5  # half of it where the OKS is 0.4
    output[0, 2, 1, 1] = 1  # sure and wrong, but not labelled
    target = torch.tensor([[1.0, 0.2], [0.2, 0.4]]).expand(1, 3, 2, 2)
    weights = torch.tensor([[1.0, 1.0, 0.0]])
    loss = ExpectedOKSLoss(loss_weight=2.0)(output, target, weights)
    assert loss.item() == pytest.approx(2 * (0 + (1 - 0.7)) / 2)


def test_nothing_labelled():
    loss = ExpectedOKSLoss()(torch.ones(1, 2, 2, 2) / 4, torch.ones(1, 2, 2, 2), torch.zeros(1, 2))
    assert loss.item() == 0
