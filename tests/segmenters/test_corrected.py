"""What a segmenter is asked when a person at the screen corrects somebody: keypoints, clicks, the mask before."""

from dataclasses import replace

import pytest
import torch
from fakes import FakeSegmenter, scene
from prompt_fakes import NOBODY, crowd, picture

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.segmenters.corrected import Correction, corrected_mask, takes_points
from bmp.segmenters.detected import DetectedMasks
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.segmenters.prompting import MaxVisibility


class Listening(PromptedSegmenter):
    """Remembers what it is asked, and answers with a mask of nothing but the pixels around positive points."""

    logit_size = (16, 16)
    _size = 16

    def __init__(self):
        super().__init__(MaxVisibility(3), device="cpu")
        self.asked, self.previous = [], []

    def _encode(self, images):
        return (torch.zeros(len(images), 1, 1, 1),)

    def _to_network(self, points, height, width):
        return points / points.new_tensor([width, height]) * self._size

    def _decode(self, features, prompts, previous=None, multimask=False):
        self.asked.append(prompts)
        self.previous.append(previous)
        logits = torch.full((len(prompts), 16, 16), -1.0)
        for x, y in prompts.points[0][prompts.labels[0] == 1].long().clamp(0, 15).tolist():
            logits[0, y, x] = 1.0
        return logits, torch.full((len(prompts),), 0.75)

    def _enlarge(self, logits, height, width):
        return torch.nn.functional.interpolate(logits[:, None], (height, width))[:, 0]


def correction(clicks=(), labels=(), moved=(), mask=None):
    people, poses = crowd(1, 32, 32)
    visibility = torch.linspace(0.9, 0.1, 17)[None].clone()
    visibility[0, list(moved)] = 1.0
    hand = torch.zeros(17, dtype=torch.bool)
    hand[list(moved)] = True
    return Correction(
        replace(people, masks=mask),
        replace(poses, visibility=visibility),
        hand,
        torch.tensor(clicks, dtype=torch.float32).reshape(-1, 2),
        torch.tensor(labels, dtype=torch.int8),
    )


def full():
    return torch.ones(1, 32, 32, dtype=torch.bool)


def ask(wrap, asked):
    part = Listening()
    segmenter = wrap(part)
    (view,) = segmenter.open([picture(32, 32)])
    masks = corrected_mask(segmenter, view, asked, NOBODY, COCO_KEYPOINTS)
    assert masks.bits.shape == (1, 32, 32)
    assert masks.scores.tolist() == [0.75]
    return part, masks


def plain(part):
    return part


def mask_prompted(part):
    return MaskPromptedSegmenter(part, DetectedMasks())


@pytest.mark.slow
def test_clicks_and_all_visible_keypoints_placed_by_hand_are_prompts_beside_the_prompters_own():
    asked = correction(clicks=[[4, 4], [8, 8]], labels=[1, 0], moved=[10, 11, 12, 13])
    part, masks = ask(plain, asked)
    (prompts,) = part.asked
    assert prompts.keypoints.tolist() == [[10, 11, 12, 13, -1, -1]]
    assert prompts.labels.tolist() == [[1, 1, 1, 1, 1, 0]]
    assert prompts.points[0, -2:].tolist() == [[2, 2], [4, 4]]  # pixels of the network
    assert bool(masks.bits[0, 4, 4])


def test_a_keypoint_that_was_put_where_nobody_sees_it_is_no_prompt():
    hidden = correction(moved=[16])
    visibility = hidden.pose.visibility.clone()
    visibility[0, 16] = 0
    part, _ = ask(plain, replace(hidden, pose=replace(hidden.pose, visibility=visibility)))
    assert part.asked[0].keypoints.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("wrap", "asked", "starts"),
    [
        (plain, correction(mask=full()), False),
        (plain, correction(clicks=[[1, 1]], labels=[1], mask=full()), True),
        (plain, correction(clicks=[[1, 1]], labels=[1]), False),
        (mask_prompted, correction(mask=full()), True),
        (mask_prompted, correction(), True),  # the neighbourhood of the skeleton
    ],
)
def test_the_mask_on_the_screen_is_corrected_where_there_are_clicks_or_the_pipeline_does_so(wrap, asked, starts):
    part, _ = ask(wrap, asked)
    assert [each is not None for each in part.previous] == [starts]


def test_a_segmenter_without_points_follows_box_and_pose():
    asked, segmenter = correction(), FakeSegmenter()
    (view,) = segmenter.open([scene(height=32, width=32)])
    masks = corrected_mask(segmenter, view, asked, NOBODY, COCO_KEYPOINTS)
    expected = FakeSegmenter().segment([view], [asked.person], [asked.pose], [NOBODY])[0]
    assert torch.equal(masks.bits, expected.bits)
    assert not takes_points(segmenter)
    assert takes_points(mask_prompted(Listening()))
    with pytest.raises(UserError, match="FakeSegmenter takes no points"):
        corrected_mask(segmenter, view, correction(clicks=[[1, 1]], labels=[1]), NOBODY, COCO_KEYPOINTS)
