"""The parsing network: every variant has the right shapes, starts as it should, and learns."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bmp import UserError
from bmp.label_sets.part_sets import CIHP
from bmp.models.schnet.losses import IGNORED, cross_entropy, edge_loss, edges_of, lovasz_softmax
from bmp.models.schnet.modules import FineTuning, SemanticRefinement
from bmp.models.schnet.network import SCHNet, build_schnet, load_weights, settings_of
from bmp.models.schnet.semantics import CLIPSemantics, NanoSemantics, word_embeddings
from bmp.models.schnet.windows import person_levels, sample_windows, windows_of

TINY = dict(base="nano", level_channels=(8, 8, 8), width=8, tokens=4, rank=2, head=8)


def levels(batch=2):
    random = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 8, side, side, generator=random) for side in (16, 8, 4)]


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
        dict(mixing="concatenate"),
        dict(source="similarity"),
        dict(source="both"),
        dict(source="noise"),
        dict(cosine=True),
        dict(pools=()),
        dict(width=0),
        dict(head=0),
        dict(labels="ppp"),
    ],
)
def test_every_variant_answers_for_images_and_for_people(changes):
    network = build_schnet(TINY | changes, "random")
    labels = len(network.label_set)
    inputs = None if network.semantics is None else torch.randn(2, 3, *network.semantics.size)
    with torch.no_grad():
        refined = network.refine(levels(), inputs)
        logits, edges = network.classify(refined)
        assert logits.shape == (2, labels, 16, 16)
        if network.head is None:
            assert edges is None
            return
        assert edges.shape == (2, 1, 16, 16)
        windows = windows_of(torch.tensor([[2.0, 2.0, 30.0, 60.0]] * 3), (16, 12))
        crops = person_levels(refined, windows, (64.0, 64.0), (16, 12), torch.tensor([0, 1, 1]))
        logits, _ = network.classify(crops, torch.ones(3, 1, 16, 12))
        assert logits.shape == (3, labels, 16, 12)


@pytest.mark.slow
def test_untrained_modules_change_little():
    """A network begins with SAM's features as they are: semantics and masks come in from zero."""
    network = build_schnet(TINY | dict(width=0, tokens=0), "random")
    refined = network.refine(levels(), torch.randn(2, 3, 256, 256))
    for before, after in zip(levels(), refined, strict=True):
        assert torch.equal(before, after)
    without, _ = network.classify(refined)
    with_mask, _ = network.classify(refined, torch.ones(2, 1, 16, 16))
    assert torch.equal(without, with_mask)
    features = torch.randn(2, 8, 4, 4)
    adapted = FineTuning(1, 8, 5, 2).maps(features, 0)
    assert 0 < (adapted - features).abs().max() < 0.1


@pytest.mark.slow
def test_noise_of_the_same_size_is_always_the_same():
    network = build_schnet(TINY | dict(source="noise"), "random")
    first, second = (network._semantics(torch.randn(2, 3, 256, 256)) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.slow
def test_modules_are_trained_and_the_semantic_encoder_is_not():
    network = SCHNet(settings_of(TINY)).train()
    assert not network.semantics.training
    for module in network.refinement:
        module.gamma.data += 0.1
    logits, edges = network.classify(network.refine(levels(), torch.randn(2, 3, 256, 256)), torch.ones(2, 1, 16, 16))
    (logits.square().mean() + edges.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("semantics."), name


def test_parameters_of_fine_tuning_are_as_specified():
    module = FineTuning(3, 256)
    shared = sum(p.numel() for p in module.parameters())
    assert shared == 3 * (100 * 16 + 16 * 256) + 2 * (256 * 256 + 256) + 1  # 149 thousand
    assert sum(p.numel() for p in FineTuning(3, 256, shared=False).parameters()) - shared == 4 * (256 * 256 + 256)


def test_a_plain_sum_ignores_the_gate():
    features, semantics = torch.randn(1, 8, 6, 6), torch.randn(1, 3, 2, 2)
    module = SemanticRefinement(8, 3, "sum")
    module.gamma.data += 1
    expected = features + module.out(F.interpolate(module.project(semantics), (6, 6), mode="bilinear"))
    torch.testing.assert_close(module(features, semantics), expected)
    assert module.gate is None


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("large", "there is no 'large'"),
        (dict(base="nano", tokns=3), "there is no setting 'tokns'; did you mean 'tokens'"),
        (dict(base="nano", mixing="gates"), "model.mixing: there is no 'gates'; did you mean 'gate'"),
        (dict(base="nano", labels="chip"), "model.labels: there is no 'chip'"),
        (dict(base="nano", semantics="", cosine=True), "no names to compare with"),
        *(
            pytest.param(dict(base="b+", semantics=name), "no vision transformer of open_clip", marks=pytest.mark.slow)
            for name in ("ViT-B-17", "RN50")
        ),
    ],
)
def test_mistakes_are_one_line(model, words):
    if "open_clip" in words:
        pytest.importorskip("open_clip")
    with pytest.raises(UserError, match=words) as caught:
        build_schnet(model, "random")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ViT-B-16.pt", "clip.bin"])
def test_archives_of_torchscript_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"expected a .safetensors file.*TorchScript"):
        load_weights(tmp_path / name)


class TestText:
    def test_names_that_share_words_are_near(self):
        text = word_embeddings(CIHP.names)
        assert text.shape == (20, 64)
        torch.testing.assert_close(text.norm(dim=1), torch.ones(20))
        cosine = text @ text.T
        number = {name: index for index, name in enumerate(CIHP.names)}
        near = cosine[number["left arm"], number["right arm"]], cosine[number["left arm"], number["left leg"]]
        assert min(near) > 0.3 > abs(cosine[number["left arm"], number["hat"]])
        assert torch.equal(text, word_embeddings(CIHP.names))

    def test_other_texts_know_nothing_of_names(self):
        words, shuffled, one_hot = (word_embeddings(CIHP.names, text=text) for text in ("words", "shuffled", "one_hot"))
        assert sorted(map(tuple, words.tolist())) == sorted(map(tuple, shuffled.tolist()))
        assert (words == shuffled).all(dim=1).sum() < 5
        assert torch.equal(one_hot @ one_hot.T, torch.eye(20))
        with pytest.raises(UserError, match="text: there is no 'latin'"):
            word_embeddings(CIHP.names, text="latin")

    def test_they_are_stored_with_the_weights(self):
        assert "semantics.text" in build_schnet(TINY, "random").state_dict()


def test_the_small_encoder_gives_four_taps():
    encoder = NanoSemantics(CIHP.names)
    inputs = encoder.to_input(torch.randint(0, 256, (1, 3, 320, 320), dtype=torch.uint8))
    assert inputs.shape == (1, 3, 256, 256)
    taps, patches = encoder(inputs)
    assert [tap.shape for tap in taps] == [(1, 96, 16, 16)] * 4
    assert encoder.similarities(patches).shape == (1, 20, 16, 16)
    assert encoder.similarities(patches).abs().max() <= 1 + 1e-5


@pytest.mark.slow
def test_clip_is_that_of_open_clip():
    """Taps and image embedding against open_clip's own forward pass, on a model of the smallest size."""
    open_clip = pytest.importorskip("open_clip")
    config = dict(embed_dim=16, vision_cfg=dict(image_size=32, layers=4, width=32, head_width=16, patch_size=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_model_config", lambda _: config)
        semantics = CLIPSemantics(20, "tiny", (32, 32)).eval()
    with torch.no_grad():
        for name, buffer in semantics.visual.named_parameters():
            if "ln" in name and name.endswith("weight"):
                buffer.fill_(1)
        inputs = torch.randn(2, 3, 32, 32)
        taps, patches = semantics(inputs)
        expected = semantics.visual.forward_intermediates(inputs, indices=[0, 1, 2, 3], output_fmt="NCHW")
    for tap, own in zip(taps, expected["image_intermediates"], strict=True):
        torch.testing.assert_close(tap, own, rtol=1e-4, atol=1e-4)
    assert patches.shape == (2, 16, 4, 4)
    wide, _ = semantics(torch.randn(1, 3, 48, 32))
    assert wide[0].shape == (1, 32, 6, 4)


class TestLosses:
    def test_lovasz_by_hand(self):
        """Two pixels, of which the first is of the class, with probabilities 0.9 and 0.4."""
        logits = torch.tensor([[[[0.9, 0.4]], [[0.1, 0.6]]]]).log()
        labels = torch.tensor([[[0, 1]]])
        both = lovasz_softmax(logits, labels)
        # Of class 0: errors 0.4 and 0.1, Jaccard 0.5 and 1. Class 1 is its mirror.
        assert float(both) == pytest.approx((0.25 + (0.4 * 1 + 0.1 * 0)) / 2)

    def test_ignored_pixels_do_not_count(self):
        logits = torch.randn(1, 3, 4, 4, requires_grad=True)
        labels = torch.full((1, 4, 4), IGNORED)
        total = cross_entropy(logits, labels) + lovasz_softmax(logits, labels) + edge_loss(logits[:, :1], labels)
        assert float(total.detach()) == 0
        total.backward()
        assert not logits.grad.any()

    def test_edges_by_hand(self):
        labels = torch.tensor([[[1, 1, 2], [1, 1, 2]]])
        assert edges_of(labels).int().tolist() == [[[0, 1, 1], [0, 1, 1]]]
        right = torch.where(edges_of(labels), 9.0, -9.0)[:, None]
        assert edge_loss(right, labels) < 0.01 < 1 < edge_loss(-right, labels)


class TestWindows:
    def test_windows_have_the_grids_shape_and_the_boxs_middle(self):
        boxes = torch.tensor([[10.0, 10.0, 20.0, 50.0], [0.0, 0.0, 90.0, 10.0], [5.0, 5.0, 5.0, 5.0]])
        windows = windows_of(boxes)
        sides = windows[:, 2:] - windows[:, :2]
        torch.testing.assert_close(sides[:, 0] / sides[:, 1], torch.full((3,), 0.75))
        torch.testing.assert_close((windows[:, :2] + windows[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2)
        assert sides[0, 1] == pytest.approx(48)
        assert sides[1, 0] == pytest.approx(108)

    def test_a_window_of_the_whole_image_is_the_map(self):
        values = torch.rand(1, 2, 8, 6)
        found = sample_windows(values, torch.tensor([[0.0, 0.0, 60.0, 80.0]]), (80.0, 60.0), (8, 6))
        torch.testing.assert_close(found, values)

    def test_nothing_is_outside_the_image(self):
        found = sample_windows(torch.ones(1, 1, 4, 4), torch.tensor([[8.0, 0.0, 16.0, 8.0]]), (8.0, 8.0), (4, 4))
        assert not found.any()
