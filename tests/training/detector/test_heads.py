"""The head that saves work gives the answers and gradients of MMDetection's own."""

import pytest
import torch

pytest.importorskip("mmdet.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmdet.registry import MODELS
from mmengine.registry import DefaultScope

import bmp.training.detector  # noqa: F401 -- registers
from bmp.models.configs import load_model_config


@pytest.fixture(scope="module")
def heads():
    section = load_model_config("models/rtmdet_ins_nano.py", "mmdet")["model"]["bbox_head"]
    with DefaultScope.overwrite_default_scope("mmdet"):
        theirs, ours = MODELS.build(section), MODELS.build({**section, "type": "QuickRTMDetInsHead"})
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


@pytest.mark.slow
def test_the_answers_are_the_same(heads):
    levels = [torch.randn(2, 64, side, side, generator=torch.Generator().manual_seed(side)) for side in (16, 8, 4)]
    theirs, ours = (head(levels) for head in heads)
    for expected, got in zip(theirs[:3], ours[:3], strict=True):
        assert all(torch.equal(*pair) for pair in zip(expected, got, strict=True))
    assert torch.equal(theirs[3], ours[3])


@pytest.mark.parametrize("people", [0, 1, 7])
def test_the_masks_and_their_gradients_are_the_same(heads, people):
    seeded = torch.Generator().manual_seed(people)
    results = []
    features = torch.randn(8, 12, 20, generator=seeded)
    kernels = torch.randn(people, heads[0].num_gen_params, generator=seeded)
    priors = torch.cat((torch.rand(people, 2, generator=seeded) * 100, torch.tensor([8.0, 8.0]).expand(people, 2)), 1)
    for head in heads:
        inputs = features.clone().requires_grad_(), kernels.clone().requires_grad_()
        masks = head._mask_predict_by_feat_single(*inputs, priors)
        gradients = torch.autograd.grad(masks.square().sum(), inputs) if people else ()
        results.append((masks, *gradients))
    assert results[1][0].shape == (people, 12, 20)
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(
            got, expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()) if people else 0
        )
