"""Which images of an evaluation are shown, and what the sheet of them shows."""

import numpy as np
import PIL.Image
import pytest
from fakes import scene
from report_scene import HEIGHT, SECOND, TRUTH, WIDTH, compare

from bmp.evaluation import examples
from bmp.io.images import ImageError


def test_quality_counts_who_was_not_found():
    comparison = compare()
    assert examples.image_qualities(TRUTH, comparison.rounds[0].matches) == {7: 0.5, 3: 0.0}
    assert examples.image_qualities(TRUTH, comparison.rounds[1].matches) == {7: 0.5, 3: 1.0}


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (0, {}),
        (1, {0: "best"}),
        (2, {0: "best", 1: "worst"}),
        (3, {0: "best", 1: "median", 2: "worst"}),
        (7, {0: "best", 1: "best", 2: "median", 3: "median", 5: "worst", 6: "worst"}),
        (30, {n: place for place, ids in (("best", (0, 1, 2)), ("median", (13, 14, 15)), ("worst", (27, 28, 29))) for n in ids}),
    ],
)  # fmt: skip
def test_best_median_and_worst_are_shown(count, chosen):
    assert examples._chosen({number: -float(number) for number in range(count)}) == chosen


def test_the_sheet_shows_truth_beside_results():
    class Scenes:
        ground_truth = TRUTH

        def file_name(self, index):
            return f"{index}.png"

        def load(self, index):
            if index == 1:
                raise ImageError("gone since")
            return scene((4, 4, 14, 24), height=HEIGHT, width=WIDTH)

    sheet = examples.example_sheet(Scenes(), SECOND, {7: 0.5, 3: 1.0})
    assert isinstance(sheet, PIL.Image.Image)
    pixels = np.asarray(sheet)
    # One row of two pictures of 64 x 48 pixels: ground truth has two people, of which the result shows the second.
    columns = np.flatnonzero((pixels[28:76] != examples._PAPER).any(axis=(0, 2)))
    assert columns[0] == 6
    start = columns[columns > 6 + 64][0]
    left = pixels[28:76, 6:70].astype(int)
    right = pixels[28:76, start : start + 64].astype(int)
    changed = np.abs(left - right).sum(2) > 60
    assert changed[8:20, 6:12].mean() > 0.5
    assert examples.example_sheet(Scenes(), SECOND, {3: 1.0}) is None
    assert examples.example_sheet(Scenes(), [], {}) is None
