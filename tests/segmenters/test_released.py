"""The release's way to prompt SAM: who is asked about, with which points, and in which colours."""

import pytest
import torch
from fakes import FakeSegmenter, scene
from prompt_fakes import NOBODY, BlobSegmenter, PosePrompter, crowd, hide, picture

from bmp.errors import UserError
from bmp.registry import PROMPTERS, SEGMENTERS
from bmp.segmenters.prompting import MaxVisibility
from bmp.segmenters.released import ExchangedColours, GatedMaxVisibility
from bmp.structures import Detections, Poses


def _poses(*people):
    """One pose a person, of three keypoints (score, visibility) each."""
    scores, visibility = torch.tensor(people).reshape(-1, 3, 2).unbind(-1)
    keypoints = torch.arange(len(people) * 6).reshape(-1, 3, 2).float()
    return Poses(keypoints, scores, visibility, visibility)


@pytest.mark.parametrize(
    ("person", "chosen", "paper"),
    [
        ([(0.9, 0.9), (0.9, 0.6), (0.9, 0.7)], [0, 2, 1], [0, 2, 1]),
        # a keypoint that is sure of itself opens the gate, and then visibility alone counts
        ([(0.6, 0.6), (0.1, 0.9), (0.9, 0.4)], [1, 0, -1], [1, 0, 2]),
        # nobody passes with a high score here and a high visibility there
        ([(0.1, 0.9), (0.9, 0.4), (0.4, 0.8)], [-1, -1, -1], [0, 2, 1]),
        # the gates themselves do not pass; of who passes, a keypoint at the gate is taken
        ([(0.5, 0.9), (0.9, 0.5), (0.0, 0.0)], [-1, -1, -1], [0, 1, 2]),
        ([(0.6, 0.6), (0.0, 0.5), (0.0, 0.49)], [0, 1, -1], [0, 1, 2]),
    ],
)
def test_two_gates(person, chosen, paper):
    poses = _poses(person)
    people = Detections(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.ones(1))
    prompts = GatedMaxVisibility().prompts(people, poses, Poses.empty(3))
    assert prompts.keypoints.tolist() == [chosen]
    assert prompts.labels.tolist() == [[1 if keypoint >= 0 else -1 for keypoint in chosen]]
    assert MaxVisibility().prompts(people, poses, Poses.empty(3)).keypoints.tolist() == [paper]


def test_gates_of_each_person_and_of_nobody():
    poses = _poses([(0.9, 0.9)] * 3, [(0.1, 0.9)] * 3)
    people = Detections(torch.zeros(2, 4), torch.ones(2))
    assert GatedMaxVisibility(count=2).prompts(people, poses, Poses.empty(3)).keypoints.tolist() == [[0, 1], [-1, -1]]
    assert len(GatedMaxVisibility().prompts(Detections.empty(), Poses.empty(3), Poses.empty(3))) == 0
    with pytest.raises(UserError, match="score_threshold: expected a number in"):
        GatedMaxVisibility(score_threshold=5)


def test_somebody_without_prompts_is_asked_about_all_the_same():
    people, poses = crowd(2, 40, 50)
    poses = hide(poses, 1, 0, 1, 2)
    image = picture(40, 50)

    def masks(**options):
        segmenter = BlobSegmenter(PosePrompter(), **options)
        (found,) = segmenter.segment(segmenter.open([image]), [people], [poses], [NOBODY])
        return found, segmenter.decoded

    empty, decoded = masks()
    assert (empty.scores[1], bool(empty.bits[1].any()), sum(decoded)) == (0, False, 1)
    asked, decoded = masks(without_prompts="unprompted")
    assert (asked.scores[1], sum(decoded)) == (1, 2)  # what the network says of no points
    assert torch.equal(asked.bits[0], empty.bits[0])
    with pytest.raises(UserError, match="without_prompts: expected 'empty' or 'unprompted', got 'all'"):
        BlobSegmenter(PosePrompter(), without_prompts="all")


def test_red_and_blue_are_exchanged():
    inner = FakeSegmenter()
    image = scene((3, 4, 9, 12))
    (view,) = ExchangedColours(inner).open([image])
    assert torch.equal(view.pixels, image.pixels[..., [2, 1, 0]])
    assert torch.equal(image.pixels, scene((3, 4, 9, 12)).pixels)
    assert inner.opened == [view]


def test_they_are_registered():
    assert PROMPTERS.build({"type": "GatedMaxVisibility", "count": 2}).count == 2
    assert isinstance(SEGMENTERS.build({"type": "ExchangedColours", "segmenter": FakeSegmenter()}), ExchangedColours)
