"""The detector's own masks: handed on as they are, and refused where there are none."""

import pytest
import torch
from fakes import detections

from bmp import UserError
from bmp.segmenters.detected import DetectedMasks
from bmp.structures import Detections, Image, Poses

IMAGE = Image(torch.zeros(4, 6, 3, dtype=torch.uint8))


def segment(people):
    segmenter = DetectedMasks()
    return segmenter.segment(segmenter.open([IMAGE]), [people], [Poses.empty(17)], [Poses.empty(17)])[0]


def test_masks_and_scores_are_those_of_the_detections():
    bits = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    masks = segment(Detections(torch.tensor([[0.0, 0, 6, 4]] * 2), torch.tensor([0.9, 0.4]), bits))
    assert torch.equal(masks.bits, bits)
    assert masks.scores.tolist() == pytest.approx([0.9, 0.4])


def test_boxes_alone_are_refused():
    with pytest.raises(UserError, match="a detector that makes masks"):
        segment(detections((0, 0, 6, 4)))
