"""COCO's numbers: those of pycocotools to the last digit, on photos' labels and on made-up ones; scores by hand."""

import contextlib
import copy
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bmp.errors import UserError
from bmp.evaluation.metrics.coco import SEGM_SCORES, CocoNumbers, evaluate_coco, to_results

KINDS = ("bbox", "segm", "keypoints")
CATEGORIES = [{"id": 1, "name": "person"}]
DATASETS = ("coco_mini/test_coco.json", "ochuman_mini/test_ochuman.json")
# The fields of ``CocoNumbers`` in the order of pycocotools' ``stats``.
_BOXES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar", "ar_small", "ar_medium", "ar_large"),
)
_POSES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
ORDER = {"bbox": _BOXES, "segm": _BOXES, "keypoints": _POSES}


def by_the_book(ground_truth: dict[str, Any], results: list[dict[str, Any]], kind: str, folder: Path) -> list[float]:
    """As the demo that comes with pycocotools does it: from files, with ``summarize``."""
    (folder / "truth.json").write_text(json.dumps(ground_truth))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(labels, labels.loadRes(str(folder / "results.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats)


def as_stats(numbers: CocoNumbers) -> list[float]:
    values = [getattr(numbers, name) for name in ORDER[numbers.kind]]
    return [-1 if value is None else value for value in values]


def rectangle(image: dict[str, Any], box: list[float]) -> dict[str, Any]:
    (rle,) = coco_mask.frPyObjects(np.array([box]), image["height"], image["width"])
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def labelled_part(image: dict[str, Any], label: dict[str, Any], box: list[float]) -> dict[str, Any]:
    """What of the labelled mask lies in a box."""
    rles = label["segmentation"]
    if isinstance(rles, list):
        rles = coco_mask.merge(coco_mask.frPyObjects(rles, image["height"], image["width"]))
    rle = coco_mask.merge([rles, rectangle(image, box)], intersect=True)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def row(image: dict[str, Any], box: list[float], keypoints: list[float], random: np.random.Generator) -> dict[str, Any]:
    rle = rectangle(image, box)
    return {
        "image_id": image["id"],
        "category_id": 1,
        "bbox": box,
        "area": int(coco_mask.area(rle)),
        "segmentation": rle,
        "score": round(float(random.random()), 1),  # many are equal
        "mask_score": round(float(random.random()), 1),
        "keypoints": keypoints,
        "keypoint_scores": random.random(17).round(2).tolist(),
    }


def crowd(seed: int, images: int, people: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Up to ``people`` labelled people an image of all sizes, some without keypoints, some crowds; and guesses."""
    random = np.random.default_rng(seed)
    ground_truth: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    rows = []
    for number in random.permutation(images).tolist():
        image = {"id": number, "file_name": f"{number}.jpg", "height": 200, "width": 300}
        ground_truth["images"].append(image)
        for _ in range(random.integers(people + 1)):
            width, height = random.choice((10, 40, 90, 150), 2).tolist()
            box = [float(random.integers(300 - width)), float(random.integers(200 - height)), width, height]
            flags = random.choice((0, 1, 2), 17) * random.integers(2)
            places = random.random((17, 2)) * box[2:] + box[:2]
            label = {
                "id": len(ground_truth["annotations"]) + 1,
                "image_id": number,
                "category_id": 1,
                "bbox": box,
                "area": width * height * 0.8,
                "iscrowd": int(random.random() < 0.2),
                "keypoints": np.column_stack((places.round(1), flags)).flatten().tolist(),
                "num_keypoints": int((flags > 0).sum()),
                "segmentation": rectangle(image, box),
            }
            if random.random() < 0.5 and not label["iscrowd"]:
                x, y = box[:2]
                label["segmentation"] = [[x, y, x + width, y, x + width, y + height, x + width / 2, y + height]]
            ground_truth["annotations"].append(label)
            for _ in range(random.integers(3)):
                moved = (np.array(box) + random.integers(-4, 5, 4)).clip(0, [280, 180, 300, 200]).tolist()
                guess = np.column_stack((places + random.normal(0, width / 20, (17, 2)), flags))
                rows.append(row(image, moved, guess.flatten().tolist(), random))
        rows += [
            row(image, [5.0, 6.0, 30.0, 40.0], random.integers(1, 200, 51).tolist(), random)
            for _ in range(random.integers(3))
        ]
    return ground_truth, rows


def guesses(ground_truth: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Two rows for each label, off by some pixels."""
    random = np.random.default_rng(seed)
    images = {image["id"]: image for image in ground_truth["images"]}
    rows = []
    for label in ground_truth["annotations"] * 2:
        off = random.normal(0, 0.04, 4) * np.tile(label["bbox"][2:], 2)
        keypoints = np.array(label["keypoints"], dtype=float).reshape(17, 3)
        keypoints[:, :2] += random.normal(0, 0.02, (17, 2)) * label["bbox"][2:]
        box = (np.array(label["bbox"]) + off).clip(0).round(2).tolist()
        image = images[label["image_id"]]
        guess = row(image, box, keypoints.flatten().tolist(), random)
        rows.append({**guess, "segmentation": labelled_part(image, label, box)})
    return rows


@pytest.mark.parametrize("kind", KINDS)
class TestAsPycocotools:
    @pytest.mark.parametrize("name", DATASETS)
    def test_on_photos(self, name, kind, shared, tmp_path):
        ground_truth = json.loads((shared / "data" / name).read_text())
        results = to_results(guesses(ground_truth, seed=3), kind)
        numbers = evaluate_coco(ground_truth, results, kind)
        assert as_stats(numbers) == by_the_book(ground_truth, results, kind, tmp_path)
        assert 0.1 < numbers.ap < 0.9

    @pytest.mark.slow
    @settings(max_examples=25)
    @given(seed=st.integers(0, 2**32), images=st.integers(1, 4), people=st.integers(0, 6))
    def test_on_anything(self, tmp_path_factory, kind, seed, images, people):
        ground_truth, rows = crowd(seed, images, people)
        results = to_results(rows, kind)
        if results:  # pycocotools itself breaks on none
            folder = tmp_path_factory.mktemp("book")
            assert as_stats(evaluate_coco(ground_truth, results, kind)) == by_the_book(
                ground_truth, results, kind, folder
            )

    def test_nothing_found(self, kind):
        ground_truth, _ = crowd(seed=1, images=3, people=4)
        numbers = evaluate_coco(ground_truth, [], kind)
        assert (numbers.ap, numbers.ap50, numbers.ar) == (0, 0, 0)

    @pytest.mark.parametrize("images", [[], [{"id": 1, "height": 200, "width": 300}]])
    @pytest.mark.parametrize("count", [0, 2])
    def test_nobody_labelled(self, kind, images, count):
        _, rows = crowd(seed=1, images=1, people=4)
        results = to_results([{**row, "image_id": 1} for row in rows[: count * len(images)]], kind)
        numbers = evaluate_coco({"images": images, "annotations": [], "categories": CATEGORIES}, results, kind)
        assert all(getattr(numbers, name) is None for name in {*_BOXES, *_POSES})

    def test_arguments_stay_as_they_are(self, kind):
        ground_truth, rows = crowd(seed=2, images=3, people=4)
        results = to_results(rows, kind)
        before = copy.deepcopy((ground_truth, rows, results))
        evaluate_coco(ground_truth, results, kind)
        assert (ground_truth, rows, results) == before

    def test_ids_do_not_matter(self, kind):
        ground_truth, rows = crowd(seed=4, images=3, people=4)
        numbers = evaluate_coco(ground_truth, to_results(rows, kind), kind)
        for label in ground_truth["annotations"]:
            label["id"] = 0
        assert evaluate_coco(ground_truth, to_results(rows, kind), kind) == numbers
        assert numbers.ap > 0

    def test_prints_nothing(self, kind, capsys):
        ground_truth, rows = crowd(seed=5, images=2, people=4)
        evaluate_coco(ground_truth, to_results(rows, kind), kind)
        evaluate_coco(ground_truth, [], kind)
        assert capsys.readouterr() == ("", "")

    def test_truth_finds_itself(self, kind):
        ground_truth, _ = crowd(seed=6, images=3, people=2)
        images = {image["id"]: image for image in ground_truth["images"]}
        for label in ground_truth["annotations"]:
            label["segmentation"] = rectangle(images[label["image_id"]], label["bbox"])
        numbers = evaluate_coco(ground_truth, [{**label, "score": 1.0} for label in ground_truth["annotations"]], kind)
        assert numbers.ap == pytest.approx(1)
        assert numbers.ar == 1

    def test_limit_of_detections(self, kind):
        ground_truth, rows = crowd(seed=7, images=4, people=6)
        results = to_results(rows, kind)
        default, one = (
            evaluate_coco(ground_truth, results, kind),
            evaluate_coco(ground_truth, results, kind, max_detections=1),
        )
        assert one.max_detections == 1
        assert one.ar < default.ar
        assert default.max_detections == (20 if kind == "keypoints" else 100)
        if kind != "keypoints":
            assert one.ar == default.ar_1
            assert one.ar_10 is None
            same = evaluate_coco(ground_truth, results, kind, max_detections=500)
            assert dataclasses.replace(same, max_detections=100) == default


class TestIncompleteLabels:
    TRUTH = {  # noqa: RUF012
        "images": [{"id": 7, "height": 50, "width": 50}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 40, 30], "area": 1200}],
        "categories": CATEGORIES,
    }
    POSE = {"image_id": 7, "category_id": 1, "keypoints": [10, 20, 2] * 17, "score": 0.5}  # noqa: RUF012

    def test_no_labelled_keypoints_is_no_number(self):
        assert evaluate_coco(self.TRUTH, [self.POSE], "keypoints").ap is None

    def test_number_of_keypoints_is_counted(self):
        labelled = {**self.TRUTH["annotations"][0], "keypoints": [10, 20, 2] + [0] * 48}
        assert evaluate_coco({**self.TRUTH, "annotations": [labelled]}, [self.POSE], "keypoints").ar == 1

    @pytest.mark.parametrize(
        ("result", "kind", "message"),
        [
            ({"image_id": 8, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}, "bbox", "row 1: .* no image 8"),
            ({"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}, "bbox", "row 1: has no 'score'"),
            ({"image_id": 7, "category_id": 1, "score": 1}, "bbox", "row 1: has no 'bbox'"),
            ({**POSE, "keypoints": [0] * 69}, "keypoints", "17 keypoints .* got 69"),
            ({"image_id": 7, "category_id": 1, "score": 1}, "segm", "annotation 1: has no 'segmentation'"),
        ],
    )
    def test_mistakes(self, result, kind, message):
        with pytest.raises(UserError, match=message) as error:
            evaluate_coco(self.TRUTH, [result], kind)
        assert "\n" not in str(error.value)


class TestScores:
    ROW = {  # noqa: RUF012
        "id": 3,
        "image_id": 7,
        "category_id": 1,
        "bbox": [1, 2, 3, 4],
        "area": 11,
        "segmentation": {"size": [9, 9], "counts": "abc"},
        "score": 0.5,
        "mask_score": 0.6,
        "keypoints": [1, 2, 2] * 17,
        "keypoint_scores": [0.9, 0.7, 0.2, 0.1] + [0.0] * 13,
    }

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("bbox", {"bbox": [1, 2, 3, 4], "score": 0.5}),
            ("segm", {"segmentation": {"size": [9, 9], "counts": "abc"}, "score": 0.3}),
            ("keypoints", {"bbox": [1, 2, 3, 4], "keypoints": [1, 2, 2] * 17, "score": 0.4}),
        ],
    )
    def test_by_hand(self, kind, expected):
        (result,) = to_results([self.ROW], kind)
        assert result.pop("score") == pytest.approx(expected.pop("score"))
        assert result == {"image_id": 7, "category_id": 1, **expected}

    def test_choices_for_masks(self):
        scores = {name: to_results([self.ROW], "segm", name)[0]["score"] for name in SEGM_SCORES}
        assert scores == pytest.approx({"detection": 0.5, "iou": 0.6, "detection_times_iou": 0.3, "constant": 1.0})

    def test_a_pose_without_confident_keypoints(self):
        assert to_results([{**self.ROW, "keypoint_scores": [0.2] * 17}], "keypoints")[0]["score"] == 0

    def test_nobody(self):
        assert [to_results([], kind) for kind in KINDS] == [[], [], []]

    def test_unknown(self):
        with pytest.raises(UserError, match=r"did you mean 'detection'.* detection_times_iou"):
            to_results([], "segm", "detections")


@pytest.mark.slow
def test_keypoints_as_mmpose(shared):
    """The way MMPose evaluates OCHuman, up to the suppression of alike poses, which it does on the way."""
    pytest.importorskip("mmpose.evaluation", reason="needs the extra openmmlab", exc_type=ImportError)
    import mmpose
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    from mmpose.evaluation.metrics import CocoMetric

    keypoints = Path(mmpose.__file__).parent / ".mim/configs/_base_/datasets/ochuman.py"

    path = shared / "data" / DATASETS[1]
    ground_truth = json.loads(path.read_text())
    rows = guesses(ground_truth, seed=8)
    with contextlib.redirect_stdout(io.StringIO()):
        metric = CocoMetric(str(path), score_mode="bbox_keypoint", keypoint_score_thr=0.2, nms_mode="none")
        metric.dataset_meta = parse_pose_metainfo(dict(from_file=str(keypoints)))
        for number, found in enumerate(rows):
            box = np.array([found["bbox"]])
            box[:, 2:] += box[:, :2]
            pose = np.array(found["keypoints"]).reshape(1, 17, 3)[..., :2]
            scores = np.array([found["keypoint_scores"]])
            metric.process(
                {},
                [
                    {
                        "id": number,
                        "img_id": found["image_id"],
                        "pred_instances": {"keypoints": pose, "keypoint_scores": scores, "bboxes": box},
                        "gt_instances": {"bbox_scores": np.array([found["score"]])},
                    }
                ],
            )
        theirs = metric.evaluate(len(rows))
    ours = as_stats(evaluate_coco(ground_truth, to_results(rows, "keypoints"), "keypoints"))
    assert list(theirs.values()) == pytest.approx(ours, abs=1e-12)
