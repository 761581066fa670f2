"""The evaluation of body parts: from people with parts to numbers and a report."""

import json

import pytest
import torch
from program import CONFIG, run

from bmp import UserError
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.evaluation.parsing import PUBLISHED_PARSING, compare_parts, person_score, published_parsing
from bmp.evaluation.published import PUBLISHED_DATASETS
from bmp.io.annotations import to_annotations, to_instances
from bmp.label_sets import COCO_KEYPOINTS
from bmp.label_sets.part_sets import BODY, CIHP
from bmp.parsers.skeleton import SkeletonParts


@pytest.fixture(scope="module")
def crowd():
    return SynthCrowd("val", count=1)


def answers(dataset, make):
    """Rows of everybody as labelled, with the parts that ``make(index, people)`` returns."""
    rows = []
    for index, image in enumerate(dataset.ground_truth["images"]):
        labelled = dataset.people().get(image["id"], [])
        people = to_instances(labelled, dataset.load(index))
        rows += to_annotations(people, image["id"], COCO_KEYPOINTS, exact=True, parts=make(index, people))
    return rows


@pytest.mark.slow
def test_the_labels_as_answer_are_right(crowd):
    found = compare_parts(crowd, 1, answers(crowd, lambda index, _: crowd.parts(index)), CIHP)
    assert found.maps.miou == found.maps.pixel_accuracy == 1
    assert found.people.ap_vol == found.people.pcp_50 == 1
    assert found.people.ap_r_vol == 1
    assert not found.coarse
    assert found.numbers()["maps"]["iou"]["background"] == 1


@pytest.mark.slow
def test_exchanged_sides_are_wrong(crowd):
    def exchanged(index, _):
        parts = crowd.parts(index)
        return type(parts)(
            torch.tensor(CIHP.flip_indices, dtype=torch.uint8)[parts.labels.long()], parts.owners, parts.scores, CIHP
        )

    found = compare_parts(crowd, 1, answers(crowd, exchanged), CIHP)
    by_name = dict(zip(found.names, found.maps.iou, strict=True))
    assert by_name["face"] == 1
    assert by_name["left arm"] < 0.1


@pytest.mark.slow
def test_nobody_found(crowd):
    found = compare_parts(crowd, 1, [], CIHP)
    assert found.people.ap_vol == found.people.pcp_50 == 0
    assert found.maps.iou[0] > 0.3
    assert found.maps.iou[5] == 0


@pytest.mark.slow
def test_other_label_sets_are_compared_coarsely(crowd):
    parser = SkeletonParts()
    found = compare_parts(
        crowd, 1, answers(crowd, lambda index, people: parser.parse([crowd.load(index)], [people])[0]), BODY
    )
    assert found.coarse
    assert found.names == ("background", "head", "torso", "arms", "legs")
    assert found.maps.miou > 0.5


def test_the_score_of_a_person_is_a_product():
    parts = [{"area": 30, "score": 0.5}, {"area": 10, "score": 0.9}]
    assert person_score({"score": 0.8, "mask_score": 0.5, "parts": parts}) == pytest.approx(0.8 * 0.5 * 0.6)
    assert person_score({"score": 0.8, "mask_score": 0.5, "parts": []}) == 0


def test_a_data_set_without_parts_is_refused(crowd):
    class Bare(SynthCrowd):
        part_set = None

        def __init__(self):
            self.name = "bare"

    with pytest.raises(UserError, match="bare: there are no labels of parts"):
        compare_parts(Bare(), 0, [], CIHP)


def test_published_numbers_are_of_data_sets_that_there_are():
    assert "cihp_val" in PUBLISHED_DATASETS
    for key, rows in PUBLISHED_PARSING.items():
        assert published_parsing(key) == rows
        assert all(0 < row.miou < 100 and row.source for row in rows)
    assert published_parsing(None) == ()


@pytest.mark.slow
def test_a_report_has_parts(tmp_path):
    parts = 'parts=dict(type="fakes.FakeParser"),\n    suppressor='
    (tmp_path / "config.py").write_text(
        CONFIG.replace("suppressor=", parts) + "dataset = dict(type='SynthCrowd', split='val', count=1)\n"
    )
    code, out, err = run(tmp_path, "-o", "out")
    assert (code, err) == (0, "")
    assert "Body parts" in out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["parts"]["people"]["thresholds"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    report = (tmp_path / "out" / "report.md").read_text()
    assert "## IoU of body parts" in report
    assert "mIoU, absent labels as 0" in report
