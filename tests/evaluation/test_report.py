"""Reports: tables by hand, the file of results, which images are shown; and numbers by round on people made up."""

import io
import json

import numpy as np
import PIL.Image
import pytest
import torch
from fakes import scene
from rich.console import Console

from bmp.evaluation import report
from bmp.evaluation.metrics.coco import SEGM_SCORES, evaluate_coco, to_results
from bmp.evaluation.published import published
from bmp.evaluation.rounds import compare_rounds, labelled_kinds
from bmp.io.images import ImageError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.ops.masks import to_rle

K = len(COCO_KEYPOINTS)
HEIGHT, WIDTH = 48, 64


def person(number, image_id, box, **more):
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    keypoints = [value for k in range(K) for value in (x + width * k / K, y + height * k / K, 2)]
    return {
        "id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": list(box), "area": width * height,
        "segmentation": [polygon], "keypoints": keypoints, "num_keypoints": K, **more,
    }  # fmt: skip


def row(image_id, box, score, number=1):
    """What our export writes of a person whose mask fills the box."""
    x, y, width, height = box
    bits = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    bits[0, y : y + height, x : x + width] = True
    label = person(0, image_id, box)
    return {
        "image_id": image_id, "category_id": 1, "bbox": list(box), "area": width * height,
        "segmentation": to_rle(bits)[0], "iscrowd": 0, "score": score, "mask_score": 0.5,
        "keypoints": label["keypoints"], "num_keypoints": K, "keypoint_scores": [0.8] * K,
        "keypoint_visibility": [1.0] * K, "keypoint_presence": [1.0] * K, "round": number,
    }  # fmt: skip


A, B, C, NOBODY = (4, 4, 10, 20), (20, 4, 10, 20), (40, 4, 10, 20), (4, 30, 8, 8)
TRUTH = {
    "images": [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (7, 3)],
    "annotations": [person(1, 7, A), person(2, 7, B), person(3, 3, C), person(4, 3, NOBODY, iscrowd=1)],
    "categories": [{"id": 1, "name": "person"}],
}
FIRST = [row(7, A, 0.9), row(3, NOBODY, 0.8), row(7, (40, 4, 6, 6), 0.3)]
# A is lost, B and C are found.
SECOND = [row(7, B, 0.7, 2), row(3, C, 0.6, 2), row(7, (40, 4, 6, 6), 0.3)]


def compare(ground_truth=TRUTH, rounds=(FIRST, SECOND), **options):
    return compare_rounds(ground_truth, lambda number: rounds[number - 1], len(rounds), **options)


class TestRounds:
    def test_found_and_lost_by_hand(self):
        first, second = compare().rounds
        assert (first.number, first.people, first.boxes.found, first.boxes.lost) == (1, 3, 1, 0)
        assert (second.boxes.found, second.boxes.lost) == (2, 1)
        assert (second.masks.found, second.masks.lost) == (2, 1)
        assert first.boxes.recall == pytest.approx(1 / 3)
        assert first.boxes.precision == pytest.approx(1 / 2)
        assert second.boxes.recall == pytest.approx(2 / 3)
        assert first.boxes.mean_iou == first.masks.mean_iou == 1.0
        equal = compare().box_recall
        assert (equal.precision, equal.first, equal.second) == (0.5, pytest.approx(1 / 3), pytest.approx(2 / 3))

    def test_numbers_are_those_of_the_metrics(self):
        second = compare(segm_score="iou").rounds[1]
        for kind in ("bbox", "segm", "keypoints"):
            assert second.coco[kind] == evaluate_coco(TRUTH, to_results(SECOND, kind, "iou"), kind)

    def test_what_has_no_labels_has_no_numbers(self):
        bare = [{k: v for k, v in label.items() if "keypoints" not in k} for label in TRUTH["annotations"]]
        assert labelled_kinds({**TRUTH, "annotations": bare}) == ["bbox", "segm"]
        boxes = [{k: v for k, v in label.items() if k != "segmentation"} for label in bare]
        ground_truth = {**TRUTH, "annotations": [*bare[:2], *boxes[2:]]}
        assert labelled_kinds(ground_truth) == ["bbox"]
        result = compare(ground_truth).rounds[0]
        assert result.masks is None
        assert list(result.coco) == ["bbox"]
        assert result.matches.found().tolist() == [0]

    @pytest.mark.parametrize("rounds", [([], []), ([],)])
    def test_nobody_found(self, rounds):
        last = compare(rounds=rounds).rounds[-1]
        assert (last.people, last.boxes.recall, last.boxes.precision, last.boxes.mean_iou) == (0, 0.0, None, None)
        assert last.coco["bbox"].ap == 0.0

    def test_nobody_there(self):
        last = compare({**TRUTH, "annotations": []}).rounds[-1]
        assert last.coco["bbox"].ap is None
        assert last.boxes.recall is None
        json.dumps(report.numbers(compare({**TRUTH, "annotations": []})), allow_nan=False)


class TestTables:
    def test_the_last_line_is_the_change(self):
        table = report.precision_table(compare())
        assert [line[:2] for line in table.rows] == [
            (name, after) for name in ("boxes", "masks", "poses") for after in ("round 1", "round 2", "change 1 to 2")
        ]
        for start in (0, 3, 6):
            first, second, change = ([float(cell) for cell in line[3:]] for line in table.rows[start : start + 3])
            assert change == pytest.approx([b - a for a, b in zip(first, second, strict=True)], abs=0.11)
            assert table.rows[start + 2][2] == "+0"

    def test_people_by_hand(self):
        table = report.people_table(compare())
        assert table.rows[0] == ("boxes", "round 1", "33.3", "50.0", "100.0", "1", "0")
        assert table.rows[1] == ("boxes", "round 2", "66.7", "66.7", "100.0", "2", "1")
        assert table.rows[2] == ("boxes", "change 1 to 2", "+33.3", "+16.7", "+0.0", "2", "1")
        assert [line[0] for line in table.rows] == ["boxes"] * 3 + ["masks"] * 3

    def test_what_has_no_labels_says_so(self):
        boxes = [person(1, 7, A)]
        del boxes[0]["segmentation"], boxes[0]["keypoints"], boxes[0]["num_keypoints"]
        comparison = compare({**TRUTH, "annotations": boxes})
        table = report.precision_table(comparison)
        for line in table.rows:
            assert {cell == report.NO_NUMBER for cell in line[3:]} == {line[0] != "boxes"}
        assert report.people_table(comparison).rows[-1] == ("masks", *[report.NO_NUMBER] * 6)

    def test_equal_precision_in_words(self):
        assert "after round 1 is 33.3 at precision 50.0" in report.equal_precision_sentence(compare())
        assert "it is 66.7 (+33.3)" in report.equal_precision_sentence(compare())
        nothing = compare({**TRUTH, "annotations": []}, ([], []))
        assert report.NO_NUMBER in report.equal_precision_sentence(nothing)

    def test_published_rows_name_their_source(self):
        numbers = published("ochuman_test")
        table = report.published_table(numbers)
        assert len(table.rows) == len(numbers)
        assert any("not verified" in line[5] for line in table.rows)
        assert not all("not verified" in line[5] for line in table.rows)

    def test_seconds_add_up(self):
        rows = report.seconds_table({"pose": 1.0, "detector": 2.0, "all": 4.0}, 2).rows
        assert rows[0] == ("detector", "2.0", "1.000", "50.0")
        assert rows[-1] == ("all", "4.0", "2.000", "100.0")
        assert ("loop, reading, writing", "1.0", "0.500", "25.0") in rows
        assert report.seconds_table({}, 0).rows[-1] == ("all", "0.0", "0.000", report.NO_NUMBER)

    def test_markdown_and_terminal_hold_the_same_cells(self):
        table = report.people_table(compare())
        lines = table.markdown().splitlines()
        assert lines[0] == f"## {table.title}"
        assert [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[4:]] == list(table.rows)
        output = io.StringIO()
        Console(file=output, width=80).print(table.rich())
        assert all(cell in output.getvalue() for line in table.rows for cell in line)

    def test_every_score_has_words(self):
        assert set(report.SEGM_SCORE_WORDS) == set(SEGM_SCORES)


class TestResults:
    @pytest.mark.parametrize("segm_score", SEGM_SCORES)
    def test_scores_of_all_kinds(self, tmp_path, segm_score):
        report.write_results(tmp_path / "results.json", iter(SECOND), segm_score)
        rows = json.loads((tmp_path / "results.json").read_text())
        for kind, name in (("bbox", "score"), ("segm", "segm_score"), ("keypoints", "keypoints_score")):
            wanted = [result["score"] for result in to_results(SECOND, kind, segm_score)]
            assert [line[name] for line in rows] == wanted
        added = {"segm_score", "keypoints_score"}
        assert [{key: value for key, value in line.items() if key not in added} for line in rows] == SECOND

    def test_nobody(self, tmp_path):
        report.write_results(tmp_path / "results.json", [], "iou")
        assert json.loads((tmp_path / "results.json").read_text()) == []


class TestContactSheet:
    def test_quality_counts_who_was_not_found(self):
        comparison = compare()
        assert report.image_qualities(TRUTH, comparison.rounds[0].matches) == {7: 0.5, 3: 0.0}
        assert report.image_qualities(TRUTH, comparison.rounds[1].matches) == {7: 0.5, 3: 1.0}

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
    def test_best_median_and_worst_are_shown(self, count, chosen):
        assert report._chosen({number: -float(number) for number in range(count)}) == chosen

    def test_the_sheet_shows_truth_beside_results(self):
        class Scenes:
            ground_truth = TRUTH

            def file_name(self, index):
                return f"{index}.png"

            def load(self, index):
                if index == 1:
                    raise ImageError("gone since")
                return scene((4, 4, 14, 24), height=HEIGHT, width=WIDTH)

        sheet = report.contact_sheet(Scenes(), SECOND, {7: 0.5, 3: 1.0})
        assert isinstance(sheet, PIL.Image.Image)
        pixels = np.asarray(sheet)
        # One row of two pictures of 64 x 48 pixels: ground truth has two people, of which the result shows the second.
        left = pixels[28:76, 6:70].astype(int)
        right = pixels[28:76, 492:556].astype(int)
        changed = np.abs(left - right).sum(2) > 60
        assert changed[8:20, 6:12].mean() > 0.5
        assert report.contact_sheet(Scenes(), SECOND, {3: 1.0}) is None
        assert report.contact_sheet(Scenes(), [], {}) is None
