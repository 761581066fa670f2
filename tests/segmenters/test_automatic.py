"""Whatever there is in a picture, with a segmenter whose answers are plain."""

import pytest
import torch
from sam_pt_fakes import RedSAM, mask_in, textured

from bmp.errors import UserError
from bmp.segmenters.automatic import automatic_masks

(FRAME,) = textured(lambda t: (10, 5, 50, 40), lambda t: (55, 42, 95, 76), count=1)


def found(segmenter=None, **options):
    segmenter = segmenter or RedSAM()
    return automatic_masks(segmenter, FRAME.image, FRAME.image, **({"side": 8} | options))


def test_each_thing_is_found_once():
    masks = found()
    expected = [mask_in(FRAME, 0), mask_in(FRAME, 1), mask_in(FRAME, -2.5)]
    assert len(masks) == 3
    assert all(any(torch.equal(mask, other) for other in expected) for mask in masks.bits)


@pytest.mark.slow
def test_at_most_so_many_and_the_surest_first():
    class Rising(RedSAM):
        """The surer, the farther right the point is."""

        def logits(self, views, prompts, previous=None, *, multimask=False):
            assert multimask
            ((logits, _),) = super().logits(views, prompts)
            return [(logits, 0.9 + prompts[0].points[:, 0, 0] / 2000)]

    masks = found(Rising())
    assert masks.scores.tolist() == sorted(masks.scores.tolist(), reverse=True)
    assert torch.equal(found(Rising(), most=2).bits, masks.bits[:2])


def test_unsure_and_unstable_masks_are_left_out():
    class Blurred(RedSAM):
        """Nearly as much of the picture is doubtful as is certain."""

        def logits(self, views, prompts, previous=None, *, multimask=False):
            ((logits, scores),) = super().logits(views, prompts)
            logits[:, :40] = logits[:, :40].clamp(max=0.5)
            return [(logits, scores)]

    assert len(found(min_score=0.95)) == 0
    assert len(found(Blurred())) == 1  # all of the second object is certain
    assert len(found(Blurred(), min_stability=0.0)) == 3


def test_no_grid():
    with pytest.raises(UserError, match="side: expected at least 1"):
        found(side=0)
