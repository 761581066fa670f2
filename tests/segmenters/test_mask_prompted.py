"""Masks as prompts: who has one is corrected, who has none is asked about as ever, and nobody changes places."""

import pytest
import torch
from fakes import FakeSegmenter
from prompt_fakes import NOBODY, BlobSegmenter, crowd, picture

from bmp.errors import UserError
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.prompted import mask_prompt
from bmp.structures import Masks

HEIGHT, WIDTH = 48, 64


class Given:
    """A segmenter whose masks are given."""

    def __init__(self, *masks):
        self._masks = list(masks)

    def open(self, images):
        return [f"view {number}" for number, _ in enumerate(images)]

    def segment(self, views, people, poses, others):
        assert views == [f"view {number}" for number, _ in enumerate(people)]
        return [Masks(bits, torch.ones(len(bits))) for bits in self._masks]


def segment(segmenter, *images):
    pictures = [picture(HEIGHT, WIDTH, seed) for seed, _ in enumerate(images)]
    people, poses = zip(*images, strict=True)
    return segmenter.segment(segmenter.open(pictures), people, poses, [NOBODY] * len(images))


def band(*rows):
    """Masks of the whole width over these rows, one mask a pair; None is empty."""
    masks = torch.zeros(len(rows), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, row in zip(masks, rows, strict=True):
        if row is not None:
            mask[slice(*row)] = True
    return masks


def test_a_mask_becomes_logits_of_the_decoders_size():
    logits = mask_prompt(band((0, HEIGHT), None, (0, 24)), (16, 16))
    assert logits.shape == (3, 16, 16)
    assert logits.dtype == torch.float32
    certain = torch.full((16, 16), 6.0)
    torch.testing.assert_close(logits[0], certain)
    torch.testing.assert_close(logits[1], -certain)
    torch.testing.assert_close(logits[2, :7], certain[:7])
    torch.testing.assert_close(logits[2, 9:], -certain[9:])
    # an edge within a cell is in between
    torch.testing.assert_close(mask_prompt(band((0, HEIGHT // 2)), (1, 1)), torch.zeros(1, 1, 1))


def test_the_network_gets_each_mask_as_its_own_earlier_answer():
    images = [crowd(3, HEIGHT, WIDTH, 1), crowd(0, HEIGHT, WIDTH), crowd(2, HEIGHT, WIDTH, 2)]
    starts = band((0, 20), (20, 48), (5, 30)), band(), band((0, 48), (40, 48))
    blobs = BlobSegmenter()
    views = blobs.open([picture(HEIGHT, WIDTH, seed) for seed in range(3)])
    prompts = [blobs.prompter.prompts(people, poses, NOBODY) for people, poses in images]
    expected = blobs.logits(views, prompts, [mask_prompt(masks, blobs.logit_size) for masks in starts])
    for masks, (logits, scores), view, asked in zip(
        segment(MaskPromptedSegmenter(BlobSegmenter(), Given(*starts)), *images), expected, views, prompts, strict=True
    ):
        assert torch.equal(masks.bits, blobs.bits(view, logits))
        assert torch.equal(masks.scores, scores)
        assert torch.equal(masks.prompts.points, asked.points)


class Cornered(BlobSegmenter):
    """Sees images with their longer side as long as its input, as SAM 1 does."""

    def _to_network(self, points, height, width):
        return points / max(height, width) * self._size


def test_a_mask_lies_where_the_network_sees_the_image():
    segmenter = Cornered()
    (view,) = segmenter.open([picture(HEIGHT, WIDTH)])
    logits = segmenter.mask_prompts(view, band((0, HEIGHT), None))
    assert logits.shape == (2, 16, 16)
    assert (logits[0, :12] > 5).all()
    assert (logits[0, 12:] == -6).all()
    assert (logits[1] < -5).all()


def test_somebody_without_a_pixel_is_asked_about_by_points_alone():
    image, starts = crowd(4, HEIGHT, WIDTH, 3), band(None, (0, 30), None, (10, 48))
    (mixed,) = segment(MaskPromptedSegmenter(BlobSegmenter(), Given(starts)), image)
    (alone,) = segment(BlobSegmenter(), image)
    (whole,) = segment(MaskPromptedSegmenter(BlobSegmenter(), Given(band((0, 30), (0, 30), (0, 30), (10, 48)))), image)
    assert torch.equal(mixed.bits[[0, 2]], alone.bits[[0, 2]])
    assert torch.equal(mixed.bits[[1, 3]], whole.bits[[1, 3]])
    assert not torch.equal(mixed.bits[1], alone.bits[1])
    assert torch.equal(mixed.prompts.points, alone.prompts.points)


def test_nothing_is_encoded_or_decoded_twice():
    blobs = BlobSegmenter(prompt_chunk=8)
    segment(MaskPromptedSegmenter(blobs, Given(band((0, 9), None, (9, 20)))), crowd(3, HEIGHT, WIDTH))
    assert blobs.encoded == [1]
    assert sorted(blobs.decoded) == [1, 2]


def test_only_prompted_segmenters_can_be_prompted():
    with pytest.raises(UserError, match=r"expected a segmenter that is prompted with points, .* got FakeSegmenter"):
        MaskPromptedSegmenter(FakeSegmenter(), FakeSegmenter())
