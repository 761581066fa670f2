"""SAM 2's decoder in rows of cells against sam2's own, on a shrunk network with made-up weights."""

import pytest
import torch

pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models

from bmp.models.sam2 import SAM2Network, build_sam2
from bmp.models.sam2_cells import to_cells

SIDE = tiny_models.SAM_SIDE
PEOPLE = 3


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """With norms and biases that do something."""
    network = build_sam2(tiny_models.sam2_config(tmp_path_factory.mktemp("sam2")), "random")
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(1)


def levels(network, generator, count=PEOPLE):
    channels = network.sam_mask_decoder.transformer_dim
    shapes = [(channels // 8, SIDE // 4), (channels // 4, SIDE // 8), (channels, SIDE // 16)]
    return [torch.randn(count, depth, side, side, generator=generator).requires_grad_() for depth, side in shapes]


def prompts(generator, count, corrects):
    points = SIDE * torch.rand(PEOPLE, count, 2, generator=generator)
    labels = torch.randint(-1, 2, (PEOPLE, count), generator=generator).to(torch.int8)
    side = SIDE // 4
    previous = torch.randn(PEOPLE, side, side, generator=generator).requires_grad_()
    return points, labels, previous if corrects else None


def assert_near(tensor, expected):
    """Up to float32's rounding, by the largest number."""
    torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-4 * expected.detach().abs().max().item())


def is_without_effect(name):
    """A bias of keys moves all scores of a query alike: its gradient is nothing but rounding."""
    return name.endswith("k_proj.bias")


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("count", "corrects", "multimask"), [(1, False, True), (3, True, False), (6, False, False)])
def test_answers_and_gradients_are_sam2s(network, generator, count, corrects, multimask, training):
    network.requires_grad_(True).train(training)
    # Whether the network in use takes another mask than the single one must not depend on a rounding.
    network.sam_mask_decoder.dynamic_multimask_stability_thresh = 0.98 if count == 3 else 0.0
    asked = SAM2Network(network, torch.float32)
    own, (points, labels, previous) = levels(network, generator), prompts(generator, count, corrects)
    leaves = {name: p for name, p in network.named_parameters() if name.startswith("sam_")} | dict(
        zip(("stride4", "stride8", "stride16"), own, strict=True)
    )
    if previous is not None:
        leaves["previous"] = previous
    answers = []
    for decode, features in ((asked.decode, own), (asked.decode_cells, to_cells(own))):
        logits, ious, anybody = decode(features, points, labels, previous, multimask)
        assert logits.shape == (PEOPLE, 3 if multimask else 1, SIDE // 4, SIDE // 4)
        weights = torch.linspace(-1, 2, logits.numel()).reshape(logits.shape)
        total = (weights * logits).mean() + ious.square().sum() + anybody.square().sum()
        gradients = torch.autograd.grad(total, [*leaves.values()], allow_unused=True)
        answers.append(((logits, ious, anybody), dict(zip(leaves, gradients, strict=True))))
    (expected, theirs), (found, ours) = answers
    for answer, their_own in zip(found, expected, strict=True):
        assert_near(answer, their_own)
    for name, gradient in theirs.items():
        assert (gradient is None) == (ours[name] is None), name
        if gradient is not None and not is_without_effect(name):
            assert_near(ours[name], gradient)
    assert ours["stride4"].any()


def test_a_part_of_a_cell_is_where_it_was(network, generator):
    """Cells, their parts and the parts of those are in the order of rows."""
    height, width = 3, 2
    x, y = torch.meshgrid(torch.arange(4 * width), torch.arange(4 * height), indexing="xy")
    fine = torch.stack((y, x))[None]
    stride4, stride8, stride16 = to_cells([fine, fine[:, :, ::2, ::2] // 2, fine[:, :, ::4, ::4] // 4])
    assert (stride4.shape, stride8.shape, stride16.shape) == ((1, 6, 16, 2), (1, 6, 4, 2), (1, height, width, 2))
    assert stride16[0, 2, 1].tolist() == [2, 1]
    assert stride8[0, 5].tolist() == [[4, 2], [4, 3], [5, 2], [5, 3]]
    assert stride4[0, 5, 4:8].tolist() == [[8, 6], [8, 7], [9, 6], [9, 7]]
