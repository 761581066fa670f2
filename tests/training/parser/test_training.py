"""Trainings of parsers: losses fall, the encoder and the semantics stay as they are, and what is exported is loaded."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch

from bmp import UserError
from bmp.checkpoints.saving import export
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.label_sets.part_sets import CIHP
from bmp.models.schnet.losses import IGNORED
from bmp.models.schnet.network import build_schnet

pytest.importorskip("sam2")

from bmp.training.parser.model import CropParserTraining, ParserTraining, SemanticTraining, _nearest, _one_of_each
from bmp.training.segmenter.parts import PartGroundTruth, PartMaps

MODEL = dict(base="nano", level_channels=(16, 16, 16), width=8, tokens=4, rank=2, head=8)
WITHOUT_SEMANTICS = MODEL | dict(semantics="")


@pytest.fixture(scope="module")
def maps():
    return PartMaps(
        SynthCrowd("val", count=2), None, 64, dict(flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0, grey=0.0)
    )


@pytest.fixture(scope="module")
def batch(maps):
    samples = [maps[index] for index in range(2)]
    return {name: [sample[name] for sample in samples] for name in samples[0]}


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    return tiny_models.sam2_config(tmp_path_factory.mktemp("sam"))


def losses_of(model, batch):
    return model(**model.data_preprocessor(batch, training=True))


def channels(sam):
    from bmp.models.sam2 import build_sam2

    return build_sam2(str(sam), "random").image_encoder.neck.d_model


def step(model, batch, steps=4):
    """Train for some steps; return the sum of losses before and after."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    values = []
    for _ in range(steps):
        torch.manual_seed(0)
        loss = sum(losses_of(model, batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    return values[0], values[-1]


@pytest.mark.slow
def test_a_parser_learns_on_a_frozen_encoder_and_is_loaded_again(batch, sam, tmp_path):
    width = channels(sam)
    settings = MODEL | dict(level_channels=(width,) * 3)
    model = ParserTraining(settings, str(sam), "random", cache=str(tmp_path / "cache"), grid=(8, 6))
    semantics = {name: tensor.clone() for name, tensor in model.parser.semantics.state_dict().items()}
    before, after = step(model, batch)
    assert after < 0.95 * before
    assert {name.split("_")[1] for name in losses_of(model, batch)} == {"labels", "lovasz", "edges"}
    assert all(torch.equal(tensor, semantics[name]) for name, tensor in model.parser.semantics.state_dict().items())
    assert not any(name.startswith(("sam", "_encoder")) for name in model.state_dict())
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    export(tmp_path / "model.pth", tmp_path / "parts.safetensors", {}, "parser.")
    loaded = build_schnet(settings, str(tmp_path / "parts.safetensors"))
    torch.testing.assert_close(loaded.head.fuse.weight, model.parser.head.fuse.weight, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_cached_levels_are_those_of_the_encoder(batch, sam, tmp_path):
    settings = WITHOUT_SEMANTICS | dict(level_channels=(channels(sam),) * 3)
    model = ParserTraining(settings, str(sam), "random", cache=str(tmp_path))
    pixels = torch.stack(batch["inputs"])
    for first, again in zip(model.levels(pixels), model.levels(pixels), strict=True):
        torch.testing.assert_close(first, again, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_the_linear_baseline_has_no_mask_and_no_edges(batch, sam):
    settings = MODEL | dict(level_channels=(channels(sam),) * 3, width=0, tokens=0, semantics="", head=0)
    model = ParserTraining(settings, str(sam), "random")
    assert set(losses_of(model, batch)) == {"loss_labels", "loss_lovasz"}


@pytest.mark.slow
def test_images_without_people_train_the_background(batch, sam):
    settings = WITHOUT_SEMANTICS | dict(level_channels=(channels(sam),) * 3)
    model = ParserTraining(settings, str(sam), "random")
    empty = {
        "inputs": batch["inputs"],
        "data_samples": [type(each)(each.labels * 0, each.owners * 0, each.sides) for each in batch["data_samples"]],
    }
    losses = losses_of(model, empty)
    assert not any("people" in name for name in losses)
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.slow
def test_the_small_semantic_encoder_learns_names(batch):
    model = SemanticTraining()
    before, after = step(model, batch, steps=4)
    assert after < 0.95 * before
    with pytest.raises(ValueError, match="training only"):
        model(torch.zeros(1, 3, 8, 8), [], "predict")


def test_labels_of_windows_are_those_of_their_pixels():
    values = torch.arange(12.0).reshape(1, 1, 3, 4)
    found = _nearest(values, torch.tensor([[0.0, 0.0, 4.0, 3.0]]), (3.0, 4.0), (3, 4))
    assert torch.equal(found, values)
    found = _nearest(values + 1, torch.tensor([[-4.0, 0.0, 4.0, 3.0]]), (3.0, 4.0), (3, 8))
    assert not found[..., :4].any()
    assert torch.equal(found[..., 4:], values + 1)


class TestPartMaps:
    @pytest.mark.slow
    def test_a_mirror_image_exchanges_sides_and_keeps_what_does_not_count(self, maps):
        class Marked(SynthCrowd):
            def parts(self, index):
                parts = super().parts(index)
                labels = parts.labels.clone()
                labels[:40] = IGNORED
                return type(parts)(labels, parts.owners, parts.scores, parts.label_set)

        still = dict(brightness=0.0, contrast=0.0, saturation=0.0, grey=0.0)
        marked = Marked("val", count=1)
        straight, mirrored = (PartMaps(marked, None, 320, dict(flip=flip, **still))[0] for flip in (0.0, 1.0))
        assert torch.equal(mirrored["inputs"], straight["inputs"].flip(2))
        exchanged = np.arange(256)
        exchanged[: len(CIHP)] = CIHP.flip_indices
        # The picture is reduced after it is mirrored, and so another pixel of four is taken.
        own, other = straight["data_samples"].labels.numpy(), mirrored["data_samples"].labels.numpy()
        sided = (own[:, ::-1] >= 14) & (own[:, ::-1] < 20)
        right = np.mean((exchanged[own[:, ::-1]] == other)[sided])
        assert right > 0.4 > 0.1 > np.mean((own[:, ::-1] == other)[sided])
        assert set(own[:2].ravel()) == {IGNORED}

    @pytest.mark.slow
    def test_a_data_set_without_labels_is_refused(self):
        class Bare(SynthCrowd):
            part_set = None

            def __init__(self):
                super().__init__("val", count=1)
                self.part_set = None

        with pytest.raises(UserError, match="expected labelled parts"):
            PartMaps(Bare(), None, 64, {})


def test_the_config_of_full_size_names_what_it_reads():
    from bmp.config import load_config

    config = load_config("train/parts_b+.py")
    assert config.train_dataloader.dataset.dataset.dataset.type == "LIP"
    assert config.model.semantics == str(Path("data/clip.safetensors"))


class TestCrops:
    """The parser inside SAM's blocks."""

    @pytest.fixture(autouse=True)
    def tiny_sam(self, monkeypatch):
        segment_anything = pytest.importorskip("segment_anything")
        monkeypatch.setitem(segment_anything.sam_model_registry, "tiny", tiny_models.sam1)

    @pytest.mark.slow
    @pytest.mark.parametrize("tuned", ["none", 1, "all"])
    def test_it_learns_and_is_loaded_again(self, batch, tuned, tmp_path):
        model = CropParserTraining(tiny_models.SCHNET_INSIDE, tuned=tuned)
        blocks = [block.mlp.lin1.weight.clone() for block in model.parser.blocks]
        before, after = step(model, batch, steps=6)
        assert after < 0.95 * before
        assert set(losses_of(model, batch)) == {"loss_labels", "loss_lovasz", "loss_edges"}
        still = [
            torch.equal(old, block.mlp.lin1.weight) for old, block in zip(blocks, model.parser.blocks, strict=True)
        ]
        assert still == {"none": [True, True], 1: [True, False], "all": [False, False]}[tuned]
        torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
        export(tmp_path / "model.pth", tmp_path / "parts.safetensors", {}, "parser.")
        loaded = build_schnet(tiny_models.SCHNET_INSIDE, str(tmp_path / "parts.safetensors"))
        torch.testing.assert_close(loaded.head.fuse.weight, model.parser.head.fuse.weight, rtol=1e-2, atol=1e-3)

    @pytest.mark.slow
    def test_images_without_people_teach_nothing(self, batch):
        model = CropParserTraining(tiny_models.SCHNET_INSIDE, tuned=0)
        empty = {
            "inputs": batch["inputs"],
            "data_samples": [type(each)(each.labels, each.owners * 0, each.sides) for each in batch["data_samples"]],
        }
        (loss,) = losses_of(model, empty).values()
        loss.backward()
        assert float(loss.detach()) == 0

    def test_levels_of_sam_2_have_their_own(self, sam):
        with pytest.raises(UserError, match="use ParserTraining"):
            CropParserTraining(WITHOUT_SEMANTICS)
        with pytest.raises(UserError, match="use CropParserTraining"):
            ParserTraining(tiny_models.SCHNET_INSIDE, str(sam), "random")


def test_windows_have_the_shape_of_the_grid_in_the_image_as_it_was():
    owners = torch.zeros(16, 16, dtype=torch.int64)
    owners[4:12, 4:8] = 1
    sample = PartGroundTruth(owners, owners, torch.zeros(4, 16, 16), aspect=2.0)
    people = _one_of_each([sample], (8, 6))
    x1, y1, x2, y2 = people.windows[0].tolist()
    # 8 x 8 pixels of an image of 32 x 16, of which the height decides: 10.67 / 8 of it.
    assert (x2 - x1) * 2 / (y2 - y1) == pytest.approx(6 / 8)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((6, 8))
    larger = _one_of_each([sample], (8, 6), (1.5, 1.5)).windows[0]
    assert (larger[2] - larger[0]) / (x2 - x1) == pytest.approx(1.5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_step_at_full_size_inside_the_blocks(undrawn, batch):
    """One step of ViT-B and CLIP on crops of 512 x 384 with made-up weights: all of it fits together."""
    pytest.importorskip("segment_anything")
    pytest.importorskip("open_clip")
    from bmp.config import load_config

    section = dict(load_config("train/parts_inside_b.py").model) | dict(sam="random", semantics=None)
    assert section.pop("type") == "CropParserTraining"
    model = CropParserTraining(**section)
    for parameter in model.parameters():  # whatever lies in memory may be no number
        parameter.data.normal_(std=0.02)
    one = {name: values[:1] for name, values in batch.items()}
    loss = sum(losses_of(model, one).values())
    loss.backward()
    assert torch.isfinite(loss)
    learning = {name for name, parameter in model.parser.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[1] for name in learning if name.startswith("blocks.")} == {"10", "11"}
    assert not any(name.startswith("semantics.") for name in learning)
