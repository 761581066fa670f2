"""Ex-OKS in MMPose's runner: the same numbers as our own evaluation, by both ways in which models say presence."""

import copy
import json

import numpy as np
import pytest

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmpose.registry import METRICS

import bmp.training.pose  # noqa: F401 -- registers
from bmp.datasets.held_out import is_held_out
from bmp.errors import UserError
from bmp.evaluation.metrics.ex_oks import evaluate_ex_oks


@pytest.fixture
def crowd(tmp_path):
    """Five people in two images, some keypoints outside, and a pose for each but the last: ground truth, samples, rows."""
    random = np.random.default_rng(0)
    annotations, samples, rows = [], [], []
    for number in range(5):
        box = np.array([*random.integers(0, 100, 2), 90, 150], float)
        places = (random.random((17, 2)) * box[2:] + box[:2]).round(1)
        flags = random.integers(0, 4, 17)
        common = {"image_id": number % 2, "category_id": 1, "bbox": box.tolist()}
        label = {**common, "id": number + 1, "area": 9000.0, "iscrowd": 0, "num_keypoints": int((flags > 0).sum())}
        annotations.append({**label, "keypoints": np.column_stack((places, flags)).ravel().tolist()})
        found = places + random.normal(0, 3, (17, 2))
        scores, presence = random.random((2, 17))
        guess = {"score": float(random.random()), "keypoint_scores": scores.tolist()}
        guess |= {"keypoint_presence": presence.tolist()}
        rows.append({**common, **guess, "keypoints": np.column_stack((found, scores)).ravel().tolist()})
        extra = random.random((6, 2))  # PMPose has 23 keypoints
        instances = {
            "bboxes": np.array([[*box[:2], *(box[:2] + box[2:])]]),
            "bbox_scores": np.array([guess["score"]]),
            "keypoints": np.vstack((found, extra))[None],
            "keypoint_scores": np.append(scores, extra[:, 0])[None],
            "keypoints_probs": np.append(presence, extra[:, 1])[None],
        }
        samples.append({"id": number + 1, "img_id": number % 2, "pred_instances": instances})
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 400, "width": 400} for number in range(2)]
    others = [{**annotations[0], "id": 9, "category_id": 2}]
    ground_truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    content = {**ground_truth, "annotations": annotations + others, "categories": [{"id": 1}, {"id": 2}]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return ground_truth, samples[:-1], rows[:-1]


def _measured(folder, samples, count=None, **arguments):
    metric = METRICS.build(dict(type="ExOKSMetric", ann_file=str(folder / "truth.json"), **arguments))
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(count or len(samples))


def _same(numbers, expected, prefix="ex_oks_edge"):
    names = {"AP": "ap", "AP .5": "ap50", "AP .75": "ap75", "AR": "ar", "AR .5": "ar50", "AR .75": "ar75"}
    names |= {"AP (M)": "ap_medium", "AP (L)": "ap_large", "AR (M)": "ar_medium", "AR (L)": "ar_large"}
    wanted = {f"{prefix}/{name}": getattr(expected.numbers, own) for name, own in names.items()}
    wanted[f"{prefix}/mean"] = expected.mean
    assert numbers == {name: -1 if value is None else value for name, value in wanted.items()}


@pytest.mark.parametrize(
    "arguments", [{}, {"presence_threshold": 0.2}, {"max_detections": 1}, {"rule": "corner"}, {"prefix": "p"}], ids=str
)
def test_the_numbers_are_our_own(crowd, tmp_path, arguments):
    ground_truth, samples, rows = crowd
    numbers = _measured(tmp_path, samples, **arguments)
    own = {key: value for key, value in arguments.items() if key != "prefix"}
    prefix = arguments.get("prefix", f"ex_oks_{arguments.get('rule', 'edge')}")
    _same(numbers, evaluate_ex_oks(ground_truth, rows, **own), prefix)
    assert 0 < numbers[f"{prefix}/mean"] < 1


def test_the_log_says_by_which_rule(crowd, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("bmp.training.pose.metrics.print_log", lambda line, logger: said.append((line, logger)))
    _measured(tmp_path, crowd[1], rule="corner")
    ((line, logger),) = said
    assert line.startswith("Ex-OKS by the rule 'corner': from a point beyond the window to its nearest corner")
    assert logger == "current"
    with pytest.raises(UserError, match="there is no rule 'middle'"):
        _measured(tmp_path, crowd[1], rule="middle")


def test_presence_changes_the_numbers(crowd, tmp_path):
    _, samples, _ = crowd
    before = _measured(tmp_path, samples)
    for sample in samples:
        sample["pred_instances"]["keypoints_probs"] = np.ones((1, 23))
    assert _measured(tmp_path, samples)["ex_oks_edge/mean"] != before["ex_oks_edge/mean"]


def test_several_people_in_a_sample(crowd, tmp_path):
    """As the pipeline gives them: whole images, 17 keypoints, another name for the presence; nobody in one of them."""
    ground_truth, samples, rows = crowd
    images = []
    for image in range(3):
        own = [each["pred_instances"] for each in samples if each["img_id"] == image]
        names = {"bboxes": (0, 4), "bbox_scores": (0,), "keypoints": (0, 17, 2), "keypoint_scores": (0, 17)}
        people = {
            name: np.concatenate([each[name][:, :17] if each[name].ndim > 1 else each[name] for each in own])
            if own
            else np.zeros(shape)
            for name, shape in names.items()
        }
        people["presence"] = np.concatenate([each["keypoints_probs"][:, :17] for each in own] or [np.zeros((0, 17))])
        images.append({"img_id": image, "id": [1, 2], "pred_instances": people})
    _same(_measured(tmp_path, images), evaluate_ex_oks(ground_truth, rows))


def test_padding_of_the_last_batch_does_not_count(crowd, tmp_path):
    ground_truth, samples, rows = crowd
    _same(_measured(tmp_path, [*samples, samples[0]], len(samples)), evaluate_ex_oks(ground_truth, rows))


def test_nobody_labelled_has_no_number(crowd, tmp_path):
    _, samples, _ = crowd
    content = json.loads((tmp_path / "truth.json").read_text())
    (tmp_path / "truth.json").write_text(json.dumps({**content, "annotations": []}))
    assert set(_measured(tmp_path, samples).values()) == {-1.0}


def test_a_model_without_presence_is_refused(crowd, tmp_path):
    sample = copy.deepcopy(crowd[1][0])
    del sample["pred_instances"]["keypoints_probs"]
    with pytest.raises(UserError, match=r"the model does not estimate presence; use MMPose's CocoMetric"):
        _measured(tmp_path, [sample])


@pytest.mark.parametrize("content", [[], {"images": []}])
def test_a_file_that_is_no_data_set_is_refused(tmp_path, content):
    (tmp_path / "truth.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="expected a COCO data set with images, annotations and categories"):
        METRICS.build(dict(type="ExOKSMetric", ann_file=str(tmp_path / "truth.json")))


def test_only_what_is_held_out_counts(crowd, tmp_path):
    ground_truth, samples, rows = crowd
    share = next(share for share in (0.3, 0.5, 0.7, 0.9) if is_held_out(0, share) != is_held_out(1, share))
    kept = int(is_held_out(1, share))
    part = {**ground_truth, "annotations": [row for row in ground_truth["annotations"] if row["image_id"] == kept]}
    part["images"] = [image for image in ground_truth["images"] if image["id"] == kept]
    own = [row for row in rows if row["image_id"] == kept]
    seen = [sample for sample in samples if sample["img_id"] == kept]
    _same(_measured(tmp_path, seen, held_out=share), evaluate_ex_oks(part, own))
    metric = METRICS.build(
        dict(type="HeldOutCocoMetric", ann_file=str(tmp_path / "truth.json"), share=share, nms_mode="none")
    )
    assert metric.coco.getImgIds() == [kept]
    assert {row["image_id"] for row in metric.coco.dataset["annotations"]} == {kept}
    assert {row["image_id"] for row in metric.coco.loadAnns(metric.coco.getAnnIds())} == {kept}
