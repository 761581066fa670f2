"""SAM 2's memory, on a small network with made-up weights, against the predictor of the package sam2."""

from collections import OrderedDict

import pytest
import tiny_models
import torch
import torch.nn.functional as F  # noqa: N812

pytest.importorskip("sam2")

from bmp.models.sam2 import SAM2Network, build_sam2
from bmp.models.sam2_memory import MaskMemory, ObjectMemory

SIDE = tiny_models.SAM_SIDE
LENGTH = 20  # longer than the network remembers


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return build_sam2(tiny_models.sam2_config(tmp_path_factory.mktemp("model")), "random")


@pytest.fixture(scope="module")
def film():
    """A square that moves over noise: normalised pixels (T, 3, S, S), and its mask in each frame."""
    generator = torch.Generator().manual_seed(3)
    pixels = 0.3 * torch.randn(LENGTH, 3, SIDE, SIDE, generator=generator)
    masks = torch.zeros(LENGTH, SIDE, SIDE, dtype=torch.bool)
    for number in range(LENGTH):
        masks[number, 30:70, 20 + 2 * number : 50 + 2 * number] = True
    return pixels + masks[:, None], masks


@pytest.fixture(scope="module")
def features(network, film):
    """What the memory takes of each frame."""
    own = SAM2Network(network, torch.float32)
    frames = [own.features(own.encode(pixels[None])) for pixels in film[0]]
    return [(*levels, stride16 - own.no_memory.reshape(1, -1, 1, 1)) for *levels, stride16 in frames]


def published(network, pixels, given):
    """Logits of one object by sam2's own predictor; given: frame -> mask."""
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    class Predictor(SAM2VideoPredictor):
        """Its methods, on the network that there is; the builder sets the same options."""

        def __init__(self):
            torch.nn.Module.__init__(self)
            self.__dict__.update(network.__dict__)
            self.fill_hole_area, self.non_overlap_masks = 0, False
            self.clear_non_cond_mem_around_input, self.add_all_frames_to_correct_as_cond = False, True
            self.binarize_mask_from_pts_for_mem_enc = True

    predictor = Predictor()
    state = dict.fromkeys(
        ("point_inputs_per_obj", "mask_inputs_per_obj", "output_dict_per_obj", "temp_output_dict_per_obj")
    )
    state = {name: {} for name in state} | {
        "images": pixels,
        "num_frames": len(pixels),
        "offload_video_to_cpu": False,
        "offload_state_to_cpu": False,
        "video_height": SIDE,
        "video_width": SIDE,
        "device": torch.device("cpu"),
        "storage_device": torch.device("cpu"),
        "cached_features": {},
        "constants": {},
        "obj_id_to_idx": OrderedDict(),
        "obj_idx_to_id": OrderedDict(),
        "obj_ids": [],
        "frames_tracked_per_obj": {},
    }
    for frame, mask in given.items():
        predictor.add_new_mask(state, frame, 1, mask)
    return {frame: logits[0, 0] for frame, _, logits in predictor.propagate_in_video(state)}


@pytest.mark.slow
def test_masks_are_those_of_the_published_predictor(network, film, features):
    pixels, masks = film
    expected = published(network, pixels, {0: masks[0]})
    tracked, memory = MaskMemory(network, torch.float32), ObjectMemory()
    tracked.give(features[0], masks[0], memory, anew=True)
    for number in range(1, LENGTH):
        logits, score = tracked.follow(features[number], memory)
        large = F.interpolate(logits[None], (SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0]
        # What is remembered is rounded to bfloat16, and a rounding that goes the other way grows from frame to frame.
        assert torch.allclose(large, expected[number], atol=1e-2, rtol=1e-2), number
        assert 0 <= float(score) <= 1


@pytest.mark.slow
def test_what_is_remembered_does_not_grow(network, features, film):
    tracked, memory = MaskMemory(network, torch.float32), ObjectMemory()
    tracked.give(features[0], film[1][0], memory, anew=True)
    sizes = []
    for number in range(1, LENGTH):
        tracked.follow(features[number], memory)
        sizes.append((len(memory.frames), sum("maskmem_features" in each for each in memory.frames.values())))
    assert sizes[4] == (6, 6)
    assert sizes[15:] == [(16, 7)] * 4  # the given frame, six with features, fifteen with pointers
    assert len({id(each["maskmem_pos_enc"]) for each in memory.frames.values() if "maskmem_pos_enc" in each}) == 1


@pytest.mark.slow
def test_a_mask_that_is_given_anew_replaces_what_was_drawn_in_its_frame(network, features, film):
    masks = film[1]
    tracked, memory = MaskMemory(network, torch.float32), ObjectMemory()
    tracked.give(features[0], masks[0], memory, anew=True)
    before, _ = tracked.follow(features[1], memory)
    tracked.give(features[1], ~masks[1], memory, anew=False)
    assert sorted(memory.frames) == [2]
    assert memory.given == memory.now == 2
    after, _ = tracked.follow(features[2], memory)
    assert not torch.allclose(before, after)
    tracked.give(features[3], masks[3], memory, anew=True)
    assert (memory.given, memory.now, sorted(memory.frames)) == (4, 4, [3, 4])


def test_where_nothing_is_seen_the_mask_is_empty(network, features, film):
    tracked, memory = MaskMemory(network, torch.float32), ObjectMemory()
    tracked.give(features[0], torch.zeros_like(film[1][0]), memory, anew=True)
    head = network.sam_mask_decoder.pred_obj_score_head.layers[-1]
    was = head.bias.clone()
    try:
        head.bias += 1e4 * torch.tensor(-1.0)
        logits, score = tracked.follow(features[1], memory)
    finally:
        head.bias.copy_(was)
    assert float(logits.max()) < 0
    assert float(score) == 0
