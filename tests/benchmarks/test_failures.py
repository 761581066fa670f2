"""The program that sorts failures into kinds, and the table of photos, on a few made-up boxes."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import accuracy
import failures

sys.path.pop(0)

PEOPLE = {
    "alone": [100, 100, 80, 160],
    "tiny": [10, 10, 10, 20],
    "cut": [560, 300, 80, 100],
    "left of a pair": [300, 100, 60, 160],
    "right of a pair": [320, 100, 60, 160],
}


def rle(box: list[int]) -> dict[str, object]:
    from pycocotools import mask

    bits = np.zeros((400, 640), np.uint8, order="F")
    bits[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 1
    encoded = mask.encode(bits)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def row(box: list[int], **fields: object) -> dict[str, object]:
    shape = {"bbox": box, "area": box[2] * box[3], "segmentation": rle(box)}
    return {"image_id": 1, "category_id": 1, "iscrowd": 0, "keypoints": [0] * 51, **shape, **fields}


@pytest.fixture(scope="module")
def labels() -> dict[str, object]:
    people = [row(box, id=number) for number, box in enumerate(PEOPLE.values(), 1)]
    image = {"id": 1, "file_name": "a.jpg", "width": 640, "height": 400}
    return {"images": [image], "annotations": people, "categories": [{"id": 1, "name": "person"}]}


def found(*boxes: tuple[list[int], float]) -> list[dict[str, object]]:
    return [row(box, id=number, score=score, mask_score=1.0) for number, (box, score) in enumerate(boxes, 1)]


def test_people_who_are_missed_are_sorted_by_what_makes_them_hard(labels):
    rows = found((PEOPLE["alone"], 0.2), (PEOPLE["left of a pair"], 0.9))
    assert failures.missed(labels, rows, 0.3) == {
        "found with a lower score; none of these": 1,
        "not found; tiny, below 24 pixels": 1,
        "not found; cut off by the image": 1,
        "not found; entangled with somebody": 1,
    }


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ([450, 10, 40, 60], "background"),
        ([100, 100, 80, 150], "somebody who was found already"),
        ([100, 100, 40, 40], "a part of a person"),
        ([300, 60, 80, 400], "several people"),
        ([140, 60, 80, 160], "a person, but the box does not fit"),
    ],
)
def test_false_positives_are_sorted_by_what_they_show(labels, box, kind):
    rows = found((PEOPLE["alone"], 0.9), (box, 0.8), (box, 0.1))
    assert failures.false_positives(labels, rows, 0.3) == {kind: 1}


def test_a_mask_that_misses_its_person_is_one_of_a_right_box(labels):
    rows = found((PEOPLE["alone"], 0.9), (PEOPLE["cut"], 0.9))
    rows[1]["segmentation"] = rle([560, 300, 10, 100])
    assert failures.poor_masks(labels, rows, 0.3) == {"cut off by the image": 1}


def test_the_curve_counts_the_surest_first(labels, tmp_path):
    rows = found((PEOPLE["alone"], 0.9), ([450, 10, 40, 60], 0.8), (PEOPLE["cut"], 0.7))
    recall, precision = failures.curve(failures.match(labels, rows))
    assert recall == pytest.approx([0.2, 0.2, 0.4])
    assert precision == pytest.approx([1, 1 / 2, 2 / 3])


def test_a_line_of_the_table_has_recall_and_precision_from_the_score_on(labels):
    rows = found((PEOPLE["alone"], 0.9), ([450, 10, 40, 60], 0.8), (PEOPLE["cut"], 0.2))
    line = accuracy._line(labels, rows, {1}, 0.3)
    assert line[0] == "5"
    assert line[2] == line[4]  # masks are the boxes here
    assert line[5:] == ["20.0", "50.0", ""]
    assert accuracy._line(labels, rows, {1}, 0.1)[5] == "40.0"
