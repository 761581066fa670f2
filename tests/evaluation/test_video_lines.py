"""Files of found people against files of labelled ones: the same, others, and files that do not go together."""

import json
from pathlib import Path

import pytest

from bmp.errors import UserError
from bmp.evaluation.video_lines import compare_lines
from bmp.synthcrowd.video_files import to_row
from bmp.synthcrowd.videos import VideoSettings, plan_video


@pytest.fixture(scope="module")
def rows() -> list:
    settings = VideoSettings(size=80, length=4, heights=(35.0, 60.0), cuts=0.0, people=(2, 2))
    return [to_row(frame) for frame in plan_video(0, 0, settings)]


def _written(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_same_people_are_worth_everything_whatever_their_ids(tmp_path: Path, rows: list) -> None:
    labels = _written(tmp_path / "a.jsonl", rows)
    others = [
        {**row, "people": [{**person, "track_id": 9 - person["track_id"]} for person in row["people"]]} for row in rows
    ]
    numbers = compare_lines(labels, _written(tmp_path / "b.jsonl", others[:3]))
    assert numbers.tracks.hota == 1
    assert numbers.masks is not None
    assert numbers.masks.region_and_contour == 1
    nobody = compare_lines(labels, _written(tmp_path / "c.jsonl", [{**row, "people": []} for row in rows]))
    assert nobody.tracks.hota == 0
    assert nobody.masks is not None
    assert nobody.masks.region.mean == 0


def test_files_that_do_not_go_together_are_refused(tmp_path: Path, rows: list) -> None:
    labels = _written(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match="has no frame that"):
        compare_lines(labels, _written(tmp_path / "b.jsonl", [{**row, "frame": row["frame"] + 9} for row in rows]))
    small = {"size": [8, 8], "counts": [64]}
    people = [{**rows[0]["people"][0], "segmentation": small}]
    with pytest.raises(UserError, match=r"its masks are 8x8, those of .* 80x80"):
        compare_lines(labels, _written(tmp_path / "c.jsonl", [{**rows[0], "people": people}]))
    with pytest.raises(UserError, match="nobody in it has a mask"):
        compare_lines(_written(tmp_path / "d.jsonl", [{**rows[0], "people": []}]), labels)
