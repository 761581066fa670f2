"""The presets of keypoint benchmarks on small data sets in their published layouts, with fake stages in place of networks."""

import json

import numpy as np
import PIL.Image
import pytest
from program import BEHIND, FRONT, run, save

from bmp.build import build_dataset
from bmp.config import load_config
from bmp.label_sets import keypoint_set

SCENES = [(FRONT,), (BEHIND, FRONT), ((40, 25, 60, 45),)]
STAGES = ("detector={'type': 'fakes.FakeDetector'}", "segmenter={'type': 'fakes.FakeSegmenter'}")


def person(number, image_id, square, known, **more):
    """Somebody in a square, whose keypoints lie on its diagonal by their meaning, as those of the fake pose do."""
    x1, y1, x2, y2 = square
    steps = np.linspace(0, 1, len(known))
    return {
        "id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": [x1, y1, x2 - x1, y2 - y1],
        "keypoints": [v for step in steps for v in (x1 + (x2 - x1) * step, y1 + (y2 - y1) * step, 2)],
        "num_keypoints": len(known), **more,
    }  # fmt: skip


def labels(name, folder, crowd=(), **more):
    known = keypoint_set(name)
    images, people = [], []
    for number, squares in enumerate(SCENES, 1):
        save(folder / f"{number}.png", *squares)
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
        if crowd:
            images[-1]["crowdIndex"] = crowd[number - 1]
        people += [person(10 * number + i, number, square, known, **more) for i, square in enumerate(squares)]
    category = {"id": 1, "name": "person", "keypoints": list(known.names)}
    return {"images": images, "annotations": people, "categories": [category]}


def crowdpose(root):
    data = labels("crowdpose", root / "images", (0.05, 0.5, 0.9))
    return "annotations/mmpose_crowdpose_test.json", data


def aic(root):
    names = "ai_challenger_keypoint_validation_20170911/keypoint_validation_images_20170911"
    return "annotations/aic_val.json", labels("aic", root / names)


def humanart(root):
    data = labels("humanart", root / "HumanArt" / "images")
    for image in data["images"]:
        image["file_name"] = f"HumanArt/images/{image['file_name']}"
    return "HumanArt/annotations/validation_humanart.json", data


def wholebody(root):
    data = labels("coco_wholebody", root / "val2017")
    data["categories"][0]["keypoints"] = list(keypoint_set("coco").names)
    for row in data["annotations"]:
        values, start = row.pop("keypoints"), 0
        for part, count in zip(("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"), (17, 6, 68, 21, 21), strict=True):  # fmt: skip
            row[part], start = values[3 * start : 3 * (start + count)], start + count
        row["num_keypoints"] = 17
    return "annotations/coco_wholebody_val_v1.0.json", data


def mpii(root):
    from scipy.io import savemat

    data = labels("mpii", root / "images")
    people = []
    for row in data["annotations"]:
        x, y, width, height = row["bbox"]
        points = np.reshape(row["keypoints"], (16, 3))
        people.append(
            {
                "image": f"{row['image_id']}.png",
                "center": [x + width / 2 + 1, y + height / 2 + 1 - 15 * width / 200],
                "scale": width / 200,
                "joints": (points[:, :2] + 1).tolist(),
                "joints_vis": [1] * 15 + [0],
            }
        )
    heads = np.zeros((2, 2, len(people)))
    heads[1] = [[6.0], [8.0]]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    savemat(root / "annotations" / "mpii_gt_val.mat", {"headboxes_src": heads})
    return "annotations/mpii_val.json", people


PRESETS = {"crowdpose": crowdpose, "aic": aic, "humanart": humanart, "wholebody": wholebody, "mpii": mpii}
SETS = {"wholebody": "coco_wholebody"}


@pytest.fixture
def root(tmp_path, monkeypatch, request):
    monkeypatch.setenv("BMP_CACHE", str(tmp_path / "cache"))
    name, data = PRESETS[request.param](tmp_path / "data")
    file = tmp_path / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data))
    return tmp_path


def measure(root, preset, keypoints):
    pose = f"pose={{'type': 'fakes.SetPose', 'keypoints': '{keypoints}'}}"
    stages = [part for stage in (*STAGES, pose) for part in ("--set", f"pipeline.{stage}")]
    code, _, err = run(
        root, "--set", f"dataset.root={root / 'data'}", *stages, "--output", "found", config=f"{preset}.py"
    )
    assert code == 0, err
    return json.loads((root / "found" / "metrics.json").read_text()), (root / "found" / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("root", "preset"), [(name, name) for name in PRESETS], indirect=["root"])
def test_a_network_with_the_sets_keypoints_is_measured_on_all_of_them(root, preset):
    name = SETS.get(preset, preset)
    metrics, report = measure(root, preset, name)
    assert metrics["keypoints"]["labelled"] == metrics["keypoints"]["estimated"] == name
    assert metrics["keypoints"]["compared"] == list(keypoint_set(name).names)
    last = metrics["rounds"][-1]
    assert last["bbox"]["ap"] == pytest.approx(1)
    assert last["keypoints"]["ap"] == pytest.approx(1)
    assert all(value is None or value == pytest.approx(1) for value in last.get("keypoints_protocol", {}).values())
    told = {"crowdpose": "AP hard (released)", "mpii": "PCKh at 0.1", "wholebody": "AR left hand"}
    assert f"| {told.get(preset, 'poses')} |" in report
    if preset in told:
        assert keypoint_set(name).title in report
        assert last["keypoints_protocol"]
    assert f"on {len(keypoint_set(name))} of" in report or preset == "humanart"
    # SAMP's number is from its abstract alone; all others were read where they were published.
    unread = [line.split("|")[1].strip() for line in report.splitlines() if "not verified" in line]
    assert unread == (["SAMP, ViT-B"] if preset == "crowdpose" else [])
    assert "MMPose 1.3.2" in report  # published numbers stand beside


@pytest.mark.slow
@pytest.mark.parametrize(("root", "missing"), [("crowdpose", ("top_head", "neck"))], indirect=["root"])
def test_a_network_with_others_is_measured_on_what_is_common(root, missing):
    metrics, report = measure(root, "crowdpose", "coco")
    assert metrics["keypoints"]["compared"] == list(keypoint_set("crowdpose").names[:12])
    assert f"on 12 of CrowdPose's 14 keypoints, without {', '.join(missing)}" in report
    assert metrics["rounds"][-1]["keypoints"]["ap"] is not None
    assert metrics["rounds"][-1]["segm"] is None  # CrowdPose has no masks
    assert set(metrics["rounds"][-1]["keypoints_protocol"]) >= {"ap_easy", "ap_medium", "ap_hard"}


@pytest.mark.parametrize("root", ["mpii"], indirect=True)
def test_mpii_is_read_as_from_pixel_zero_with_squares_for_boxes(root):
    data = build_dataset(load_config("mpii.py", {"dataset.root": str(root / "data")}))
    first = data.ground_truth["annotations"][0]
    x1, y1, x2, _ = FRONT
    assert first["keypoints"][:3] == [x1, y1, 2]
    assert first["keypoints"][-3:] == [0, 0, 0]
    assert first["bbox"] == pytest.approx([x1, y1, x2 - x1, x2 - x1])
    assert first["head_size"] == pytest.approx(6.0)
    assert (data.name, data.published, data.keypoints.name) == ("MPII val", "mpii_val", "mpii")


@pytest.mark.parametrize("root", ["mpii"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": [[1, 2]]}, r"people\[0\]: expected joints to be \[x, y\] for each of 16"),
        ({"center": "middle"}, r"people\[0\]: expected center to be \[x, y\]"),
        ({"image": "4.png"}, r"4.png: cannot be read as a picture"),
    ],
)
def test_mistakes_in_mpiis_labels_are_named(root, change, message):
    file = root / "data" / "annotations" / "mpii_val.json"
    people = json.loads(file.read_text())
    people[0] |= change
    file.write_text(json.dumps(people))
    with pytest.raises(ValueError, match=message):
        build_dataset(load_config("mpii.py", {"dataset.root": str(root / "data")}))


@pytest.mark.parametrize("root", ["humanart"], indirect=True)
def test_human_art_has_21_keypoints_beside_the_17(root):
    file = root / "data" / "HumanArt" / "annotations" / "validation_humanart.json"
    data = json.loads(file.read_text())
    for row in data["annotations"]:
        row["keypoints_21"] = [*row["keypoints"], *[1, 1, 2] * 4]
    file.write_text(json.dumps(data))
    overrides = {"dataset.root": str(root / "data"), "dataset.keypoints": "humanart21"}
    found = build_dataset(load_config("humanart.py", overrides))
    assert (found.keypoints.name, found.published) == ("humanart21", None)
    assert found.ground_truth["annotations"][0]["keypoints"][-3:] == [1, 1, 2]


def test_posetrack_is_read_frame_by_frame(tmp_path):
    data = labels("posetrack18", tmp_path / "images" / "val", bbox_head=[20, 10, 3, 4])
    for image in data["images"]:
        image["file_name"] = f"images/val/{image['file_name']}"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "posetrack18_val.json").write_text(json.dumps(data))
    found = build_dataset({"dataset": {"type": "PoseTrack18", "root": str(tmp_path)}})
    assert (found.name, found.keypoints.name, len(found)) == ("PoseTrack18 val", "posetrack18", len(SCENES))
    assert found.ground_truth["annotations"][0]["bbox_head"] == [20, 10, 3, 4]
    assert found.load(0).width == 64


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_what_it_needs(preset, tmp_path):
    with pytest.raises(ValueError, match=r"no root is given; expected a folder with annotations|no root .*HumanArt"):
        build_dataset(load_config(f"{preset}.py", {}))
    with pytest.raises(ValueError, match="there is no split 'valid'; there is: "):
        build_dataset(load_config(f"{preset}.py", {"dataset.root": str(tmp_path), "dataset.split": "valid"}))


@pytest.mark.slow
@pytest.mark.parametrize("root", ["aic"], indirect=True)
def test_a_file_that_does_not_say_what_its_keypoints_are_is_told(root):
    file, images = root / "data" / "annotations" / "aic_val.json", next((root / "data").glob("ai_*/*"))
    data = json.loads(file.read_text())
    del data["categories"]
    file.write_text(json.dumps(data))
    config = root / "config.py"
    config.write_text(
        'pipeline = dict(detector=dict(type="fakes.FakeDetector"), pose=dict(type="fakes.SetPose", keypoints="aic"), '
        'segmenter=dict(type="fakes.FakeSegmenter"), suppressor=dict(type="OKSSuppressor"))'
    )
    for told, ap in (((), None), (("--keypoints", "aic"), pytest.approx(1))):
        output = root / f"found{len(told)}"
        code, _, err = run(root, "--dataset", file, "--images", images, *told, "--output", output)
        assert code == 0, err
        last = json.loads((output / "metrics.json").read_text())["rounds"][-1]
        assert (last["keypoints"] and last["keypoints"]["ap"]) == ap
    code, _, err = run(root, "--dataset", file, "--images", images, "--keypoints", "aci", "--output", root / "found")
    assert (code, "did you mean 'aic'" in err) == (2, True)


@pytest.mark.slow
def test_keypoints_of_no_known_set_have_no_number_and_the_rest_has(tmp_path):
    save(tmp_path / "photos" / "1.png", FRONT)
    x1, y1, x2, y2 = FRONT
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "keypoints": [20, 10, 2] * 2}
    data = {
        "images": [{"id": 1, "file_name": "1.png", "height": 48, "width": 64}],
        "annotations": [row],
        "categories": [{"id": 1, "name": "person", "keypoints": ["snout", "tail"]}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(data))
    (tmp_path / "config.py").write_text(
        'pipeline = dict(detector=dict(type="fakes.FakeDetector"), pose=dict(type="fakes.FakePose"), '
        'segmenter=dict(type="fakes.FakeSegmenter"), suppressor=dict(type="OKSSuppressor"))'
    )
    code, _, _ = run(tmp_path, "--dataset", "truth.json", "--images", "photos", "--output", "found")
    metrics = json.loads((tmp_path / "found" / "metrics.json").read_text())
    last = metrics["rounds"][-1]
    assert (code, last["keypoints"]) == (0, None)
    assert last["bbox"]["ap"] == pytest.approx(1)
    assert "but 2: snout, tail" in metrics["no_number"]["rounds[0].keypoints"]
    assert (
        "No number of poses: the labelled keypoints cannot be compared"
        in (tmp_path / "found" / "report.md").read_text()
    )
    assert PIL.Image.open(tmp_path / "found" / "contact_sheet.jpg").width > 0
