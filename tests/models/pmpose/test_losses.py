"""The losses of the maps by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from bmp.models.pmpose.losses import ExpectedOKSLoss, SparsemaxLoss
from bmp.ops.sparsemax import sparsemax


def test_by_hand():
    output = torch.zeros(1, 3, 2, 2)
    output[0, 0, 0, 0] = 1  # sure and right
    output[0, 1, 0, 0] = output[0, 1, 1, 1] = 0.5  # half of it where the OKS is 0.4
    output[0, 2, 1, 1] = 1  # sure and wrong, but not labelled
    target = torch.tensor([[1.0, 0.2], [0.2, 0.4]]).expand(1, 3, 2, 2)
    weights = torch.tensor([[1.0, 1.0, 0.0]])
    loss = ExpectedOKSLoss(loss_weight=2.0)(output, target, weights)
    assert loss.item() == pytest.approx(2 * (0 + (1 - 0.7)) / 2)


def test_smoothing_by_hand():
    """A lone cell: the slope across is 2/8 on two sides of it and 1/8 in four corners, and so is the slope down."""
    output = torch.zeros(1, 1, 3, 3)
    output[0, 0, 1, 1] = 1
    slope = 2 * (4 * (1 / 8) ** 2 + 2 * (2 / 8) ** 2)
    loss = ExpectedOKSLoss(smoothing_weight=0.25)(output, torch.zeros(1, 1, 3, 3), torch.ones(1, 1))
    assert loss.item() == pytest.approx(0.75 * 1 + 0.25 * slope)
    flat = ExpectedOKSLoss(smoothing_weight=1.0)(torch.ones(1, 1, 9, 9) / 81, torch.zeros(1, 1, 9, 9), torch.ones(1, 1))
    assert flat < 0.01 * slope  # only its border rises


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_of_smoothing_outside_its_range(share):
    with pytest.raises(ValueError, match="smoothing_weight in"):
        ExpectedOKSLoss(smoothing_weight=share)


def test_nothing_labelled():
    loss = ExpectedOKSLoss()(torch.ones(1, 2, 2, 2) / 4, torch.ones(1, 2, 2, 2), torch.zeros(1, 2))
    assert loss.item() == 0


def _row(values):
    return torch.tensor(values).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("scores", "target", "expected"),
    [
        # Sparsemax of (0, 0) is (1/2, 1/2): -(1/2 - 1) / 2.
        ([0.0, 0.0], [1.0, 0.0], 0.25),
        # The target is scaled to (3/4, 1/4): -(1/2 - 10/16) / 2.
        ([0.0, 0.0], [0.9, 0.3], 0.0625),
        # p = (1, 0), sure and right, at a margin of 1 or more.
        ([1.0, 0.0], [1.0, 0.0], 0.0),
        ([9.0, 0.0], [1.0, 0.0], 0.0),
        # p = (1, 0), sure and wrong: <(1, -1), (3, 0)> = 3, both norms are 1.
        ([3.0, 0.0], [0.0, 1.0], 3.0),
        # p = (3/4, 1/4) is what is wanted.
        ([0.5, 0.0], [0.75, 0.25], 0.0),
    ],
)
def test_sparsemax_loss_by_hand(scores, target, expected):
    loss = SparsemaxLoss(loss_weight=2.0)(_row(scores), _row(target), torch.ones(1, 1))
    assert loss.item() == pytest.approx(2 * expected, abs=1e-6)


def test_sparsemax_loss_is_the_mean_over_the_labelled():
    scores, target = torch.zeros(2, 2, 1, 2), torch.zeros(2, 2, 1, 2)
    target[0, 0, 0, 0] = 1  # 0.25
    target[0, 1] = 0.5  # 0
    target[1, :, 0, 0] = 1  # not labelled
    weights = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert SparsemaxLoss()(scores, target, weights).item() == pytest.approx(0.125)
    assert SparsemaxLoss()(scores, target, 0 * weights).item() == 0
    maps = sparsemax(scores.flatten(2)).view_as(scores)
    assert SparsemaxLoss()(scores, target, weights, maps).item() == pytest.approx(0.125)


_scores = st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=8)


@given(_scores, st.integers(0, 2**16))
def test_sparsemax_loss_is_never_negative_and_its_gradient_is_the_difference(values, seed):
    scores = _row(values).requires_grad_()
    wanted = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) + 0.01
    wanted /= wanted.sum()
    loss = SparsemaxLoss()(scores, 3 * wanted, torch.ones(1, 1))
    assert loss.item() > -1e-5
    loss.backward()
    torch.testing.assert_close(scores.grad, sparsemax(scores.detach()) - wanted, atol=1e-5, rtol=0)


def test_a_map_of_zeros_around_the_target_is_freed():
    # All probability lies in the last cell, the target in the first.
    scores, target = _row([0.0, 0.0, 0.0, 5.0]), _row([1.0, 0.5, 0.0, 0.0])
    weights = torch.ones(1, 1)

    def gradient(loss):
        leaf = scores.clone().requires_grad_()
        loss(leaf).backward()
        return leaf.grad.flatten().tolist()

    stuck = gradient(lambda leaf: ExpectedOKSLoss()(sparsemax(leaf), target, weights))
    freed = gradient(lambda leaf: SparsemaxLoss()(leaf, target, weights))
    assert stuck == [0, 0, 0, 0]
    assert freed == pytest.approx([-2 / 3, -1 / 3, 0, 1])
