"""The parsing network's formulas against vectors from plain loops in double precision."""

import pytest
import torch
from reference_vectors import read_vectors

from bmp.models.schnet.losses import cross_entropy, lovasz_by_class, lovasz_softmax
from bmp.models.schnet.modules import FineTuning, SemanticRefinement


@pytest.fixture(scope="module")
def vectors(shared):
    return {name: torch.from_numpy(values) for name, values in read_vectors(shared, "parsing_modules.npz").items()}


def set_weights(layer, weight, bias):
    layer.weight.data = weight.float().reshape(layer.weight.shape)
    layer.bias.data = bias.float()


def test_fine_tuning(vectors):
    module = FineTuning(3, 12, tokens=7, rank=3)
    module.token_a.data, module.token_b.data = vectors["token_a"].float(), vectors["token_b"].float()
    set_weights(module.of_tokens[0], vectors["token_weight"], vectors["token_bias"])
    set_weights(module.of_features[0], vectors["feature_weight"], vectors["feature_bias"])
    module.scale.data = vectors["scale"].float()
    for place, expected in enumerate(vectors["ftm"]):
        found = module.maps(vectors["features"].float(), place)
        torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


def test_semantic_refinement(vectors):
    module = SemanticRefinement(12, 8)
    for name in ("project", "gate", "out"):
        set_weights(getattr(module, name), vectors[f"{name}_weight"], vectors[f"{name}_bias"])
    module.gamma.data = vectors["gamma"].float()
    found = module(vectors["features"].float(), vectors["semantic"].float())
    torch.testing.assert_close(found, vectors["srm"].float(), rtol=1e-5, atol=1e-5)


def test_losses(vectors):
    logits, labels = vectors["logits"].float(), vectors["labels"]
    by_class = lovasz_by_class(logits, labels)
    assert list(by_class) == vectors["lovasz_classes"].tolist()
    torch.testing.assert_close(torch.stack(list(by_class.values())), vectors["lovasz"].float(), rtol=1e-5, atol=1e-5)
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(float(vectors["lovasz_mean"]), abs=1e-5)
    assert float(cross_entropy(logits, labels)) == pytest.approx(float(vectors["cross_entropy"]), abs=1e-5)
