"""What identifies an exported network: weights, settings, shapes, names; and nothing else."""

import copy

import pytest
import torch
from torch import nn

from bmp.models.engines import Graph


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(3, 2, 3, padding=1)
        self.strides = [8, 16]
        self.act = nn.functional.relu
        self.table = torch.arange(3.0)
        self._heads = 2

    def forward(self, pixels):
        return (self.act(self.convolution(pixels)),)


PIXELS = torch.rand(2, 3, 8, 8)


def fingerprint(change=lambda layers: None, name="net", inputs=None, pixels=PIXELS):
    layers = Layers()
    change(layers)
    graph = Graph(name, layers, inputs or {"pixels": {}})
    return graph.fingerprint(graph.shapes_of([pixels]))


def test_equal_networks_have_equal_fingerprints():
    assert fingerprint() == fingerprint()
    assert fingerprint(lambda layers: copy.deepcopy(layers)) == fingerprint()
    assert fingerprint(pixels=torch.rand(5, 3, 8, 8)) == fingerprint()  # rows are free


def weights(layers):
    layers.convolution.weight.data[0, 0, 0, 0] += 1


@pytest.mark.parametrize(
    "other",
    [
        dict(change=weights),
        dict(change=lambda layers: setattr(layers, "strides", [8, 32])),
        dict(change=lambda layers: setattr(layers, "act", nn.functional.silu)),
        dict(change=lambda layers: setattr(layers, "table", torch.ones(3))),
        dict(change=lambda layers: setattr(layers, "_heads", 4)),
        dict(change=lambda layers: setattr(layers.convolution, "padding", (0, 0))),
        dict(name="other"),
        dict(inputs={"images": {}}),
        dict(inputs={"pixels": {2: "rows"}}),
        dict(pixels=torch.rand(2, 3, 8, 9)),
        dict(pixels=torch.rand(2, 3, 8, 8).double()),
    ],
)
def test_any_difference_shows(other):
    assert fingerprint(**other) != fingerprint()


def test_another_version_of_torch_is_another_file(monkeypatch):
    before = fingerprint()
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert fingerprint() != before
