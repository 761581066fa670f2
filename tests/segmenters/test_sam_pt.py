"""How points that were followed become prompts."""

from dataclasses import replace

import pytest
import torch
from prompt_fakes import picture
from sam_pt_fakes import MadeUpSAM

from bmp.errors import UserError
from bmp.ops.query_points import NEGATIVE, SURFACE
from bmp.segmenters.detected import DetectedMasks
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.prompted import promptable
from bmp.segmenters.sam_pt import PromptRules, SAMPTPrompts, prompted_masks
from bmp.stages import PromptableSegmenter, TrackPrompter
from bmp.structures import Detections, Instances, Masks, Poses
from bmp.tracking.appearance import LOOK_SIZE
from bmp.tracking.table import newcomers

VIEW = picture(48, 64)


def ask(points, labels, segmenter=None, regions=None, **rules):
    segmenter = MadeUpSAM() if segmenter is None else segmenter
    rules = PromptRules(**({"refinements": 0} | rules))
    regions = None if regions is None else torch.tensor(regions)
    points, labels = torch.tensor(points).float(), torch.tensor(labels, dtype=torch.int8)
    return prompted_masks(segmenter, VIEW, points, labels, rules, regions=regions), segmenter


TWO = [[[10, 10], [14, 10], [40, 30]], [[40, 20], [44, 20], [5, 40]]]


def test_positive_points_are_asked_about_before_all_points():
    found, segmenter = ask(TWO, [[1, 1, 0], [1, -1, 0]])
    first, second = segmenter.questions
    assert [question[:3] for question in first] == [
        ([[10, 10], [14, 10]], [1, 1], None),
        ([[40, 20]], [1], None),
    ]
    assert [question[:3] for question in second] == [
        ([[10, 10], [14, 10], [40, 30]], [1, 1, 0], None),
        ([[40, 20], [5, 40]], [1, 0], None),
    ]
    assert [question[3] is not None for question in first + second] == [False, False, True, True]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert (found.logits > 0).flatten(1).any(dim=1).tolist() == [True, False]


def test_without_negatives_there_is_one_question():
    found, segmenter = ask(TWO, [[1, 1, -1], [1, 1, 1]], negatives=False)
    assert len(segmenter.questions) == 1
    assert found.asked.all()


def test_the_points_of_others_are_negative_but_only_nearby():
    _, segmenter = ask(TWO, [[1, 1, 0], [1, 1, 0]], others=True)
    assert segmenter.questions[1][0][1] == [1, 1, 0, 0, 0]
    assert segmenter.questions[1][0][0][3:] == [[40, 20], [44, 20]]
    near = [[0, 0, 42, 48], [30, 0, 64, 48]]
    _, segmenter = ask(TWO, [[1, 1, 0], [1, 1, 0]], others=True, regions=near)
    assert segmenter.questions[1][0][0][3:] == [[40, 20]]
    assert segmenter.questions[1][1][0][3:] == []


@pytest.mark.parametrize("others", [False, True])
def test_who_is_not_seen_gets_an_empty_mask_whatever_negative_points_are(others):
    found, segmenter = ask(TWO, [[-1, -1, 0], [1, 1, 0]], others=others, refinements=2)
    assert all(len(question) == 1 for question in segmenter.questions)
    assert found.asked.tolist() == [False, True]
    assert found.scores[0] == 0
    assert (found.logits[0] < 0).all()


def test_refinements_have_the_box_from_pixel_to_pixel_and_the_last_answer():
    found, segmenter = ask([[[20, 20], [24, 20]]], [[1, 1]], refinements=2)
    boxes = [question[0][2] for question in segmenter.questions]
    assert boxes[:2] == [None, None]
    # With a mask prompt the disks have a radius of 7.5.
    assert boxes[2:] == [[13, 13, 31, 27]] * 2
    assert found.prompts.boxes.tolist() == boxes[2:3]


def test_refinement_stops_for_masks_of_one_pixel_alone():
    near = [[[20, 20], [24, 20], [23, 21]], [[40, 20], [44, 20], [-9, 40]]]
    edge = [[[-7.49, 20], [-7.49, 20], [-50, -50]], [[40, 20], [44, 20], [-9, 40]]]
    for points, expected in ((near, [2, 2, 2, 2, 2]), (edge, [2, 2, 1, 1, 1])):
        _, segmenter = ask(points, [[1, 1, 0], [1, 1, 0]], refinements=3)
        assert [len(question) for question in segmenter.questions] == expected


def test_masks_of_low_predicted_iou_are_given_up_and_keep_their_score():
    found, _ = ask([[[20, 20], [24, 20]]], [[1, -1]], min_score=0.7)
    assert found.scores.tolist() == pytest.approx([0.6])
    assert (found.logits < 0).all()
    found, _ = ask([[[20, 20], [24, 20]]], [[1, -1]], min_score=0.5)
    assert (found.logits > 0).any()


def test_nobody_at_all():
    empty = prompted_masks(
        MadeUpSAM(), VIEW, torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.int8), PromptRules(others=True)
    )
    assert len(empty.scores) == 0
    assert empty.logits.shape == (0, 48, 64)


@pytest.mark.parametrize("rules", [{"refinements": -1}, {"min_score": 1.5}])
def test_wrong_rules(rules):
    with pytest.raises(UserError, match=f"{next(iter(rules))}: expected"):
        PromptRules(**rules)
    with pytest.raises(UserError, match=f"{next(iter(rules))}: expected"):
        SAMPTPrompts(**rules)


class TestSAMPTPrompts:
    def people(self):
        """Two people of four points each: two joints, one of the surface, one beside them."""
        certain = torch.ones(2, 2)
        instances = Instances(
            Detections(torch.tensor([[4.0, 4.0, 30.0, 20.0], [34.0, 4.0, 60.0, 40.0]]), torch.ones(2)),
            Poses(torch.zeros(2, 2, 2), certain, certain, certain),
            Masks(torch.zeros(2, 48, 64, dtype=torch.bool), torch.ones(2)),
            torch.ones(2, dtype=torch.int64),
        )
        new = newcomers(torch.tensor([1, 2]), instances, torch.zeros(2, LOOK_SIZE), 3)
        points = torch.tensor(
            [[[10, 10], [20, 10], [14, 12], [29, 19]], [[40, 10], [29, 15], [50, 30], [36, 38]]]
        ).float()
        kinds = torch.tensor([[0, 1, SURFACE, NEGATIVE]] * 2)
        seen = torch.tensor([[True, True, False, True], [True, True, True, False]])
        return replace(new, points=points, kinds=kinds, seen=seen)

    def test_it_is_a_track_prompter(self):
        assert isinstance(SAMPTPrompts(), TrackPrompter)

    def test_people_are_asked_about_together_and_others_count_within_the_box(self):
        segmenter = MadeUpSAM()
        masks = SAMPTPrompts(refinements=1).prompted_masks(segmenter, VIEW, self.people())
        assert [len(question) for question in segmenter.questions] == [2, 2, 2]
        assert segmenter.questions[1][0][:2] == ([[10, 10], [20, 10], [29, 19], [29, 15]], [1, 1, 0, 0])
        assert segmenter.questions[1][1][:2] == ([[40, 10], [29, 15], [50, 30]], [1, 1, 1])
        assert masks.bits.shape == (2, 48, 64)
        assert masks.bits[0, 10, 10]
        assert not masks.bits[0, 15, 29]
        assert masks.prompts.keypoints[0].tolist()[:4] == [0, 1, -1, -1]

    def test_nobody(self):
        assert len(SAMPTPrompts().prompted_masks(MadeUpSAM(), VIEW, self.people()[[]])) == 0


def test_the_part_that_takes_points_is_found_within_others():
    segmenter = MadeUpSAM()
    assert isinstance(segmenter, PromptableSegmenter)
    assert promptable(segmenter, segmenter.open([VIEW])) == (segmenter, [VIEW])
    masked = MaskPromptedSegmenter.__new__(MaskPromptedSegmenter)
    masked.segmenter = segmenter
    assert promptable(masked, [(VIEW, None)]) == (segmenter, [VIEW])


def test_a_segmenter_that_takes_no_points_is_named():
    with pytest.raises(UserError, match="DetectedMasks cannot be asked by points; take one that can"):
        promptable(DetectedMasks())
