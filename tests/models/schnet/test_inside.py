"""SCHNet inside the blocks of SAM 1: shapes, how it starts, what is trained, crops, and mistakes."""

import pytest
import torch

pytest.importorskip("segment_anything", reason="the package segment_anything is not installed")

import segment_anything
import tiny_models

from bmp import UserError
from bmp.models.sam1 import build_sam1
from bmp.models.schnet.inside import InsideSCHNet, crops_of
from bmp.models.schnet.network import build_schnet, settings_of


@pytest.fixture(autouse=True)
def tiny_sam(monkeypatch):
    monkeypatch.setitem(segment_anything.sam_model_registry, "tiny", tiny_models.sam1)


def network(**changes):
    return build_schnet(tiny_models.SCHNET_INSIDE | changes, "random")


def crops(count=2):
    return torch.rand(count, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(tokens=0),
        dict(shared=False),
        dict(semantics=""),
        dict(taps="last"),
        dict(taps="mixed"),
        dict(mixing="sum"),
        dict(source="similarity"),
        dict(source="noise"),
        dict(cosine=True),
        dict(pools=()),
        dict(blocks=(1,), level_channels=(32,)),
    ],
)
def test_every_variant_answers_at_a_quarter_of_the_crop(changes):
    inside = network(**changes)
    with torch.no_grad():
        refined = inside.refine_crops(crops())
        assert [level.shape for level in refined] == [(2, 32, 4, 3)] * len(inside.settings.blocks)
        logits, edges = inside.classify(refined, torch.ones(2, 1, 16, 12))
    assert logits.shape == (2, 20, 16, 12)
    assert edges.shape == (2, 1, 16, 12)


def test_it_begins_as_sams_encoder():
    """Without the modules, the last level is what SAM's blocks make of the crop at SAM's own size, normalised."""
    inside = network(tokens=0, semantics="", crop=(128, 128))
    pixels = torch.rand(1, 3, 128, 128) * 255
    encoder = build_sam1("tiny", "random").image_encoder
    mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    with torch.no_grad():
        tokens = encoder.patch_embed((pixels - mean[:, None, None]) / deviation[:, None, None]) + encoder.pos_embed
        for block in encoder.blocks:
            tokens = block(tokens)
        expected = torch.nn.functional.layer_norm(tokens, (32,)).movedim(3, 1)
        torch.testing.assert_close(inside.refine_crops(pixels)[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tuned", "learning"), [("all", [True, True]), ("none", [False, False]), (1, [False, True]), (0, [False, False])]
)
def test_what_learns(tuned, learning):
    inside = InsideSCHNet(settings_of(tiny_models.SCHNET_INSIDE))
    inside.tune(tuned)
    assert [block.mlp.lin1.weight.requires_grad for block in inside.blocks] == learning
    assert inside.pos_embed.requires_grad == (tuned == "all")
    for module in inside.refinement:
        module.gamma.data += 0.1
    logits, edges = inside.train().classify(inside.refine_crops(crops()), torch.ones(2, 1, 16, 12))
    (logits.square().mean() + edges.square().mean()).backward()
    frozen = {name for name, parameter in inside.named_parameters() if not parameter.requires_grad}
    for name, parameter in inside.named_parameters():
        assert (parameter.grad is None) == (name in frozen), name
    assert all(name.startswith(("semantics.", "patch_embed.", "pos_embed", "blocks.")) for name in frozen)


@pytest.mark.slow
def test_fine_tuning_works_after_every_block():
    inside = network(semantics="")
    assert len(inside.tuning.token_a) == 2
    before = inside.refine_crops(crops())
    inside.tuning.token_a.data[0] += 1
    inside.tuning.scale.data += 1
    after = inside.refine_crops(crops())
    assert not torch.allclose(before[0], after[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(head=0), "head to 128"),
        (dict(width=8), "width to 0"),
        (dict(blocks=(0,)), "one for each of 2 level_channels, got 1"),
        (dict(blocks=(1, 0)), "rising numbers of the 2 blocks"),
        (dict(blocks=(0, 2)), "rising numbers of the 2 blocks"),
        (dict(level_channels=(8, 8)), "expected 32 each"),
        (dict(inside="vit_x"), "'vit_x' does not exist"),
    ],
)
def test_mistakes_are_one_line(changes, words):
    with pytest.raises(UserError, match=words) as caught:
        network(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("tuned", ["some", 3, -1])
def test_what_cannot_be_tuned(tuned):
    with pytest.raises(UserError, match="tuned: expected"):
        InsideSCHNet(settings_of(tiny_models.SCHNET_INSIDE)).tune(tuned)


def test_crops_are_windows_scaled():
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 1, 6, 8).expand(2, 3, 6, 8).clone()
    pixels[1] += 100
    windows = torch.tensor([[2.0, 1.0, 6.0, 5.0], [0.0, 0.0, 8.0, 6.0]])
    same = crops_of(pixels, windows[:1], (4, 4))
    assert torch.equal(same, pixels[:1, :, 1:5, 2:6].float())
    whole, other = crops_of(pixels, windows[[1, 1]], (3, 4), torch.tensor([0, 1]))
    # Half the size: each is the mean of four pixels.
    torch.testing.assert_close(whole, torch.nn.functional.avg_pool2d(pixels[0].float(), 2))
    torch.testing.assert_close(other, whole + 100)


def test_crops_are_black_outside_the_image():
    crops = crops_of(torch.full((1, 3, 4, 4), 200, dtype=torch.uint8), torch.tensor([[-4.0, 0.0, 4.0, 4.0]]), (4, 8))
    assert not crops[..., :3].any()
    assert (crops[..., 5:] == 200).all()
