"""The table of round trips: what every format brings back, and that a difference is seen."""

import sys
from pathlib import Path

import pytest
from program import main_in, script

from bmp.io.convert import formats

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def table(tmp_path):
    code, out, err = main_in(tmp_path, str(BENCHMARKS / "round_trips.py"), "--count", "1", main=script)
    assert code == 0, err
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in out.splitlines() if "`" in line]
    return {name.strip("`"): cells for name, *cells in lines}


@pytest.mark.slow  # twelve formats there and back
def test_everybody_comes_back_and_nothing_but_boxes_in_whole_pixels_has_changed(table):
    assert table.keys() == formats().keys()
    people = table["coco"][0]
    assert int(people) > 0
    for name, (count, *cells) in table.items():
        assert count == people
        assert set(cells[1:]) <= {"0", "none"}, name
        assert float(cells[0].replace("none", "0")) <= (1 if name == "voc" else 0), name
        lacking = {
            column for column, cell in zip(("boxes", "masks", "keypoints"), cells, strict=False) if cell == "none"
        }
        assert lacking == set(formats()[name].lacks) - {"scores"}


def test_what_has_changed_is_seen(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    from round_trips import differences

    square = {"segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]], "bbox": [1, 1, 3, 3], "keypoints": [2, 2, 2, 3, 3, 1]}
    moved = {
        **square,
        "segmentation": [[1, 1, 4, 1, 4, 5, 1, 5]],
        "bbox": [1, 1, 3, 4.5],
        "keypoints": [2, 4, 1, 3, 3, 1],
    }
    assert differences(square, {**moved, "score": 0.5}, 8, 8, [[0, 1], [0, 1]]) == {
        "boxes": 1.5, "masks": 3, "keypoints": 2, "v": 1, "scores": None,
    }  # fmt: skip
