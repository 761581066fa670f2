"""People's masks by SAM 2's memory: who is remembered, for how long, and with which network."""

from dataclasses import replace

import pytest
import tiny_models
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll
from prompt_fakes import PosePrompter
from track_fakes import film, moving, video_loop

pytest.importorskip("sam2")

from bmp.errors import UserError
from bmp.loop import Loop
from bmp.segmenters.sam2 import SAM2Segmenter
from bmp.segmenters.sam2_memory import SAM2Memory

SQUARES = moving((4, 10, 14, 30), dx=1), moving((44, 12, 54, 36))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny_models.sam2_config(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def segmenter(config):
    return SAM2Segmenter(PosePrompter(), "random", config)


class Finding:
    """Right masks in a look, the network's own between two; it counts what is encoded."""

    def __init__(self, segmenter):
        self.segmenter, self.right, self.opened = segmenter, FakeSegmenter(), 0

    def open(self, images):
        self.opened += len(images)
        return list(zip(images, self.segmenter.open(images), strict=True))

    def inside(self, views):
        return self.segmenter, [view for _, view in views]

    def segment(self, views, people, poses, others):
        return self.right.segment([image for image, _ in views], people, poses, others)


def remembering(keyframe_every=4, **options):
    loop = video_loop({0: (1, 0)}, keyframe_every=keyframe_every, **options)
    loop.prompts = SAM2Memory()
    return loop


def images(segmenter):
    return Loop(FakeDetector(), FakePose(), Finding(segmenter), KeepAll())


@pytest.mark.slow
def test_everybody_found_is_remembered_and_each_frame_is_encoded_once(segmenter):
    # Nobody is looked for a second time, not even while somebody is lost.
    loop, photos = remembering(min_mask_score=0.0, keyframe_every=8), images(segmenter)
    state = loop.begin(photos)
    list(loop.run(photos, film(*SQUARES, count=3), state))
    assert sorted(state.looks._objects) == state.people.ids.tolist() == [1, 2]
    # Made-up weights may lose somebody; who is drawn is remembered in each frame.
    assert [each.given for each in state.looks._objects.values()] == [1, 1]
    assert max(each.now for each in state.looks._objects.values()) == 3
    assert photos.segmenter.opened == 3
    assert loop.prompts._objects == {}  # each video has a memory of its own


@pytest.mark.slow
def test_a_look_gives_the_masks_anew_and_who_is_retired_is_forgotten(segmenter):
    loop, photos = remembering(), images(segmenter)
    state = loop.begin(photos)
    (frame,) = film(*SQUARES, count=1)
    list(loop.run(photos, [frame], state))
    (view,) = photos.segmenter.open([frame.image])
    state.looks.prompted_masks(photos.segmenter, view, state.people)
    assert [(each.given, each.now) for each in state.looks._objects.values()] == [(1, 2), (1, 2)]
    state.looks.remember(photos.segmenter, view, state.people[torch.tensor([1])], torch.tensor([True]))
    assert {name: (each.given, each.now) for name, each in state.looks._objects.items()} == {2: (2, 2)}


@pytest.mark.slow
def test_a_run_goes_on_from_a_state_as_if_nothing_had_happened(segmenter):
    loop, photos, frames = remembering(min_mask_score=0.0), images(segmenter), film(*SQUARES, count=7)

    def rest(state):
        loop.resume(photos, state, frames[2].image)
        return list(loop.run(photos, frames[3:], state))

    state = loop.begin(photos)
    list(loop.run(photos, frames[:3], state))
    read_back = replace(state, looks=None, memory=None, previous=None, scene=None)
    for one, other in zip(rest(state), rest(read_back), strict=True):
        assert torch.equal(one.people.instances.masks.bits, other.people.instances.masks.bits)
        assert torch.equal(one.people.instances.masks.scores, other.people.instances.masks.scores)


@pytest.mark.slow
def test_a_tuned_decoder_and_one_that_knows_memory_share_an_encoder(config, tmp_path, segmenter):
    other = tmp_path / "other.pt"
    weights = {name: value.clone() for name, value in segmenter.network._network.state_dict().items()}
    decoder = next(name for name in weights if name.startswith("sam_mask_decoder.conv_s0"))
    weights[decoder] += 1
    torch.save({"model": weights}, other)
    both = SAM2Segmenter(PosePrompter(), "random", config, memory_checkpoint=str(other))
    (image,) = film(*SQUARES, count=1)
    (own,), (view,) = segmenter.open([image.image]), both.open([image.image])
    assert all(torch.equal(a, b) for a, b in zip(own.features, view.features[:3], strict=True))
    assert not torch.equal(both.memory_features(view)[0], segmenter.memory_features(own)[0])
    assert torch.equal(both.memory_features(view)[2], segmenter.memory_features(own)[2])
    assert both.video.image_encoder is both.network.image_encoder
    weights[next(name for name in weights if name.startswith("image_encoder"))] += 1
    torch.save({"model": weights}, other)
    with pytest.raises(UserError, match=r"memory_checkpoint: the image encoder in .* is not that in"):
        SAM2Segmenter(PosePrompter(), "random", config, memory_checkpoint=str(other))


def test_what_is_no_sam_2_is_one_line():
    photos = Loop(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())
    with pytest.raises(UserError, match="cannot be asked by points"):
        list(remembering().run(photos, film(*SQUARES, count=2)))
