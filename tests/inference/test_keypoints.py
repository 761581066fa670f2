"""The command that estimates a pose in each labelled box, on the fake estimator."""

import json
from dataclasses import replace

import pytest
import torch
from fakes import KEYPOINT_COUNT, FakeDetector, FakePose, scene
from PIL import Image as PILImage

from bmp.inference.keypoints import main
from bmp.ops.masks import from_rle
from bmp.training.segmenter.data import PosedPeople

CONFIG = """
pipeline = dict(pose=dict(type="{pose}"))
dataset = dict(type="PeopleDataset", annotations="{folder}/people.json", images="{folder}")
"""


class Interrupted(FakePose):
    """Is interrupted at the third image."""

    def estimate(self, images, people):
        if len(self.calls) == 2:
            raise KeyboardInterrupt
        return super().estimate(images, people)


class DrawingDetector(FakeDetector):
    """Its masks are the squares as far as they can be seen."""

    def _one(self, red):
        found = super()._one(red)
        x, y = found.boxes[:, :2].long().T
        return replace(found, masks=red == red[y, x][:, None, None])


@pytest.fixture
def folder(tmp_path):
    squares = [[(8, 10, 20, 30), (30, 5, 50, 40)], [], [(5, 5, 30, 40)], [(1, 1, 20, 20), (30, 30, 60, 47)]]
    images, rows = [], []
    for number, boxes in enumerate(squares, 1):
        PILImage.fromarray(scene(*boxes).pixels.numpy()).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
        for own, (x1, y1, x2, y2) in enumerate(boxes):
            row = {"id": 10 * number + own, "image_id": number, "category_id": 1, "area": 9, "iscrowd": 0}
            rows.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    rows[-1]["iscrowd"] = 1
    (tmp_path / "people.json").write_text(json.dumps({"images": images, "annotations": rows}))
    return tmp_path


def run(folder, *arguments, pose="fakes.FakePose"):
    (folder / "config.py").write_text(CONFIG.format(folder=folder, pose=pose))
    output = folder / "out" / "keypoints.json"
    return main(["--config", str(folder / "config.py"), "--output", str(output), "--batch-size", "1", *arguments])


def written(folder):
    return json.loads((folder / "out" / "keypoints.json").read_text())


def test_everybody_but_crowd_regions_gets_a_pose(folder):
    assert run(folder) == 0
    rows = written(folder)["annotations"]
    assert [(row["image_id"], row["id"]) for row in rows] == [(1, 10), (1, 11), (3, 30), (4, 40)]
    assert all(len(row["keypoints"]) == 3 * KEYPOINT_COUNT for row in rows)
    assert rows[1]["keypoints"][:3] == [30.0, 5.0, 2]
    assert rows[1]["keypoints"][-3:] == [50.0, 40.0, 2]
    assert rows[0]["keypoint_visibility"] == rows[0]["keypoint_presence"] == rows[0]["keypoint_scores"] == [0.9] * 17
    assert "keypoint_expected_oks" not in rows[0]
    assert [path.name for path in (folder / "out").iterdir()] == ["keypoints.json"]


def test_what_it_writes_is_what_training_reads(folder):
    run(folder)
    source = dict(type="PeopleDataset", annotations=folder / "people.json", images=folder)
    people = PosedPeople(source, folder / "out" / "keypoints.json")
    assert len(people) == 3
    posed = people.load(0)
    assert posed.poses.keypoints[1, 0].tolist() == [30, 5]
    assert posed.poses.visibility.min() == pytest.approx(0.9)


MASKED = ["--masks", "--set", f"pipeline.detector={{'type': '{__name__}.DrawingDetector'}}"]


def test_masks_are_those_of_each_persons_detection(folder):
    data = json.loads((folder / "people.json").read_text())
    data["annotations"][0]["bbox"] = [40, 40, 20, 8]  # somebody whom the detector does not see
    (folder / "people.json").write_text(json.dumps(data))
    assert run(folder, *MASKED) == 0
    rows = {row["id"]: row for row in written(folder)["annotations"]}
    assert "segmentation" not in rows[10]
    (mask,) = from_rle([rows[11]["segmentation"]], 48, 64)
    y, x = mask.nonzero().T
    assert (x.min(), x.max() + 1, y.min(), y.max() + 1) == (30, 50, 5, 40)
    source = dict(type="PeopleDataset", annotations=folder / "people.json", images=folder)
    people = PosedPeople(source, folder / "out" / "keypoints.json")
    assert torch.equal(people.load(0).people.masks, torch.stack([torch.zeros_like(mask), mask]))


class MaskReader(FakePose):
    """Says in its scores how much of the box the mask covers; without masks 0."""

    def _one(self, boxes):
        raise AssertionError("asked without its people")

    def estimate(self, images, people):
        return [self._seen(rows) for rows in people]

    def _seen(self, rows):
        poses = FakePose()._one(rows.boxes)
        covered = torch.zeros(len(rows)) if rows.masks is None else rows.masks.flatten(1).float().mean(dim=1)
        return replace(poses, scores=covered[:, None].expand_as(poses.scores).contiguous())


def test_masks_reach_the_estimator(folder):
    run(folder, pose=f"{__name__}.MaskReader")
    assert {row["keypoint_scores"][0] for row in written(folder)["annotations"]} == {0}
    (folder / "out" / "keypoints.json").unlink()
    run(folder, *MASKED, pose=f"{__name__}.MaskReader")
    rows = {row["id"]: row for row in written(folder)["annotations"]}
    assert rows[11]["keypoint_scores"][0] == pytest.approx(20 * 35 / (48 * 64), abs=1e-4)


def test_batches_do_not_matter(folder):
    run(folder)
    alone = written(folder)["annotations"]
    (folder / "out" / "keypoints.json").unlink()
    run(folder, "--batch-size", "16")
    assert written(folder)["annotations"] == alone


def test_an_interrupted_run_goes_on(folder, capsys):
    assert run(folder, pose=f"{__name__}.Interrupted") == 130
    assert not (folder / "out" / "keypoints.json").exists()
    assert run(folder, pose=f"{__name__}.Interrupted") == 2
    assert "was begun or made before; go on with --resume" in capsys.readouterr().err
    assert run(folder, "--resume") == 2
    assert "made with other settings (pose)" in capsys.readouterr().err
    # one image is left: it is the only one that is estimated
    assert run(folder, "--resume", pose=f"{__name__}.Interrupted") == 0
    assert len(written(folder)["annotations"]) == 4


def test_broken_images_are_listed_and_tried_again(folder, capsys):
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[:40])
    assert run(folder) == 1
    assert "failed: " in capsys.readouterr().err
    assert [row["id"] for row in written(folder)["annotations"]] == [10, 11, 40]
    (folder / "3.png").write_bytes(whole)
    assert run(folder, "--resume") == 0
    assert [row["id"] for row in written(folder)["annotations"]] == [10, 11, 30, 40]


def test_a_data_set_can_be_named(folder):
    data = json.loads((folder / "people.json").read_text())
    data["annotations"] = data["annotations"][:1]
    (folder / "few.json").write_text(json.dumps(data))
    assert run(folder, "--dataset", str(folder / "few.json"), "--images", str(folder)) == 0
    assert len(written(folder)["annotations"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "x.json"], "--dataset needs --images DIR beside it"),
        (["--batch-size", "0"], "--batch-size: expected a whole number from 1, got '0'"),
        (["--set", "dataset.images=nowhere"], "nowhere: 4 of the 4 images"),
        (["--set", "pipeline.pose.type=Nobody"], "there is no pose estimator 'Nobody'"),
        (["--masks"], "expected pipeline.pose and pipeline.detector"),
        ([*MASKED, "--set", "pipeline.detector={'type': 'fakes.FakeDetector'}"], "this detector gives boxes only"),
        (["--device", "abacus"], "device 'abacus' is unknown"),
    ],
)
def test_mistakes_are_one_line(arguments, message, folder, capsys):
    assert run(folder, *arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert line.startswith("bmp.inference.keypoints: ")


def test_a_config_without_an_estimator_is_refused(folder, capsys):
    (folder / "none.py").write_text("dataset = dict(type='PeopleDataset', annotations='a', images='b')")
    assert main(["--config", str(folder / "none.py"), "--output", str(folder / "out.json")]) == 2
    assert "expected pipeline.pose; see bmp_v2.py" in capsys.readouterr().err
