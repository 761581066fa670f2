"""One image encoder for several stages: encoded once, forgotten with the image, refused where it is another's."""

import copy
import gc
import pickle

import pytest
import torch
from fakes import FakeDetector, FakePose, KeepAll, scene
from prompt_fakes import NOBODY, PosePrompter, crowd, picture

from bmp import BMP, UserError
from bmp.build import build
from bmp.config import load_config
from bmp.stages import ImageEncoder
from bmp.structures import Image

pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models

from bmp.models.compute import weights_digest
from bmp.models.sam2 import build_sam2
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.segmenters.detected import DetectedMasks
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.sam2 import SAM2Segmenter


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return tiny_models.sam2_config(tmp_path_factory.mktemp("sam2"))


@pytest.fixture
def encoder(tiny):
    return SAM2Encoder("random", tiny, image_batch=2)


def count_encoded(encoder):
    seen = []
    encoder.module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    return seen


def same(levels, others):
    return all(torch.equal(one, two) for one, two in zip(levels, others, strict=True))


def test_it_fits_the_protocol(encoder):
    assert isinstance(encoder, ImageEncoder)


@pytest.mark.slow
def test_another_size_is_encoded_each_time_and_forgotten(encoder):
    seen = count_encoded(encoder)
    images = [picture(40, 50, seed) for seed in range(3)]
    whole, half = encoder.levels_at(images, 128), encoder.levels_at(images[:1], 64)
    assert seen == [2, 1, 1]
    for levels, usual in zip(whole, encoder.levels(images), strict=True):
        for one, two in zip(levels, usual, strict=True):
            torch.testing.assert_close(one, two)
    assert [level.shape[-1] for level in half[0]] == [16, 8, 4]
    assert seen == [2, 1, 1, 2, 1]


def test_an_image_is_encoded_once_whoever_asks(encoder):
    seen = count_encoded(encoder)
    images = [picture(40, 50, seed) for seed in range(3)]
    first = encoder.levels([images[1]])
    again = encoder.levels([*images, images[0]])
    assert seen == [1, 2]
    assert first[0] is again[1]
    assert again[0] is again[3]
    assert [level.shape for level in again[2]] == [(1, 64, 32, 32), (1, 64, 16, 16), (1, 64, 8, 8)]
    assert encoder.levels([]) == []
    (other,) = encoder.levels([Image(images[0].pixels)])  # another object is another image
    assert seen == [1, 2, 1]
    assert same(other, again[0])


@pytest.mark.slow
def test_levels_go_with_their_image(encoder):
    images = [picture(40, 50, seed) for seed in range(2)]
    encoder.levels(images)
    assert len(encoder._known) == 2
    del images[0]
    gc.collect()
    assert len(encoder._known) == 1


def test_what_was_encoded_in_inference_mode_can_be_used_outside(encoder):
    image = picture(40, 50)
    with torch.inference_mode():
        (levels,) = encoder.levels([image])
    assert not any(level.is_inference() for level in levels)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_segmenter_gives_the_same_masks_with_it(tiny, dtype):
    images = [picture(60, 80), picture(33, 97), picture(20, 20)]
    people, poses = zip(*(crowd(3, image.height, image.width) for image in images), strict=True)
    options = dict(dtype=dtype, image_batch=1)
    own = SAM2Segmenter(PosePrompter(), "random", tiny, **options)
    shared = SAM2Segmenter(PosePrompter(), "random", tiny, encoder=SAM2Encoder("random", tiny, **options), **options)
    for one, two in zip(
        *(each.segment(each.open(images), people, poses, [NOBODY] * 3) for each in (own, shared)), strict=True
    ):
        assert torch.equal(one.bits, two.bits)
        assert torch.equal(one.scores, two.scores)


def test_the_weights_are_there_once(tiny, encoder):
    segmenter = SAM2Segmenter(PosePrompter(), "random", tiny, encoder=encoder)
    assert segmenter.network.image_encoder is encoder.module


@pytest.mark.slow
@pytest.mark.parametrize("part", ["trunk", "side"])
def test_an_encoder_that_the_decoder_was_not_trained_with_is_refused(tiny, encoder, part):
    if part == "trunk":
        with torch.no_grad():
            next(encoder.module.trunk.parameters()).add_(1e-3)
        encoder.fingerprint = weights_digest(encoder.module)
    else:
        encoder.side *= 2
    with pytest.raises(
        UserError, match="encoder: its weights are not those of the image encoder in 'random'"
    ) as caught:
        SAM2Segmenter(PosePrompter(), "random", tiny, encoder=encoder)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_is_of_the_weights_alone(tiny):
    one, two = (build_sam2(tiny, "random").image_encoder for _ in range(2))
    two.to(memory_format=torch.channels_last)
    assert weights_digest(one) == weights_digest(two)
    with torch.no_grad():
        next(two.parameters()).add_(1e-3)
    assert weights_digest(one) != weights_digest(two)


@pytest.mark.slow
@pytest.mark.parametrize("trace", [False, True])
def test_the_loop_encodes_once_for_two_segmenters_and_keeps_nothing(tiny, encoder, trace):
    """Both parts of MaskPromptedSegmenter open the image; rounds, traces and the caller's pictures outlive it."""
    seen = count_encoded(encoder)
    parts = [SAM2Segmenter(PosePrompter(count), "random", tiny, encoder=encoder) for count in (1, 3)]
    model = BMP(FakeDetector(), FakePose(), MaskPromptedSegmenter(parts[0], start=parts[1]), KeepAll(), rounds=3)
    images = [scene((2, 2, 30, 40), (20, 10, 60, 46)), scene((5, 5, 20, 20))]
    people = model(images, trace=trace)
    assert all(len(each) for each in people)
    assert seen == [2]
    model.detector.calls.clear()  # which a real one does not keep
    gc.collect()
    assert len(encoder._known) == 0
    assert (len(people[0].trace) > 1) == trace


@pytest.mark.slow
def test_copies_remember_nothing_and_give_the_same(encoder):
    image = picture(40, 50)
    (levels,) = encoder.levels([image])
    for other in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        assert len(other._known) == 0
        assert same(other.levels([image])[0], levels)


def test_values_out_of_range():
    with pytest.raises(UserError, match="image_batch: expected at least 1, got 0"):
        SAM2Encoder("random", image_batch=0)


@pytest.mark.slow
def test_a_config_shares_one_between_the_parts_of_a_preset():
    pipeline = load_config("nano.py").pipeline.to_dict()
    sam = pipeline["segmenter"]["segmenter"]
    encoder = dict(type="SAM2Encoder", model=sam["model"], checkpoint=sam["checkpoint"])
    pipeline.update(
        detector=dict(type="fakes.FakeDetector"), pose=dict(type="fakes.FakePose"), shared=dict(sam=encoder)
    )
    pipeline["segmenter"] = dict(
        type="MaskPromptedSegmenter", segmenter=sam | dict(encoder="sam"), start=sam | dict(encoder="sam")
    )
    segmenter = build(dict(pipeline=pipeline), "cpu").segmenter
    assert segmenter.segmenter.encoder is segmenter.start.encoder
    assert isinstance(segmenter.start.encoder, SAM2Encoder)
    assert not isinstance(segmenter.start, DetectedMasks)
