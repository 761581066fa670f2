"""The evaluation of third_party/xtcocotools against pycocotools and against its own definitions. It knows no model."""

import contextlib
import copy
import io
import math

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval as PlainEvaluation

pytest.importorskip("xtcocotools", reason="third_party/xtcocotools is not installed")
from xtcocotools import mask
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

PARTS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}


@pytest.fixture(autouse=True)
def _without_prints():
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def people(crowd_indices=(0.0, 0.1, 0.5, 0.8, 1.0)) -> tuple[dict, list[dict]]:
    """Return ground truth of three people an image with all parts of a body, and disturbed results for most."""
    random = np.random.default_rng(0)
    annotations, results = [], []
    for number, _ in enumerate(crowd_indices, start=1):
        for person in range(3):
            x, y, width, height = 200 * person + random.uniform(0, 40), random.uniform(0, 50), 100.0, 150.0
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1,
                "bbox": [x, y, width, height],
                "area": 0.6 * width * height,
                "iscrowd": int(person == 2 and number == 1),
            }
            result = {"image_id": number, "category_id": 1, "score": float(random.uniform(0.2, 1))}
            for part, count in PARTS.items():
                points = random.uniform((x, y), (x + width, y + height), (count, 2))
                labels = random.integers(0, 3, (count, 1))
                shift = random.normal(0, 4 * (person + 0.5), (count, 2))
                annotation[part] = np.hstack((points, labels)).ravel().tolist()
                result[part] = np.hstack((points + shift, np.ones((count, 1)))).ravel().tolist()
            annotation["num_keypoints"] = sum(label > 0 for label in annotation["keypoints"][2::3])
            annotations.append(annotation)
            if random.random() < 0.9:
                results.append(result)
    images = [
        {"id": number, "width": 640, "height": 480, "crowdIndex": index}
        for number, index in enumerate(crowd_indices, start=1)
    ]
    dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}], "info": {}}
    return dataset, results


def coco(dataset: dict) -> COCO:
    made = COCO()
    made.dataset = dataset
    made.createIndex()
    return made


def stats(evaluation) -> np.ndarray:
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return np.asarray(evaluation.stats)


def evaluate(dataset: dict, results: list[dict], *arguments, **options) -> np.ndarray:
    truth = coco(dataset)
    return stats(COCOeval(truth, truth.loadRes(copy.deepcopy(results)), *arguments, **options))


@pytest.mark.slow
def test_keypoints_of_coco_are_evaluated_as_pycocotools_does():
    dataset, results = people()
    truth = coco(copy.deepcopy(dataset))
    expected = stats(PlainEvaluation(truth, truth.loadRes(copy.deepcopy(results)), "keypoints"))
    assert 0 < expected[0] < 1
    np.testing.assert_array_equal(evaluate(dataset, results), expected)
    np.testing.assert_array_equal(evaluate(dataset, results, "keypoints_body"), expected)


def test_boxes_are_evaluated_as_pycocotools_does():
    dataset, results = people()
    for result in results:
        x, y, _ = np.reshape(result.pop("keypoints"), (-1, 3)).T
        result["bbox"] = [x.min(), y.min(), np.ptp(x), np.ptp(y)]
    truth = coco(copy.deepcopy(dataset))
    expected = stats(PlainEvaluation(truth, truth.loadRes(copy.deepcopy(results)), "bbox"))
    assert 0 < expected[0] < 1
    np.testing.assert_array_equal(evaluate(dataset, results, "bbox"), expected)


@pytest.mark.parametrize("use_area", [True, False])
def test_similarity_uses_the_given_sigmas_and_area(use_area):
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 30, 40], "area": 500.0, "iscrowd": 0}
    annotation["keypoints"] = [5, 5, 2, 9, 30, 1, 20, 20, 0]
    result = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": [8, 9, 1, 9, 36, 1, 0, 0, 1]}
    truth = coco({"images": [{"id": 1}], "annotations": [annotation], "categories": [{"id": 1}], "info": {}})
    evaluation = COCOeval(truth, truth.loadRes([result]), sigmas=[0.1, 0.2, 0.3], use_area=use_area)
    evaluation.evaluate()
    area = 500 if use_area else 0.53 * 30 * 40
    squared = [(25, 0.1), (36, 0.2)]  # the third keypoint has no label
    expected = sum(math.exp(-distance / (2 * area * (2 * sigma) ** 2)) for distance, sigma in squared) / 2
    assert evaluation.ious[1, 1] == pytest.approx(expected)


def test_areas_are_not_needed_where_they_are_not_used():
    dataset, results = people()
    expected = evaluate(copy.deepcopy(dataset), results, use_area=False)
    for annotation in dataset["annotations"]:
        del annotation["area"]
    np.testing.assert_array_equal(evaluate(dataset, results, use_area=False), expected)
    assert not np.array_equal(expected, evaluate(*people()))


def test_labelled_keypoints_are_counted_where_the_annotation_does_not_say():
    dataset, results = people()
    dataset["annotations"][1]["keypoints"][2::3] = [0] * 17
    dataset["annotations"][1]["num_keypoints"] = 0
    expected = evaluate(copy.deepcopy(dataset), results)
    for annotation in dataset["annotations"]:
        del annotation["num_keypoints"]
    np.testing.assert_array_equal(evaluate(dataset, results), expected)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("keypoints_foot", ["foot_kpts"]),
        ("keypoints_face", ["face_kpts"]),
        ("keypoints_lefthand", ["lefthand_kpts"]),
        ("keypoints_righthand", ["righthand_kpts"]),
        ("keypoints_wholebody", list(PARTS)),
    ],
)
def test_a_part_of_the_body_is_evaluated_like_keypoints_of_its_own(kind, parts):
    dataset, results = people()
    sigmas = np.linspace(0.02, 0.1, sum(PARTS[part] for part in parts))
    found = evaluate(dataset, results, kind, sigmas)
    # The same points under the name that COCO gives to keypoints; sizes of results stay those of the body.
    alone, disturbed = people()
    truth = coco(alone)
    detected = truth.loadRes(copy.deepcopy(disturbed))
    for annotation in [*truth.dataset["annotations"], *detected.dataset["annotations"]]:
        annotation["keypoints"] = [value for part in parts for value in annotation[part]]
        annotation["num_keypoints"] = sum(label > 0 for label in annotation["keypoints"][2::3])
    reference = PlainEvaluation(truth, detected, "keypoints")
    reference.params.kpt_oks_sigmas = sigmas
    expected = stats(reference)
    assert 0 < expected[0] < 1
    np.testing.assert_array_equal(found, expected)


def test_annotations_are_left_as_they_are():
    dataset, results = people()
    before = copy.deepcopy(dataset)
    evaluate(dataset, results, "keypoints_crowd", use_area=False)
    assert dataset == before


def test_crowd_reports_the_levels_of_the_crowd_index():
    dataset, results = people()
    found = evaluate(dataset, results, "keypoints_crowd", use_area=False)
    assert found.shape == (9,)
    plain = evaluate(dataset, results, "keypoints", use_area=False)
    np.testing.assert_allclose(found[:6], plain[[0, 1, 2, 5, 6, 7]])
    levels = ([1, 2], [3, 4], [5])  # indices 0 and 0.1 are easy, 0.5 and 0.8 medium, 1 hard
    for value, level in zip(found[6:], levels, strict=True):
        truth = coco(copy.deepcopy(dataset))
        alone = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints", use_area=False)
        alone.params.imgIds = level
        assert value == pytest.approx(stats(alone)[0])
    assert len(set(found[6:])) == 3


def test_a_level_without_images_is_unknown():
    found = evaluate(*people(crowd_indices=(0.5, 0.6)), "keypoints_crowd", use_area=False)
    assert found[6] == found[8] == -1
    assert found[7] == found[0] > 0


def test_images_without_results_count():
    dataset, results = people()
    some = [result for result in results if result["image_id"] != 2]
    assert evaluate(dataset, some)[5] < evaluate(dataset, results)[5]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="keypoints_wholebody; got 'keypoint'"):
        COCOeval(iouType="keypoint")


def test_masks_of_polygons():
    square = [[1, 1, 5, 1, 5, 4, 1, 4]]
    bits = mask.decode(mask.merge(mask.frPyObjects(square, 8, 9)))
    assert bits.shape == (8, 9)
    assert bits.sum() == mask.area(mask.encode(np.asfortranarray(bits))) == 12


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keypoints", "keypoints_crowd"])
def test_mmpose_metric_gives_full_marks_to_the_truth(kind, tmp_path):
    metrics = pytest.importorskip("mmpose.evaluation.metrics", reason="mmpose is not installed")
    import json

    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    dataset, _ = people()
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(dataset))
    metric = metrics.CocoMetric(str(file), use_area=False, iou_type=kind, prefix="coco")
    metric.dataset_meta = parse_pose_metainfo(dict(from_file="configs/_base_/datasets/coco.py"))
    samples = []
    for annotation in dataset["annotations"]:
        points = np.reshape(annotation["keypoints"], (1, -1, 3))
        x, y, width, height = annotation["bbox"]
        predicted = dict(
            keypoints=points[..., :2],
            keypoint_scores=np.full(points.shape[:2], 0.9),
            bbox_scores=np.array([0.9]),
            bboxes=np.array([[x, y, x + width, y + height]]),
        )
        truth = dict(bbox_scales=np.array([[width, height]]), bbox_scores=np.array([1.0]))
        samples.append(
            dict(
                id=annotation["id"],
                img_id=annotation["image_id"],
                category_id=1,
                pred_instances=predicted,
                gt_instances=truth,
            )
        )
    metric.process([], samples)
    found = metric.evaluate(size=len(samples))
    assert found["coco/AP"] == pytest.approx(1.0)
    assert found["coco/AR"] == pytest.approx(1.0)
    assert ("coco/AP(H)" in found) == (kind == "keypoints_crowd")
