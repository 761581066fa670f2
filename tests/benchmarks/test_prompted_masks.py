"""What a segmenter makes of right prompts, for one that copies what it is given and knows how good it is."""

import sys
from pathlib import Path

import pytest
import torch
from ablation_fakes import OvalSegmenter

from bmp.datasets.synthcrowd import SynthCrowd
from bmp.segmenters.detected import DetectedMasks
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.prompting import MaxVisibility

pytest.importorskip("mmpose", reason="mmpose is not installed, whose transforms make masks with errors")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program():
    """The benchmark's module, which finds its neighbours as it does when it is run."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import prompted_masks

    yield prompted_masks
    sys.path.remove(str(ROOT / "benchmarks"))


class Copier(OvalSegmenter):
    """Returns a mask that it is prompted with as it came, and draws an oval around points; larger ovals score more."""

    def _decode(self, features, prompts, previous=None, multimask=False):
        if previous is not None:
            return previous, torch.ones(len(previous))
        return super()._decode(features, prompts, None, multimask)


@pytest.fixture(scope="module")
def numbers(program, tmp_path_factory):
    weights = tmp_path_factory.mktemp("weights") / "oval.txt"
    weights.write_text("0.01")
    segmenter = program.with_points(MaskPromptedSegmenter(Copier(MaxVisibility(6), str(weights)), DetectedMasks()))
    assert segmenter.prompter.count == 3
    return program.measure(SynthCrowd("test", count=4), segmenter)


@pytest.mark.slow
def test_who_copies_reaches_the_ceiling(numbers):
    assert 0 < numbers["large people"] < numbers["people"]
    assert numbers["IoU copied"] == numbers["IoU ceiling"] > 0.7
    assert numbers["IoU ceiling, large"] > numbers["IoU ceiling"]
    assert 0 < numbers["IoU from_keypoints"] < numbers["IoU with_errors"] < 1
    # Nothing is corrected, and the resolution costs something.
    assert 0.8 * numbers["IoU with_errors"] < numbers["IoU corrected"] < numbers["IoU with_errors"] + 0.01


@pytest.mark.slow
def test_the_worth_of_a_ranking(numbers):
    by_nothing, by_predicted, by_actual = (
        numbers[f"AP ranked by {name}"] for name in ("nothing", "predicted IoU", "actual IoU")
    )
    assert by_actual >= max(by_nothing, by_predicted)
    if by_actual > by_nothing:
        assert numbers["worth of the ranking"] == pytest.approx((by_predicted - by_nothing) / (by_actual - by_nothing))


@pytest.mark.slow
def test_the_table_has_every_number(program, numbers):
    columns = program.table("test", numbers).columns
    cells = [cell for column in columns[1:] for cell in column.cells]
    assert f"{numbers['IoU copied']:.3f}" in cells
    assert f"{numbers['worth of the ranking']:.2f}" in cells


def test_a_segmenter_without_points_is_refused(program):
    with pytest.raises(SystemExit, match="DetectedMasks is not prompted with points"):
        program.with_points(DetectedMasks())
