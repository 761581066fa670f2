"""Evaluation on the fake stages, as a user runs it: files, kills, several processes, wrong use."""

import contextlib
import io
import json
import random
import re
import signal
import time

import numpy as np
import pytest
from program import BEHIND, CONFIG, FRONT, begin, run, save, start, together
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bmp.cli import main
from bmp.label_sets import COCO_KEYPOINTS

COUNT = 11
ALONE = (40, 25, 60, 45)
# Stages of the tests' own: one that gives signals time to arrive, one that ends its process.
STAGES = """
import os, time
from fakes import FakeDetector

class Slow(FakeDetector):
    def detect(self, images):
        time.sleep(float(os.environ.get("SECONDS", "0")))
        return super().detect(images)

class Dying(FakeDetector):
    def detect(self, images):
        if os.environ.get("RANK") == "1":
            for _ in range(1200):  # the other process has written what it found by then
                if os.path.exists("dead/journal.0.jsonl"):
                    break
                time.sleep(0.05)
            os._exit(9)
        return super().detect(images)
"""
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d",
            "--rdzv-endpoint", "localhost:0")  # fmt: skip


def _person(number, image_id, square):
    x1, y1, x2, y2 = square
    steps = np.linspace(0, 1, len(COCO_KEYPOINTS))
    keypoints = [value for step in steps for value in (x1 + (x2 - x1) * step, y1 + (y2 - y1) * step, 2)]
    return {
        "id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
        "keypoints": keypoints, "num_keypoints": len(COCO_KEYPOINTS),
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of one, two or no squares, their ground truth, and configs; images whose ids are out of order."""
    folder = tmp_path_factory.mktemp("data")
    scenes = [[FRONT], [BEHIND, FRONT], [], [ALONE]]
    images, people = [], []
    for number in range(COUNT):
        squares = scenes[number % len(scenes)]
        save(folder / "photos" / f"{number}.png", *squares)
        images.append({"id": 100 - number, "file_name": f"{number}.png", "height": 48, "width": 64})
        # The ground truth is a little off, so that no number is trivial.
        people += [
            _person(10 * number + i, 100 - number, (x1, y1, x2 + number % 3, y2))
            for i, (x1, y1, x2, y2) in enumerate(squares)
        ]
    ground_truth = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    (folder / "truth.json").write_text(json.dumps(ground_truth))
    (folder / "config.py").write_text(CONFIG)
    (folder / "stages_of_mine.py").write_text(STAGES)
    for name in ("Slow", "Dying"):
        (folder / f"{name.lower()}.py").write_text(CONFIG.replace("fakes.FakeDetector", f"stages_of_mine.{name}"))
    return folder


DATA = ("--dataset", "truth.json", "--images", "photos")


def _metrics(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["run"]
    return metrics


def _files(folder):
    """Everything that has to be the same between two runs."""
    report = (folder / "report.md").read_text()
    return {
        "results": (folder / "results.json").read_bytes(),
        "metrics": _metrics(folder),
        "sheet": (folder / "contact_sheet.jpg").read_bytes(),
        "report": re.sub(r"## Seconds.*?(?=## |\Z)", "", report, flags=re.DOTALL),
    }


@pytest.fixture(scope="module")
def whole(folder):
    """An undisturbed run by one process."""
    code, out, err = run(folder, *DATA, "--output", "whole", "--batch-size", "2", config="slow.py")
    assert (code, err) == (0, "")
    return folder / "whole", out


def test_a_run_ends_with_a_report(whole):
    folder, out = whole
    names = {path.name for path in folder.iterdir()}
    assert names == {".lock", "contact_sheet.jpg", "journal.0.jsonl", "metrics.json", "report.md", "results.json"}
    for text in (out, (folder / "report.md").read_text()):
        assert "change 1 to 2" in text
        assert f"truth: {COUNT} images with 11 labelled people" in text
    first, second = json.loads((folder / "metrics.json").read_text())["rounds"]
    assert (first["people"], second["people"]) == (8, 11)
    assert second["boxes_at_iou_50"]["found"] == 3
    assert second["boxes_at_iou_50"]["recall"] == 1.0


@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
def test_pycocotools_gets_the_same_numbers_from_results_json(folder, whole, kind):
    rows = json.loads((whole[0] / "results.json").read_text())
    fields = {"bbox": ("bbox",), "segm": ("segmentation",), "keypoints": ("bbox", "keypoints")}[kind]
    score = {"bbox": "score", "segm": "segm_score", "keypoints": "keypoints_score"}[kind]
    chosen = [{key: row[key] for key in ("image_id", "category_id", *fields)} | {"score": row[score]} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(folder / "truth.json"))
        for row in ground_truth.dataset["annotations"]:
            row["id"] += 1  # pycocotools takes id 0 for "not matched"
        ground_truth.createIndex()
        ground_truth.loadRes(str(whole[0] / "results.json"))
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(chosen), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = _metrics(whole[0])["rounds"][-1][kind]
    assert [ours["ap"], ours["ap50"], ours["ap75"]] == evaluation.stats[:3].tolist()
    assert 0.3 < ours["ap"] < 1


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_equals_undisturbed(folder, whole):
    arguments = [*DATA, "--output", "killed", "--batch-size", "2", "--resume"]
    moments = random.Random(4)
    journal = folder / "killed" / "journal.0.jsonl"
    killed = 0
    for target in (1, 6):
        process = begin(folder, "--config", "slow.py", *arguments, main=main, SECONDS=0.15)
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= target):
            assert process.is_alive()
            time.sleep(0.005)
        time.sleep(moments.random() * 0.3)
        process.kill()
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
        # A kill in the middle of a line is rare: make it.
        with journal.open("ab") as file:
            file.write(b'{"image": 9')
    assert killed == 2
    code, out, err = run(folder, *arguments, config="slow.py")
    assert (code, err) == (0, "")
    assert f"of {COUNT} images were done before" in out
    assert _files(folder / "killed") == _files(whole[0])
    # Nothing is left to do, and what is there is measured anew, also with another score.
    code, out, _ = run(folder, *arguments, config="slow.py")
    assert (code, f"{COUNT} of {COUNT} images were done before" in out) == (0, True)
    assert _files(folder / "killed") == _files(whole[0])
    (folder / "slow_iou.py").write_text((folder / "slow.py").read_text() + "evaluation = dict(segm_score='iou')\n")
    lines = journal.read_bytes()
    assert run(folder, *arguments, config="slow_iou.py")[0] == 0
    assert journal.read_bytes() == lines
    rows = json.loads((folder / "killed" / "results.json").read_text())
    assert all(row["segm_score"] == row["mask_score"] for row in rows)


@pytest.mark.slow
def test_several_processes_merge_to_the_result_of_one(folder, whole):
    arguments = [*DATA, "--output", "shared", "--batch-size", "2"]
    both = together(folder, "--config", "slow.py", *arguments, main=main)
    assert [code for code, _, _ in both] == [0, 0], both
    assert "".join(out for _, out, _ in both).count("AP of") == 1
    assert len(list((folder / "shared").glob("journal.*.jsonl"))) == 2
    assert _files(folder / "shared") == _files(whole[0])
    # One of the two journals loses its end; one process goes on with what both left.
    journal = folder / "shared" / "journal.1.jsonl"
    journal.write_bytes(journal.read_bytes()[: journal.stat().st_size // 2])
    code, out, _ = run(folder, *arguments, "--resume", config="slow.py")
    assert code == 0
    assert re.search(rf"\b[1-9]\d* of {COUNT} images were done before", out)
    assert _files(folder / "shared") == _files(whole[0])


@pytest.mark.slow
def test_a_dead_process_ends_the_run(folder, whole):
    arguments = [*DATA, "--output", "dead", "--batch-size", "2"]
    process = start(folder, *arguments, config="dying.py", launcher=TORCHRUN)
    process.communicate(timeout=300)
    assert process.returncode != 0
    assert not (folder / "dead" / "results.json").exists()
    assert (folder / "dead" / "journal.0.jsonl").exists()


@pytest.mark.slow
def test_wrong_use_is_said_once_by_several_processes(folder):
    both = together(folder, "--config", "config.py", "--dataset", "gone.json", "--images", "photos", main=main)
    assert [code for code, _, _ in both] == [2, 2]
    assert "".join(err for _, _, err in both).count("gone.json: cannot be read") == 1


@pytest.mark.slow
def test_broken_images_are_reported_and_tried_again(folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (folder / "photos").iterdir():
        (photos / path.name).write_bytes(path.read_bytes())
    good = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(good[:60])
    arguments = ["--dataset", "truth.json", "--images", photos, "--output", tmp_path / "out"]
    code, _, err = run(folder, *arguments)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "3.png" in err
    assert [row["file_name"] for row in _metrics(tmp_path / "out")["failed"]] == ["3.png"]
    assert "## Failed images\n\n- `3.png`" in (tmp_path / "out" / "report.md").read_text()
    assert _metrics(tmp_path / "out")["rounds"][-1]["boxes_at_iou_50"]["recall"] == 10 / 11
    (photos / "3.png").write_bytes(good)
    assert run(folder, *arguments, "--resume")[0] == 0
    assert _metrics(tmp_path / "out")["failed"] == []
    assert _metrics(tmp_path / "out")["rounds"][-1]["boxes_at_iou_50"]["recall"] == 1.0


@pytest.mark.slow
def test_a_config_with_a_data_set_needs_nothing_else(folder, tmp_path):
    text = f"{CONFIG}\ndataset = dict(type='PeopleDataset', annotations='truth.json', images=None)\n"
    text += "evaluation = dict(segm_score='iou')\n"
    (folder / "mine.py").write_text(text)
    code, out, err = run(folder, "--set", "dataset.images=photos", "--limit", 3, config="mine.py")
    assert (code, err) == (0, "")
    assert "the first 3 of 11 images" in out
    output = folder / "output" / "mine"
    assert "the first 3 of 11 images" in (output / "report.md").read_text()
    assert "masks, predicted IoU" in (output / "report.md").read_text()
    rows = json.loads((output / "results.json").read_text())
    assert {row["image_id"] for row in rows} == {100, 99}
    assert all(row["segm_score"] == row["mask_score"] for row in rows)
    code, _, err = run(folder, "--set", "dataset.images=photos", "--limit", 3, config="mine.py")
    assert (code, "--resume" in err) == (2, True)
    code, _, err = run(folder, "--set", "dataset.images=photos", "--limit", 4, "--resume", config="mine.py")
    assert (code, "other settings (dataset)" in err) == (2, True)
    assert run(folder, "--set", "dataset.images=photos", "--limit", 4, "--overwrite", "--quiet", config="mine.py") == (
        0,
        "",
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to do: .*--input.*--dataset.*ochuman.py"),
        (["--dataset", "truth.json"], "--dataset needs --images"),
        (["--images", "photos"], "--images needs --dataset"),
        (["--input", "photos", "--output", "x", *DATA], "--dataset is for an evaluation"),
        (["--input", "photos", "--output", "x", "--limit", "3"], "--limit is for an evaluation"),
        ([*DATA, "--trace"], "--trace goes with photos"),
        ([*DATA, "--boxes", "truth.json"], "--boxes goes with photos"),
        ([*DATA, "--min-score", "0.5"], "--min-score goes with photos"),
        (["--input", "photos", "--output", "x", "--min-score", "2"], "expected a number from 0 to 1, got '2'"),
        ([*DATA, "--set", "dataset.min_area=3"], "--set dataset.min_area has no effect beside --dataset"),
        ([*DATA, "--output", "config.py"], "config.py: cannot be written"),
        (["--dataset", "gone.json", "--images", "photos"], "gone.json: cannot be read"),
        (["--dataset", "truth.json", "--images", "gone"], "gone: 11 of the 11 images"),
        ([*DATA, "--device", "cuda:99", "--output", "x"], "CUDA devices; try --device auto"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_clear_line_and_code_2(folder, arguments, words):
    code, out, err = run(folder, *arguments)
    assert (code, out) == (2, "")
    assert re.search(words, err), err
    assert err.splitlines()[-1].startswith("bmp:")
    assert not (folder / "x").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("dict(segm_score='iuo')", "did you mean 'iou'"),
        ("dict(segm_score=['iou'])", "evaluation.segm_score: there is no"),
        ("dict(max_pose=30)", "did you mean 'max_poses'"),
        ("dict(max_poses=0)", "evaluation.max_poses: expected a whole number of results from 1, got 0"),
        ("dict(max_detections=True)", "evaluation.max_detections: expected a whole number of results from 1, got True"),
        ("'iou'", "evaluation: expected settings such as dict(max_poses=100), got 'iou'"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder, settings, words):
    (folder / "odd.py").write_text(f"{CONFIG}\nevaluation = {settings}\n")
    code, out, err = run(folder, *DATA, config="odd.py")
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_the_report_states_its_limits_and_why_there_is_no_number(folder, tmp_path):
    ground_truth = json.loads((folder / "truth.json").read_text())
    for row in ground_truth["annotations"]:
        del row["keypoints"], row["num_keypoints"]
    del ground_truth["annotations"][4]["segmentation"]
    (tmp_path / "partly.json").write_text(json.dumps(ground_truth))
    limits = ("--set", "evaluation.max_detections=1", "--set", "evaluation.max_poses=7")
    data = ("--dataset", tmp_path / "partly.json", "--images", "photos", "--output", tmp_path / "out")
    code, out, _ = run(folder, *data, *limits)
    assert code == 0
    metrics = _metrics(tmp_path / "out")
    number = ground_truth["annotations"][4]["id"]
    for text in (out, (tmp_path / "out" / "report.md").read_text(), metrics["no_number"]["rounds[0].segm"]):
        assert f"1 of the 11 annotations have no mask, the first is annotation {number}" in text
    for text in (out, (tmp_path / "out" / "report.md").read_text(), metrics["no_number"]["rounds[1].keypoints"]):
        assert "nobody has labelled keypoints" in text
    for text in (out, (tmp_path / "out" / "report.md").read_text()):
        assert "the best 1 boxes and masks and the best 7 poses of an image" in text
        assert "leaves 3 boxes and masks and 0 poses out after round 2" in text
    assert metrics["rounds"][1]["beyond_limit"] == {"bbox": 3, "segm": 3, "keypoints": 0}
    assert metrics["evaluation"]["max_detections"] == 1
