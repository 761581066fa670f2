"""Reports: tables by hand, the file of results, and that no number is missing without a reason."""

import io
import json

import pytest
from report_scene import FIRST, SECOND, TRUTH, A, compare, person
from rich.console import Console

from bmp.evaluation import report
from bmp.evaluation.metrics.coco import SEGM_SCORES, to_results
from bmp.evaluation.published import published


def test_the_last_line_is_the_change():
    table = report.precision_table(compare())
    assert [line[:2] for line in table.rows] == [
        (name, after) for name in ("boxes", "masks", "poses") for after in ("round 1", "round 2", "change 1 to 2")
    ]
    for start in (0, 3, 6):
        first, second, change = ([float(cell) for cell in line[3:]] for line in table.rows[start : start + 3])
        assert change == pytest.approx([b - a for a, b in zip(first, second, strict=True)], abs=0.11)
        assert table.rows[start + 2][2] == "+0"


@pytest.mark.slow
def test_visible_keypoints_have_lines_of_their_own_where_others_are_hidden():
    hidden = [{**row, "keypoints": [*row["keypoints"][:-1], 1]} for row in TRUTH["annotations"]]
    comparison = compare({**TRUTH, "annotations": hidden})
    rows = report.precision_table(comparison).rows
    assert [line[0] for line in rows[9:]] == ["poses, visible keypoints"] * 3
    visible = comparison.rounds[1].visible_keypoints
    assert rows[10][3:] == tuple(f"{100 * value:.1f}" for value in (visible.ap, visible.ap50, visible.ap75))
    assert report.numbers(comparison)["rounds"][1]["visible_keypoints"]["ap"] == visible.ap
    assert report.numbers(compare())["rounds"][1]["visible_keypoints"] is None


def test_a_single_round_has_no_change():
    once = compare(rounds=(FIRST,))
    tables = report.precision_table(once), report.people_table(once)
    assert {row[1] for table in tables for row in table.rows} == {"round 1"}
    assert report.equal_precision_sentence(once) == "Box recall after round 1 is 33.3 at precision 50.0."


def test_people_by_hand():
    table = report.people_table(compare())
    assert table.rows[0] == ("boxes", "round 1", "33.3", "50.0", "100.0", "1", "0")
    assert table.rows[1] == ("boxes", "round 2", "66.7", "66.7", "100.0", "2", "1")
    assert table.rows[2] == ("boxes", "change 1 to 2", "+33.3", "+16.7", "+0.0", "2", "1")
    assert [line[0] for line in table.rows] == ["boxes"] * 3 + ["masks"] * 3


def test_what_has_no_labels_says_so():
    boxes = [person(1, 7, A)]
    del boxes[0]["segmentation"], boxes[0]["keypoints"], boxes[0]["num_keypoints"]
    comparison = compare({**TRUTH, "annotations": boxes})
    table = report.precision_table(comparison)
    for line in table.rows:
        assert {cell == report.NO_NUMBER for cell in line[3:]} == {line[0] != "boxes"}
    assert report.people_table(comparison).rows[-1] == ("masks", *[report.NO_NUMBER] * 6)


@pytest.mark.slow
def test_equal_precision_in_words():
    assert "after round 1 is 33.3 at precision 50.0" in report.equal_precision_sentence(compare())
    assert "it is 66.7 (+33.3)" in report.equal_precision_sentence(compare())
    nothing = compare({**TRUTH, "annotations": []}, ([], []))
    assert report.NO_NUMBER in report.equal_precision_sentence(nothing)


def test_published_rows_name_their_source():
    numbers = published("ochuman_test")
    table = report.published_table(numbers)
    assert len(table.rows) == len(numbers)
    assert any("not verified" in line[5] for line in table.rows)
    assert not all("not verified" in line[5] for line in table.rows)
    assert {line[0] for line in table.rows if "masks ranked constant" in line[6]} == {"Pose2Seg"}


def test_seconds_add_up():
    rows = report.seconds_table({"pose": 1.0, "detector": 2.0, "all": 4.0}, 2).rows
    assert rows[0] == ("detector", "2.0", "1.000", "50.0")
    assert rows[-1] == ("all", "4.0", "2.000", "100.0")
    assert ("loop, reading, writing", "1.0", "0.500", "25.0") in rows
    nothing = report.seconds_table({}, 0)
    assert nothing.rows[-1] == ("all", "0.0", "0.000", report.NO_NUMBER)
    assert nothing.notes == ("No number: no image went through the networks.",)


def test_markdown_and_terminal_hold_the_same_cells():
    table = report.people_table(compare())
    lines = table.markdown().splitlines()
    assert lines[0] == f"## {table.title}"
    assert [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[4:]] == list(table.rows)
    output = io.StringIO()
    Console(file=output, width=80).print(table.rich())
    assert all(cell in output.getvalue() for line in table.rows for cell in line)


def test_every_score_has_words():
    assert set(report.SEGM_SCORE_WORDS) == set(SEGM_SCORES)


@pytest.mark.parametrize("segm_score", SEGM_SCORES)
def test_scores_of_all_kinds(tmp_path, segm_score):
    report.write_results(tmp_path / "results.json", iter(SECOND), segm_score)
    rows = json.loads((tmp_path / "results.json").read_text())
    for kind, name in (("bbox", "score"), ("segm", "segm_score"), ("keypoints", "keypoints_score")):
        wanted = [result["score"] for result in to_results(SECOND, kind, segm_score)]
        assert [line[name] for line in rows] == wanted
    added = {"segm_score", "keypoints_score"}
    assert [{key: value for key, value in line.items() if key not in added} for line in rows] == SECOND


def test_nobody(tmp_path):
    report.write_results(tmp_path / "results.json", [], "iou")
    assert json.loads((tmp_path / "results.json").read_text()) == []


NOBODY_LABELLED = {**TRUTH, "annotations": []}
ONE_WITHOUT_MASK = {**TRUTH, "annotations": [*TRUTH["annotations"][1:], person(1, 7, A)]}
del ONE_WITHOUT_MASK["annotations"][-1]["segmentation"]


@pytest.mark.parametrize(
    ("ground_truth", "rounds", "notes"),
    [
        (TRUTH, (FIRST, SECOND), []),
        (ONE_WITHOUT_MASK, (FIRST, SECOND), ["masks: 1 of the 4 annotations have no mask, the first is annotation 1"]),
        (NOBODY_LABELLED, (FIRST, SECOND), ["boxes: nobody is labelled", "poses: nobody is labelled"]),
        (TRUTH, ([], SECOND), ["boxes: nobody was found after round 1", "masks: no result after round 1 shows"]),
    ],
)
def test_no_number_stands_without_a_reason(ground_truth, rounds, notes):
    comparison = compare(ground_truth, rounds)
    tables = [report.precision_table(comparison), report.people_table(comparison)]
    shown = io.StringIO()
    for table in tables:
        assert bool(table.notes) == any(report.NO_NUMBER in line for line in table.rows)
        assert table.markdown().endswith("".join(f"- {note}\n" for note in table.notes))
        Console(file=shown, width=300).print(table.rich())
    words = " ".join(shown.getvalue().split())
    for note in notes:
        assert f"No number of {note}" in words
    sentence = report.equal_precision_sentence(comparison)
    assert sentence.count(report.NO_NUMBER) == 0 or " No number: nobody " in sentence
