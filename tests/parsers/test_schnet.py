"""The network as a stage: both ways of asking, what is filled and what is not, and what is encoded how often."""

import pytest
import tiny_models
import torch

from bmp import UserError
from bmp.parsers.schnet import SAMCLIPCropParser, SAMCLIPParser
from bmp.structures import Detections, Image, Instances, Masks, Poses

TINY = dict(base="nano", level_channels=(4, 4, 4), width=8, tokens=4, rank=2, semantics="", head=8)


class Levels:
    """An encoder whose levels are the colours of the image."""

    def __init__(self):
        self.calls = []

    def levels(self, images):
        self.calls.append(list(images))
        return [self._one(image) for image in images]

    def _one(self, image):
        pixels = image.pixels.permute(2, 0, 1)[None].float() / 255
        planes = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
        return tuple(torch.nn.functional.interpolate(planes, (side, side)) for side in (32, 16, 8))


def people(height, width, *boxes):
    bits = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(bits, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    count = len(boxes)
    return Instances(
        Detections(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.ones(count)),
        Poses(torch.zeros(count, 17, 2), *[torch.ones(count, 17)] * 3),
        Masks(bits, torch.ones(count)),
        torch.ones(count, dtype=torch.int64),
    )


IMAGE = Image(torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
TWO = people(40, 60, (2, 2, 20, 38), (30, 4, 50, 40))


@pytest.mark.parametrize("way", ["image", "person", "auto"])
def test_parts_tile_masks_either_way(way):
    (parts,) = SAMCLIPParser("random", Levels(), TINY, way=way, grid=(16, 12)).parse([IMAGE], [TWO])
    assert torch.equal(parts.labels > 0, TWO.masks.bits.any(dim=0))
    assert (parts.scores.sum(dim=1) > 0).all()


@pytest.mark.parametrize("way", ["image", "person"])
def test_with_the_flip_a_mirrored_image_has_mirrored_parts(way):
    parser = SAMCLIPParser("random", Levels(), TINY, way=way, grid=(16, 12), flip=True)
    mirrored = people(40, 60, (40, 2, 58, 38), (10, 4, 30, 40))
    (parts,), (others,) = parser.parse([IMAGE], [TWO]), parser.parse([Image(IMAGE.pixels.flip(1))], [mirrored])
    sides = torch.tensor(parser.label_set.flip_indices)
    assert torch.equal(sides[others.labels.flip(1).long()], parts.labels.long())
    torch.testing.assert_close(others.scores[:, sides], parts.scores)
    (once,) = SAMCLIPParser("random", Levels(), TINY, way=way, grid=(16, 12)).parse([IMAGE], [TWO])
    assert not torch.equal(once.scores, parts.scores)


def certain_of_background(parser):
    with torch.no_grad():
        parser.network.head.classify.bias[0] = 100
        parser.network.head.classify.bias[7] = 50
    return parser


@pytest.mark.slow
def test_background_inside_a_mask_is_filled_with_the_next_best_or_left():
    filled = certain_of_background(SAMCLIPParser("random", Levels(), TINY)).parse([IMAGE], [TWO])[0]
    assert filled.labels[TWO.masks.bits.any(dim=0)].unique().tolist() == [7]
    left = certain_of_background(SAMCLIPParser("random", Levels(), TINY, fill=False)).parse([IMAGE], [TWO])[0]
    assert not left.labels.any()
    assert not left.scores.any()


def test_only_images_with_people_are_encoded():
    encoder = Levels()
    parser = SAMCLIPParser("random", encoder, TINY)
    nobody = people(40, 60)
    found = parser.parse([IMAGE, IMAGE, IMAGE], [nobody, TWO, nobody])
    assert [len(calls) for calls in encoder.calls] == [1]
    assert [len(parts) for parts in found] == [0, 2, 0]
    parser.parse([IMAGE], [nobody])
    assert len(encoder.calls) == 1


def test_many_people_are_asked_for_in_one_pass(monkeypatch):
    parser = SAMCLIPParser("random", Levels(), TINY, grid=(16, 12))
    calls = []
    classify = parser.network.classify
    monkeypatch.setattr(
        parser.network, "classify", lambda levels, mask=None: calls.append(mask) or classify(levels, mask)
    )
    crowd = people(40, 60, *[(5 * i, 0, 5 * i + 5, 40) for i in range(9)])
    parser.parse([IMAGE], [crowd])
    assert calls == [None]
    parser.parse([IMAGE], [crowd[:8]])
    assert [mask.shape for mask in calls[1:]] == [(8, 1, 16, 12)]


def test_the_mask_is_news_to_a_network_that_has_learnt_it():
    parser = SAMCLIPParser("random", Levels(), TINY, way="person", grid=(16, 12))
    with torch.no_grad():
        parser.network.head.of_mask.weight.fill_(1.0)
    narrow = people(40, 60, (8, 2, 12, 38))
    wide = people(40, 60, (2, 2, 20, 38))
    boxes = narrow.detections.boxes
    again = Instances(Detections(boxes, wide.detections.scores), wide.poses, wide.masks, wide.round)
    inside = narrow.masks.bits[0]
    first, second = (parser.parse([IMAGE], [each])[0] for each in (narrow, again))
    assert not torch.equal(first.scores, second.scores)
    assert first.labels[inside].min() > 0


def test_the_linear_baseline_needs_no_semantics():
    parser = SAMCLIPParser("random", Levels(), dict(base="nano_linear", level_channels=(4, 4, 4)))
    (parts,) = parser.parse([IMAGE], [TWO])
    assert torch.equal(parts.labels > 0, TWO.masks.bits.any(dim=0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(way="both"), "way: expected"),
        (dict(grid=(0, 3)), "numbers from 1"),
        (dict(person_batch=0), "numbers from 1"),
        (dict(dtype="half"), "half"),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(UserError, match=words):
        SAMCLIPParser("random", Levels(), TINY, **options)


class TestCrops:
    """The parser inside SAM's blocks, one crop a person."""

    @pytest.fixture(autouse=True)
    def tiny_sam(self, monkeypatch):
        segment_anything = pytest.importorskip("segment_anything")
        monkeypatch.setitem(segment_anything.sam_model_registry, "tiny", tiny_models.sam1)

    @pytest.mark.slow
    def test_parts_tile_masks_whatever_the_batch(self):
        found = [
            SAMCLIPCropParser("random", tiny_models.SCHNET_INSIDE, person_batch=batch).parse([IMAGE], [TWO])[0]
            for batch in (1, 2)
        ]
        for parts in found:
            assert torch.equal(parts.labels > 0, TWO.masks.bits.any(dim=0))
            assert (parts.scores.sum(dim=1) > 0).all()
        assert torch.equal(found[0].labels, found[1].labels)
        torch.testing.assert_close(found[0].scores, found[1].scores)

    def test_nobody_costs_nothing(self, monkeypatch):
        parser = SAMCLIPCropParser("random", tiny_models.SCHNET_INSIDE)
        monkeypatch.setattr(parser.network, "refine_crops", None)
        (parts,) = parser.parse([IMAGE], [people(40, 60)])
        assert len(parts) == 0

    def test_a_person_is_where_the_crop_says(self):
        """A head that answers by the colour of the crop labels the pixels of that colour."""
        parser = SAMCLIPCropParser("random", tiny_models.SCHNET_INSIDE)
        pixels = torch.zeros(64, 64, 3, dtype=torch.uint8)
        pixels[:32] = 255
        crops = []

        def refine(crop):
            crops.append(crop)
            return crop

        def classify(crop, mask):
            bright = torch.nn.functional.avg_pool2d(crop.mean(dim=1, keepdim=True), 4) / 255
            logits = torch.full((len(crop), 20, *mask.shape[2:]), -100.0)
            logits[:, 5:6], logits[:, 9:10] = bright * 10, (1 - bright) * 10
            return logits, None

        parser.network.refine_crops, parser.network.classify = refine, classify
        one = people(64, 64, (16, 8, 48, 56))
        (parts,) = parser.parse([Image(pixels)], [one])
        assert crops[0].shape == (1, 3, 64, 48)
        inside = one.masks.bits[0]
        assert set(parts.labels[:31][inside[:31]].tolist()) == {5}
        assert set(parts.labels[33:][inside[33:]].tolist()) == {9}

    @pytest.mark.slow
    def test_each_parser_says_which_is_for_what(self):
        with pytest.raises(UserError, match="use SAMCLIPCropParser"):
            SAMCLIPParser("random", Levels(), tiny_models.SCHNET_INSIDE)
        with pytest.raises(UserError, match="use SAMCLIPParser"):
            SAMCLIPCropParser("random", TINY)
        with pytest.raises(UserError, match="person_batch"):
            SAMCLIPCropParser("random", tiny_models.SCHNET_INSIDE, person_batch=0)
