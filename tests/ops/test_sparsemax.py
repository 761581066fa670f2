"""Sparsemax against its definition."""

import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.ops.sparsemax import sparsemax


def _by_definition(scores):
    """The closed form with sorted scores, in float64 (Martins and Astudillo, proposition 1)."""
    scores = scores.double()
    ordered = scores.sort(descending=True).values
    ranks = torch.arange(1, len(scores) + 1)
    support = int((1 + ranks * ordered > ordered.cumsum(0)).nonzero().max()) + 1
    threshold = (ordered[:support].sum() - 1) / support
    return (scores - threshold).clamp_min(0).float()


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40))
def test_it_is_the_closed_form(values):
    scores = torch.tensor(values)
    torch.testing.assert_close(sparsemax(scores), _by_definition(scores), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1e-4, 0.05, 1.0, 100.0])
def test_rows_of_map_size(scale):
    scores = torch.randn(2, 3, 3072, generator=torch.Generator().manual_seed(1)) * scale
    result = sparsemax(scores)
    torch.testing.assert_close(result.sum(-1), torch.ones(2, 3), atol=1e-5, rtol=0)
    for row, expected in zip(result.view(6, -1), scores.view(6, -1), strict=True):
        torch.testing.assert_close(row, _by_definition(expected), atol=1e-6, rtol=0)


def test_flat_and_peaked_rows_beside_each_other():
    # Of the flat row more cells have a share than are looked at first; alone, the peaked ones need no more than those.
    scores = torch.randn(4, 3072, generator=torch.Generator().manual_seed(2)) * torch.tensor(
        [[3.0], [1.0], [1e-4], [9.0]]
    )
    result = sparsemax(scores)
    assert (result[2] > 0).sum() > 1000 > 100 > (result[[0, 1, 3]] > 0).sum(-1).max()
    for row, expected in zip(result, scores, strict=True):
        torch.testing.assert_close(row, _by_definition(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(result[[0, 1, 3]], sparsemax(scores[[0, 1, 3]]), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.0], [1.0]),
        ([3.0, 3.0], [0.5, 0.5]),
        ([5.0, 1.0, -2.0], [1.0, 0.0, 0.0]),
        ([0.5, 0.0], [0.75, 0.25]),
        ([1e6, 1e6 - 1], [1.0, 0.0]),
    ],
)
def test_by_hand(scores, expected):
    assert sparsemax(torch.tensor(scores)).tolist() == expected


def test_it_does_not_care_for_a_constant():
    scores = torch.randn(4, 50)
    torch.testing.assert_close(sparsemax(scores + 7), sparsemax(scores), atol=1e-5, rtol=0)


def test_no_rows():
    assert sparsemax(torch.zeros(0, 5)).shape == (0, 5)


def test_half_precision_is_computed_in_full():
    scores = torch.randn(3, 100, dtype=torch.bfloat16)
    assert torch.equal(sparsemax(scores), sparsemax(scores.float()))


def test_the_gradient_is_that_of_finite_differences():
    scores = torch.randn(3, 8, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    weights = torch.randn(3, 8).double()
    (sparsemax(scores) * weights).sum().backward()
    step = 1e-3
    for row in range(3):
        for column in range(8):
            nudge = torch.zeros(3, 8).double()
            nudge[row, column] = step
            up, down = sparsemax((scores + nudge).detach()), sparsemax((scores - nudge).detach())
            numeric = ((up - down) * weights).sum() / (2 * step)
            assert scores.grad[row, column].item() == pytest.approx(numeric.item(), abs=2e-3)
