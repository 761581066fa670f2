"""Mixed precision in training: what is computed in which format."""

import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmpose.registry import OPTIM_WRAPPERS

import bmp.models.pmpose
import bmp.training.pose  # noqa: F401 -- registers
from bmp.errors import UserError


def _wrapper(model, **changes):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OPTIM_WRAPPERS.build(dict(type="AutocastOptimWrapper", optimizer=optimizer, **changes))


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [({"dtype": "bfloat16"}, torch.bfloat16), ({"dtype": "float32"}, torch.float32)],
)
def test_the_network_computes_in_the_format_and_learns_in_float32(changes, dtype):
    model = torch.nn.Linear(2, 2)
    wrapper = _wrapper(model, **changes)
    before = model.weight.clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(1, 2))
    assert output.dtype == dtype
    wrapper.update_params(output.float().sum())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)
    assert model(torch.ones(1, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_the_format_is_one_that_the_processor_has(able, dtype, monkeypatch):
    """One that it has to imitate takes ten times as long."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    model = torch.nn.Linear(2, 2)
    with _wrapper(model).optim_context(model):
        assert model(torch.ones(1, 2)).dtype == dtype


def test_an_unknown_format_is_refused():
    with pytest.raises(UserError, match="dtype: expected one of float32, bfloat16, auto, got 'float8'"):
        _wrapper(torch.nn.Linear(1, 1), dtype="float8")
