"""The command as a user runs it, on the fake stages: files, messages, exit codes, signals."""

import json
import re
import signal
import time

import numpy as np
import pytest
from PIL import Image as PILImage
from program import BEHIND, CONFIG, FRONT, run, save, start
from pycocotools.coco import COCO


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    save(tmp_path / "photos" / "a.png", BEHIND, FRONT)
    save(tmp_path / "photos" / "b.png", FRONT)
    save(tmp_path / "photos" / "c.png")
    return tmp_path / "photos"


def _people(folder):
    return json.loads((folder / "people.json").read_text())


@pytest.mark.slow
def test_a_folder_becomes_overlays_and_a_coco_file(photos, tmp_path):
    code, out, err = run(tmp_path, "--input", "photos", "--output", "out", "--trace")
    assert (code, err) == (0, "")
    assert "a.png: 2 people" in out
    assert "3 people in 3 images" in out
    coco = COCO(str(tmp_path / "out" / "people.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["a.png", "b.png", "c.png"]
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert sorted(annotation["round"] for annotation in annotations) == [1, 2]
    masks = np.stack([coco.annToMask(annotation) for annotation in annotations])
    assert masks.sum(0).max() == 1
    assert masks.sum() == 25 * 25
    for folder in ("overlays", "traces"):
        assert sorted(p.name for p in (tmp_path / "out" / folder).iterdir()) == ["a.png.jpg", "b.png.jpg", "c.png.jpg"]
    with PILImage.open(tmp_path / "out" / "overlays" / "a.png.jpg") as overlay:
        assert overlay.size == (64, 48)


def test_a_broken_image_is_reported_and_the_rest_goes_on(photos, tmp_path):
    (photos / "broken.jpg").write_bytes((photos / "a.png").read_bytes()[:80])
    (photos / "text.jpg").write_text("no picture")
    code, out, err = run(tmp_path, "--input", "photos", "--output", "out")
    assert code == 1
    assert len(err.splitlines()) == 2
    assert "broken.jpg" in err
    assert "text.jpg" in err
    result = _people(tmp_path / "out")
    assert [image["file_name"] for image in result["images"]] == ["a.png", "b.png", "c.png"]
    assert [failed["file_name"] for failed in result["failed"]] == ["broken.jpg", "text.jpg"]
    assert "3 people in 3 images" in out


@pytest.mark.slow
def test_an_image_that_breaks_the_model_does_not_take_its_batch_along(photos, tmp_path):
    (tmp_path / "fussy_config.py").write_text(CONFIG.replace("fakes.FakeDetector", "fakes.FussyDetector"))
    code, _, err = run(tmp_path, "--input", "photos", "--output", "out", config="fussy_config.py")
    assert code == 1
    assert err == "bmp: failed: photos/a.png: out of memory\n"
    assert [image["file_name"] for image in _people(tmp_path / "out")["images"]] == ["b.png", "c.png"]
    code, _, err = run(tmp_path, "--input", "photos", "--output", "again", "--debug", config="fussy_config.py")
    assert code == 1
    assert "Traceback" in err


def test_quiet_prints_nothing(photos, tmp_path):
    assert run(tmp_path, "--input", "photos", "--output", "out", "--quiet") == (0, "", "")


@pytest.mark.slow
def test_names_in_subfolders_do_not_collide(photos, tmp_path):
    save(photos / "sub" / "a.png", FRONT)
    code, _, _ = run(tmp_path, "--input", "photos", "--output", "out")
    assert code == 0
    assert [image["file_name"] for image in _people(tmp_path / "out")["images"]] == [
        "a.png",
        "b.png",
        "c.png",
        "sub/a.png",
    ]
    assert (tmp_path / "out" / "overlays" / "sub" / "a.png.jpg").is_file()


def test_globs_are_expanded_where_the_shell_did_not(photos, tmp_path):
    code, out, _ = run(tmp_path, "--input", "photos/[ab].png", "--output", "out")
    assert code == 0
    assert "in 2 images" in out


@pytest.mark.slow
def test_results_are_not_lost_by_running_again(photos, tmp_path):
    assert run(tmp_path, "--input", "photos", "--output", "out")[0] == 0
    before = (tmp_path / "out" / "people.json").read_bytes()
    code, _, err = run(tmp_path, "--input", "photos", "--output", "out")
    assert code == 2
    assert "--resume" in err
    assert "--overwrite" in err
    assert (tmp_path / "out" / "people.json").read_bytes() == before
    code, out, _ = run(tmp_path, "--input", "photos", "--output", "out", "--resume")
    assert code == 0
    assert "3 of 3 images were done before" in out
    assert (tmp_path / "out" / "people.json").read_bytes() == before
    code, out, _ = run(tmp_path, "--input", "photos/b.png", "--output", "out", "--overwrite")
    assert code == 0
    assert len(_people(tmp_path / "out")["images"]) == 1


@pytest.mark.slow
def test_resuming_with_other_settings_is_refused(photos, tmp_path):
    assert run(tmp_path, "--input", "photos", "--output", "out")[0] == 0
    code, _, err = run(tmp_path, "--input", "photos", "--output", "out", "--resume", "--set", "pipeline.rounds=1")
    assert code == 2
    assert "other settings (pipeline)" in err


@pytest.mark.slow
def test_pictures_in_the_output_folder_are_no_inputs(photos, tmp_path):
    assert run(tmp_path, "--input", ".", "--output", ".")[0] == 0
    first = _people(tmp_path)
    assert run(tmp_path, "--input", ".", "--output", ".", "--overwrite")[0] == 0
    assert _people(tmp_path) == first


def test_given_boxes_take_the_place_of_the_first_detection(photos, tmp_path):
    x1, y1, x2, y2 = BEHIND
    boxes = [{"image_id": "a", "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.7}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    code, _, err = run(tmp_path, "--input", "photos", "--output", "out", "--boxes", "boxes.json")
    assert code == 1
    assert "boxes.json: inputs that it says nothing of: 2, the first is b.png" in err
    people = _people(tmp_path / "out")["annotations"]
    assert [(person["image_id"], person["bbox"], person["score"]) for person in people] == [
        (1, [x1, y1, x2 - x1, y2 - y1], 0.7)
    ]


def test_settings_reach_the_pipeline(photos, tmp_path):
    code, out, _ = run(tmp_path, "--input", "photos", "--output", "out", "--set", "pipeline.rounds=1")
    assert code == 0
    assert "2 people in 3 images" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "gone.jpg", "--output", "out"], "gone.jpg: no such file"),
        (["--input", "empty", "--output", "out"], "no pictures found in empty"),
        (["--input", "photos", "--output", "photos/a.png"], "photos/a.png: cannot be written"),
        (["--input", "photos", "--output", "out", "--config", "gone.py"], "config 'gone.py' does not exist"),
        (["--input", "photos", "--output", "out", "--set", "pipeline.segmenter.type=SAM9"], "there is no segmenter 'SAM9'; .*LiteSegmenter"),
        (["--input", "photos", "--output", "out", "--set", "pipeline.rouns=1"], "BMP has no argument 'rouns'; did you mean 'rounds'"),
        (["--input", "photos", "--output", "out", "--device", "cuda:99"], "CUDA devices; try --device auto"),
        (["--input", "photos", "--output", "out", "--boxes", "config.py"], "config.py: not JSON"),
        (["--input", "photos", "--output", "out", "--batch-size", "0"], "expected a whole number from 1, got '0'"),
        (["--output", "out"], "--input"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_clear_line_and_code_2(photos, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    code, out, err = run(tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert re.search(words, err), err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("bmp:")
    assert not (tmp_path / "out" / "people.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_valid_results_and_can_be_resumed(tmp_path, how):
    for number in range(8):
        save(tmp_path / "photos" / f"{number}.png", FRONT)
    (tmp_path / "config.py").write_text(CONFIG.replace("fakes.FakeDetector", "fakes.SlowDetector"))
    arguments = ["--input", "photos", "--batch-size", "1"]
    assert run(tmp_path, *arguments, "--output", "whole")[0] == 0
    process = start(tmp_path, *arguments, "--output", "out")
    journal = tmp_path / "out" / "people.json.partial"
    while not (journal.exists() and len(journal.read_bytes().splitlines()) > 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    COCO(str(tmp_path / "out" / "people.json"))
    if how == signal.SIGINT:
        assert 2 <= len(_people(tmp_path / "out")["images"]) < 8
        assert "--resume" in err
        assert "Traceback" not in err
    code, out, err = run(tmp_path, *arguments, "--output", "out", "--resume")
    assert (code, err) == (0, "")
    assert "of 8 images were done before" in out
    assert (tmp_path / "out" / "people.json").read_bytes() == (tmp_path / "whole" / "people.json").read_bytes()


def test_help_names_the_exit_codes(tmp_path):
    code, out, _ = run(tmp_path, "--help")
    assert code == 0
    assert "exit codes: 0" in out


def _stored_turned(path):
    """Write a photo of one square that viewers see after a quarter turn; return the square, stored and seen."""
    x1, y1, x2, y2 = FRONT
    save(path, FRONT)
    exif = PILImage.Exif()
    exif[0x0112] = 6
    with PILImage.open(path) as picture:
        height = picture.height
        picture.save(path, exif=exif)
    return [x1, y1, x2 - x1, y2 - y1], [height - y2, x1, y2 - y1, x2 - x1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boxes", "dataset"])
def test_labels_in_stored_pixels_work_by_an_option(tmp_path, kind):
    (tmp_path / "config.py").write_text(CONFIG)
    stored, seen = _stored_turned(tmp_path / "photos" / "a.png")
    with PILImage.open(tmp_path / "photos" / "a.png") as picture:
        width, height = picture.size
    label = {"id": 1, "image_id": 1, "category_id": 1, "bbox": stored, "area": 1.0, "iscrowd": 0}
    image = {"id": 1, "file_name": "a.png", "height": height, "width": width}
    categories = [{"id": 1, "name": "person"}]
    (tmp_path / "labels.json").write_text(
        json.dumps({"images": [image], "annotations": [label], "categories": categories})
    )
    what = (
        ("--input", "photos", "--boxes", "labels.json")
        if kind == "boxes"
        else ("--dataset", "labels.json", "--images", "photos")
    )
    code, _, err = run(tmp_path, *what, "--output", "out")
    assert (code, "EXIF orientation exchanges the sides" in err) == (1, True)
    code, _, err = run(tmp_path, *what, "--output", "out", "--labels-in", "stored", "--overwrite")
    assert code == 0, err
    if kind == "boxes":
        assert [person["bbox"] for person in _people(tmp_path / "out")["annotations"]] == [seen]
    else:
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert metrics["notices"] == []
        assert metrics["rounds"][0]["bbox"]["ap"] == pytest.approx(1)


def test_the_report_lists_what_was_done_to_the_labels(photos, tmp_path):
    x1, y1, x2, y2 = FRONT
    label = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
    with PILImage.open(photos / "b.png") as picture:
        width, height = picture.size
    image = {"id": 1, "file_name": "b.png", "height": height, "width": width}
    (tmp_path / "labels.json").write_text(json.dumps({"images": [image], "annotations": [label]}))
    code, _, err = run(tmp_path, "--dataset", "labels.json", "--images", "photos", "--output", "out")
    assert code == 0
    (notice,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["notices"]
    assert "without an area" in notice
    assert notice in err
    assert f"- {notice}" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_ids_of_boxes_are_explained_by_a_second_file(photos, tmp_path):
    x1, y1, x2, y2 = BEHIND
    boxes = [{"image_id": 77, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.75}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    (tmp_path / "names.json").write_text(json.dumps({"images": [{"id": 77, "file_name": "photos/a.png"}]}))
    given = ("--boxes", "boxes.json", "--boxes-names", "names.json", "--without-boxes", "nobody")
    code, _, err = run(tmp_path, "--input", "photos", "--output", "out", *given)
    assert code == 0, err
    assert [person["score"] for person in _people(tmp_path / "out")["annotations"]][:1] == [0.75]


@pytest.mark.slow
def test_what_is_worth_knowing_of_an_image_is_written_beside_it(photos, tmp_path):
    PILImage.fromarray(np.full((48, 64), 100, np.uint16)).save(photos / "dark.png")
    frames = [PILImage.new("L", (64, 48), shade) for shade in (0, 99)]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    (photos / "clip.mp4").write_bytes(b"")
    rows = [{"image_id": "a.png", "category_id": 1, "bbox": box} for box in ([1, 1, 9, 9], [70, 0, 5, 5])]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    options = ("photos", "-o", "out", "--boxes", "boxes.json", "--without-boxes", "detect")
    code, _, err = run(tmp_path, *options)
    assert code == 0
    assert "dark.png: its values reach 100, so 255 of 65535 is taken as white" in err
    found = _people(tmp_path / "out")
    said = {image["file_name"]: image.get("notices") for image in found["images"]}
    assert said == {
        "a.png": None,
        "b.png": None,
        "c.png": None,
        "dark.png": ["its values reach 100, so 255 of 65535 is taken as white"],
        "moving.gif": ["the first of 2 frames is read"],
    }
    assert "boxes.json: boxes outside their picture, left out: 1, the first is a.png" in found["notices"]
    assert [entry["path"] for entry in found["skipped"]] == ["photos/clip.mp4"]
    before = (tmp_path / "out" / "people.json").read_bytes()
    assert run(tmp_path, *options, "--resume")[0] == 0
    assert (tmp_path / "out" / "people.json").read_bytes() == before


@pytest.mark.slow
def test_a_url_whose_picture_changed_is_done_again(tmp_path, monkeypatch):
    from bmp.io import images

    (tmp_path / "config.py").write_text(CONFIG)
    pictures = {name: save(tmp_path / name, *squares).read_bytes() for name, squares in (("a.png", ()), ("b.png", ()))}

    def fetch(url):
        if (content := pictures[url.rpartition("/")[2]]) is None:
            raise images.ImageError(f"{url}: no answer in time; check the address")
        return content

    monkeypatch.setattr(images, "fetch", fetch)
    options = ("http://host/a.png", "http://host/b.png", "-o", "out")
    assert run(tmp_path, *options)[0] == 0
    pictures["a.png"] = save(tmp_path / "new.png", FRONT).read_bytes()
    code, out, _ = run(tmp_path, *options, "--resume")
    assert code == 0
    assert "1 image has changed since and will be done again" in out
    assert "a.png: 1 person" in out
    pictures["a.png"] = None
    code, out, _ = run(tmp_path, *options, "--resume")
    assert code == 0, "what is known stays where nobody can look whether it changed"
    assert "2 of 2 images were done before" in out
    assert len(_people(tmp_path / "out")["annotations"]) == 1


@pytest.mark.slow
def test_resuming_after_a_file_of_boxes_in_a_folder_changed_is_refused(photos, tmp_path):
    changing = tmp_path / "boxes" / "a.json"
    changing.parent.mkdir()
    people = [{"keypoints": [[1, 1]], "bbox": [[1, 1, 9, 9]]}]
    changing.write_text(json.dumps(people))
    options = ("photos", "-o", "out", "--without-boxes", "detect", "--boxes", "boxes")
    code, _, err = run(tmp_path, *options)
    assert code == 0, err
    changing.write_text(json.dumps(people * 2))
    code, _, err = run(tmp_path, *options, "--resume")
    assert code == 2
    assert "made with other settings (boxes)" in err
