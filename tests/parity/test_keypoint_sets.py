"""Keypoint sets and their protocols beside the installed MMPose: the same facts, the same numbers on the same poses."""

import json

import numpy as np
import pytest

from bmp.evaluation.metrics.poses import BOX_SHARE, PoseSets, evaluate_poses, within
from bmp.label_sets import KEYPOINT_SETS, keypoint_set

mmpose = pytest.importorskip("mmpose", reason="MMPose, whose evaluators these numbers are compared with")
metrics = pytest.importorskip("mmpose.evaluation.metrics", reason="MMPose's evaluators")
from mmpose.datasets.datasets.utils import parse_pose_metainfo  # noqa: E402

OWN = ("ochuman19", "pmpose", "maskpose_wb")  # sets that MMPose does not have
FILES = {"halpe136": "halpe"}


def metainfo(name):
    return parse_pose_metainfo({"from_file": f"configs/_base_/datasets/{FILES.get(name, name)}.py"})


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KEYPOINT_SETS if name not in OWN])
def test_sets_are_those_of_mmpose(name):
    ours, theirs = keypoint_set(name), metainfo(name)
    assert list(ours.names) == [theirs["keypoint_id2name"][number] for number in range(len(ours))]
    np.testing.assert_array_equal(np.float32(ours.sigmas), theirs["sigmas"])
    assert list(ours.flip_indices) == theirs["flip_indices"]
    assert set(ours.skeleton) == set(theirs["skeleton_links"])


PARTS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}


class Crowd:
    """Images of people with labels of a set, and one result for most of them, some far off; made by chance."""

    def __init__(self, name, images=6, seed=0):
        random = np.random.default_rng(seed)
        self.name, self.keypoints = name, keypoint_set(name)
        count = len(self.keypoints)
        self.rows, self.samples, labels = [], [], []
        levels = [0, 0.05, 0.15, 0.5, 0.8, 0.95]
        for image in range(images):
            for person in range(3):
                x, y, width, height = (
                    200 * person + random.uniform(0, 40),
                    random.uniform(0, 50),
                    100.0,
                    180.0 - 60 * person,
                )
                points = random.uniform((x, y), (x + width, y + height), (count, 2)).round(3)
                flags = random.integers(0, 3, count)
                shift = random.normal(0, 2.5 * (person + 0.4), (count, 2))
                label = {
                    "id": len(labels) + 1, "image_id": image, "category_id": 1, "bbox": [x, y, width, height],
                    "area": 0.6 * width * height, "iscrowd": int(person == 2 and image == 1),
                    "keypoints": np.column_stack((points, flags)).ravel().tolist(),
                    "num_keypoints": int((flags == 2).sum() if name == "crowdpose" else (flags > 0).sum()),
                }  # fmt: skip
                labels.append(label)
                scores = random.uniform(0.1, 1, count)
                self.result(label, points + shift, scores, random.uniform(0.2, 1))
                if person == 0:  # nobody is there
                    self.result(label, points + 70, scores, 0.3)
        for row in labels:  # no results at all of some
            if row["id"] % 7 == 0:
                keep = [number for number, own in enumerate(self.rows) if own["label"] != row["id"]]
                self.rows = [self.rows[number] for number in keep]
                self.samples = [self.samples[number] for number in keep]
        self.truth = {
            "info": {},
            "images": [{"id": n, "width": 800, "height": 400, "crowdIndex": levels[n % 6]} for n in range(images)],
            "annotations": labels,
            "categories": [{"id": 1, "name": "person"}],
        }

    def result(self, label, points, scores, score):
        row = {
            "image_id": label["image_id"], "category_id": 1, "bbox": label["bbox"], "score": float(score),
            "keypoints": np.column_stack((points, np.full(len(points), 2))).ravel().tolist(),
            "keypoint_scores": scores.tolist(), "label": label["id"],
        }  # fmt: skip
        self.rows.append(row)
        x, y, width, height = label["bbox"]
        found = {
            "keypoints": points[None], "keypoint_scores": scores[None], "bbox_scores": np.array([score]),
            "bboxes": np.array([[x, y, x + width, y + height]]),
        }  # fmt: skip
        sample = {
            "id": len(self.samples), "img_id": label["image_id"], "category_id": 1, "pred_instances": found,
            "gt_instances": {"bbox_scales": np.array([[1.25 * max(width, 0.75 * height), 1.25 * max(height, width / 0.75)]])},
        }  # fmt: skip
        self.samples.append(sample)

    def theirs(self, folder, kind=metrics.CocoMetric, nms_mode="none", **settings):
        truth = json.loads(json.dumps(self.truth))
        if self.name == "coco_wholebody":
            for row in truth["annotations"]:
                values, start = row.pop("keypoints"), 0
                row.pop("num_keypoints")
                for part, count in PARTS.items():
                    row[part], start = values[start : start + 3 * count], start + 3 * count
        file = folder / "truth.json"
        file.write_text(json.dumps(truth))
        metric = kind(str(file), nms_mode=nms_mode, prefix="it", **settings)
        metric.dataset_meta = metainfo(self.name)
        metric.process([], self.samples)
        return {key.removeprefix("it/"): value for key, value in metric.evaluate(size=len(self.samples)).items()}

    def ours(self, alike=None):
        same = PoseSets(self.keypoints, self.keypoints, alike=alike)
        return evaluate_poses(self.truth, self.rows, same)


def standard(found):
    numbers = found.coco
    return {
        "AP": numbers.ap, "AP .5": numbers.ap50, "AP .75": numbers.ap75, "AP (M)": numbers.ap_medium,
        "AP (L)": numbers.ap_large, "AR": numbers.ar, "AR .5": numbers.ar50, "AR .75": numbers.ar75,
        "AR (M)": numbers.ar_medium, "AR (L)": numbers.ar_large,
    }  # fmt: skip


def expect_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == (None if value == -1 else pytest.approx(value, rel=1e-12, abs=1e-12)), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("coco", {}),
        ("humanart", {}),
        ("humanart21", {}),
        ("halpe26", {}),
        ("aic", {"use_area": False}),
        ("mhp", {"use_area": False}),
    ],
)
def test_oks_of_each_set_is_that_of_mmpose(name, settings, tmp_path):
    crowd = Crowd(name)
    theirs = crowd.theirs(tmp_path, **settings)
    assert 0.05 < theirs["AP"] < 0.95
    expect_equal(standard(crowd.ours()), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coco", "crowdpose"])
def test_alike_poses_are_left_out_as_mmpose_does(name, tmp_path):
    crowd = Crowd(name)
    for number, row in enumerate(list(crowd.rows)):  # once more, a little elsewhere or further off
        label = next(own for own in crowd.truth["annotations"] if own["id"] == row["label"])
        points = np.reshape(row["keypoints"], (-1, 3))[:, :2] + (0.5, 4, 20)[number % 3]
        crowd.result(label, points, np.array(row["keypoint_scores"]), row["score"] * 0.9)
    settings = {"use_area": name == "coco"}
    theirs, alike = crowd.theirs(tmp_path, nms_mode="oks_nms", **settings), crowd.ours(0.9).coco
    assert alike.ap == pytest.approx(theirs["AP"], rel=1e-12)
    assert alike.ar == pytest.approx(theirs["AR"], rel=1e-12)
    assert alike.ap != crowd.ours().coco.ap


@pytest.mark.slow
def test_crowdpose_is_measured_as_mmpose_does(tmp_path):
    crowd = Crowd("crowdpose", images=12)
    found = crowd.ours()
    theirs = crowd.theirs(tmp_path, use_area=False, iou_type="keypoints_crowd")
    numbers, levels = found.coco, found.protocol
    ours = {
        "AP": numbers.ap, "AP .5": numbers.ap50, "AP .75": numbers.ap75, "AR": numbers.ar, "AR .5": numbers.ar50,
        "AR .75": numbers.ar75, "AP(E)": levels["ap_easy"], "AP(M)": levels["ap_medium"], "AP(H)": levels["ap_hard"],
    }  # fmt: skip
    expect_equal(ours, theirs)
    assert len(set(levels.values())) == 6  # the crowd indices tell the paper's levels from the released ones


@pytest.mark.slow
def test_the_whole_body_is_measured_as_mmpose_does(tmp_path, capsys):
    crowd = Crowd("coco_wholebody", images=3)
    theirs = crowd.theirs(tmp_path, metrics.CocoWholeBodyMetric)
    found = crowd.ours()
    expect_equal(standard(found), theirs)
    assert found.protocol["whole_ap"] == found.coco.ap
    # MMPose prints the numbers of the parts, and returns those of the whole.
    printed = [
        float(line.rpartition("=")[2])
        for line in capsys.readouterr().out.splitlines()
        if "(AP) @[ IoU=0.50:0.95 | area=   all" in line
    ]
    parts = ["body", "foot", "face", "left_hand", "right_hand", "whole"]
    assert printed == [pytest.approx(found.protocol[f"{part}_ap"], abs=5e-4) for part in parts]


def pairs(crowd):
    """The label and the result of each person, as MMPose's PCK metrics take them."""
    count = len(crowd.keypoints)
    results = {row["label"]: row for row in reversed(crowd.rows)}
    for label in crowd.truth["annotations"]:
        if label["id"] in results and not label["iscrowd"]:
            values = np.reshape(label["keypoints"], (1, count, 3))
            found = np.reshape(results[label["id"]]["keypoints"], (1, count, 3))[..., :2]
            yield label, values[..., :2], values[..., 2] > 0, found


def everybody_found(name):
    crowd = Crowd(name, images=8)
    crowd.rows = [row for row in crowd.rows if row["score"] != 0.3]
    found = {row["label"] for row in crowd.rows}
    crowd.truth["annotations"] = [
        row for row in crowd.truth["annotations"] if row["id"] in found and not row["iscrowd"]
    ]
    crowd.rows = [row for row in crowd.rows if row["label"] in {own["id"] for own in crowd.truth["annotations"]}]
    return crowd


def test_pckh_of_mpii_is_that_of_mmpose():
    crowd = everybody_found("mpii")
    for number, label in enumerate(crowd.truth["annotations"]):
        label["head_size"] = 8.0 + number
    metric = metrics.MpiiPCKAccuracy(prefix="it")
    metric.process(
        [],
        [
            {
                "pred_instances": {"keypoints": found},
                "gt_instances": {
                    "keypoints": points + 1.0,  # MPII counts pixels from 1, and MMPose adds it to the results
                    "keypoints_visible": visible[..., None],
                    "head_size": np.array([[label["head_size"]]]),
                },
            }
            for label, points, visible, found in pairs(crowd)
        ],
    )
    theirs = metric.evaluate(size=len(metric.results))
    ours = crowd.ours().protocol
    names = {"pckh": "PCK", "pckh_at_0.1": "PCK@0.1", "pckh_head": "Head PCK"}
    names |= {f"pckh_{part}": f"{part.title()} PCK" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")}
    digits = {"pckh_at_0.1": 1e-7}  # MMPose has this one in single precision
    assert {name: value * 100 for name, value in ours.items()} == {
        name: pytest.approx(float(theirs[f"it/{other}"]), rel=digits.get(name, 1e-12)) for name, other in names.items()
    }
    assert 5 < theirs["it/PCK"] < 95


def test_pck_of_jhmdb_is_that_of_mmpose():
    crowd = everybody_found("jhmdb")
    torso = crowd.truth["annotations"][1]["keypoints"]
    torso[3 * 5 : 3 * 5 + 2] = torso[3 * 4 : 3 * 4 + 2]  # no torso: that of the result counts
    for row in crowd.rows:
        row["keypoints"] = [value * 1.08 for value in row["keypoints"]]
    metric = metrics.JhmdbPCKAccuracy(thr=0.2, norm_item=["bbox", "torso"], prefix="it")
    samples = []
    for label, points, visible, found in pairs(crowd):
        x, y, width, height = label["bbox"]
        truth = {
            "keypoints": points,
            "keypoints_visible": visible[..., None],
            "bboxes": np.array([[x, y, x + width, y + height]]),
        }
        samples.append({"pred_instances": {"keypoints": found}, "gt_instances": truth})
    with pytest.warns(UserWarning, match="torso size"):
        metric.process([], samples)
    theirs = metric.evaluate(size=len(samples))
    short = {"shoulder": "Sho", "elbow": "Elb", "wrist": "Wri", "hip": "Hip", "knee": "Knee", "ankle": "Ank"}
    names = {
        f"{kind}{ending}": f"{word}{kind.replace('pck', 'PCK')}"
        for kind in ("pck", "tpck")
        for ending, word in {"": "", "_head": "Head ", **{f"_{part}": f"{own} " for part, own in short.items()}}.items()
    }
    ours = crowd.ours().protocol
    assert ours == {name: pytest.approx(float(theirs[f"it/{other}"]), rel=1e-12) for name, other in names.items()}
    assert 0.05 < ours["pck"] < 0.95


def test_the_share_of_correct_keypoints_is_that_of_mmpose():
    from mmpose.evaluation.functional import keypoint_pck_accuracy

    random = np.random.default_rng(3)
    labels, results = random.uniform(0, 50, (2, 40, 5, 2))
    labelled = random.random((40, 5)) < 0.7
    labelled[:, 4] = False
    sizes = random.uniform(20, 80, 40)
    sizes[:3] = 0
    theirs, _, _ = keypoint_pck_accuracy(results, labels, labelled, 0.5, np.stack((sizes, sizes), axis=1))
    assert within(labels, results, labelled, sizes, 0.5) == [*theirs[:4], None]


def test_the_area_is_that_share_of_the_box():
    assert BOX_SHARE == 0.53
