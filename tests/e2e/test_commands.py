"""What every command has from its frame, on ``bmp`` with the fake stages: streams, locks, options, damaged inputs."""

import errno
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import PurePosixPath

import pytest
from filelock import FileLock
from program import BEHIND, CONFIG, ENVIRONMENT, FRONT, ROOT, main_in, run, save

import bmp.cli
from bmp import doctor
from bmp.inference import files


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    save(tmp_path / "photos" / "a.png", BEHIND, FRONT)
    save(tmp_path / "photos" / "b.png", FRONT)
    return tmp_path / "photos"


def _people(folder):
    return json.loads((folder / "people.json").read_text())


def _names(folder):
    return [image["file_name"] for image in _people(folder)["images"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["photos"], ["-i", "photos"], ["photos/a.png", "--input", "photos/b.png"], ["--trace", "photos/a.png", "-q", "photos"]],
)  # fmt: skip
def test_photos_are_named_with_or_without_an_option(photos, tmp_path, arguments):
    code, _, err = run(tmp_path, *arguments)
    assert (code, err) == (0, "")
    assert _names(tmp_path / "bmp-output") == ["a.png", "b.png"]


@pytest.mark.slow
def test_results_stay_and_the_message_says_all_ways_on(photos, tmp_path):
    assert run(tmp_path, "photos/a.png")[0] == 0
    code, _, err = run(tmp_path, "photos/b.png")
    assert code == 2
    assert all(word in err for word in ("bmp-output has the results", "-o DIR", "--resume", "--overwrite"))
    assert _names(tmp_path / "bmp-output") == ["a.png"]
    assert run(tmp_path, "photos/b.png", "--resume")[0] == 0
    assert _names(tmp_path / "bmp-output") == ["b.png", "a.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--conf", "0.5"], "no option --conf; did you mean --min-score or --config?"),
        (["--outptu", "x"], "no option --outptu; did you mean --output"),
        (["--out", "x"], "no option --out"),
        (["--resume", "--overwrite"], "not allowed with argument --resume"),
        (["--quiet", "--verbose"], "not allowed with argument"),
        (["--only-given"], "--only-given is about the boxes of --boxes FILE"),
        (["--without-boxes", "detect"], "--without-boxes is about the boxes of --boxes FILE"),
        (["--limit", "3"], "--limit is for an evaluation"),
        (["--min-score", "nan"], "expected a number from 0 to 1, got 'nan'"),
        (["--batch-size", "\u0664"], "expected a whole number from 1"),
        (["--device", "gpu"], "device 'gpu' is unknown; use auto"),
        (["--set", "min_score=2"], "expected min_score to be a number from 0 to 1, got 2"),
        (["x" * 300], "no such file or folder"),
        (["self"], "self: Too many levels of symbolic links"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(photos, tmp_path, arguments, words):
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "config.py").write_text(CONFIG + "min_score = 0.5\n")
    code, _, err = run(tmp_path, "photos", *arguments)
    failed = code == 1 and words.startswith("self")
    assert code == 2 or failed
    (line,) = err.splitlines()
    assert words in line
    assert line.startswith("bmp: ")


@pytest.mark.slow
def test_the_picture_leaves_out_whom_the_config_finds_too_unsure(photos, tmp_path, monkeypatch):
    (tmp_path / "config.py").write_text(
        CONFIG.replace('dict(type="fakes.FakeDetector")', 'dict(type="fakes.FakeDetector", score=0.2)')
        + "min_score = 0.3\n"
    )
    code, out, _ = run(tmp_path, "photos/b.png", "-o", "all")
    assert code == 0
    assert "1 person scores below 0.3: in people.json, but not drawn" in out
    assert [person["score"] for person in _people(tmp_path / "all")["annotations"]] == [0.2]
    code, out, _ = run(tmp_path, "photos/b.png", "-o", "drawn", "--min-score", "0.1")
    assert "not drawn" not in out
    pictures = [(tmp_path / folder / "overlays" / "b.png.jpg").read_bytes() for folder in ("all", "drawn")]
    assert pictures[0] != pictures[1]
    assert run(tmp_path, "photos/b.png", "-o", "few", "--min-score", "0.25")[0] == 0
    assert _people(tmp_path / "few")["annotations"] == []


class TestBoxes:
    """One box is given, in a.png of two people; b.png is not spoken of."""

    @pytest.fixture
    def start(self, photos, tmp_path):
        x1, y1, x2, y2 = FRONT
        boxes = [{"image_id": "a.png", "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.7}]
        (tmp_path / "boxes.json").write_text(json.dumps(boxes))
        return lambda *arguments: run(tmp_path, "photos", "-o", "out", "--boxes", "boxes.json", *arguments)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("arguments", "code", "people"),
        [
            ([], 1, [1, 1]),
            (["--only-given"], 1, [1]),
            (["--without-boxes", "nobody", "--only-given"], 0, [1]),
            (["--without-boxes", "detect", "--only-given"], 0, [1, 2]),
            (["--without-boxes", "detect"], 0, [1, 1, 2]),
        ],
    )
    def test_who_is_found(self, start, tmp_path, arguments, code, people):
        found, out, _ = start(*arguments)
        assert found == code
        assert ("1 person was found beside the given boxes" in out) == ("--only-given" not in arguments)
        result = _people(tmp_path / "out")
        assert [person["image_id"] for person in result["annotations"]] == people
        assert [failed["file_name"] for failed in result["failed"]] == (["b.png"] if code else [])

    @pytest.mark.slow
    def test_other_boxes_are_another_run(self, start, tmp_path):
        assert start("--without-boxes", "nobody")[0] == 0
        assert start("--without-boxes", "nobody", "--resume")[0] == 0
        code, _, err = start("--without-boxes", "nobody", "--resume", "--only-given")
        assert (code, "other settings (boxes)" in err) == (2, True)
        (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": "a", "bbox": [1, 1, 9, 9]}]))
        code, _, err = start("--without-boxes", "nobody", "--resume")
        assert (code, "other settings (boxes)" in err) == (2, True)


class TestResume:
    @pytest.mark.slow
    def test_names_stay_when_a_folder_comes_to_it(self, photos, tmp_path):
        assert run(tmp_path, "photos", "-o", "out")[0] == 0
        save(tmp_path / "photos" / "more" / "c.png", FRONT)
        save(tmp_path / "others" / "d.png")
        code, out, _ = run(tmp_path, "photos", "others", "-o", "out", "--resume")
        assert code == 0
        assert "2 of 4 images were done before" in out
        assert _names(tmp_path / "out") == ["_up/others/d.png", "a.png", "b.png", "more/c.png"]
        assert (tmp_path / "out" / "overlays" / "_up" / "others" / "d.png.jpg").is_file()

    @pytest.mark.slow
    def test_photos_and_results_may_move_together(self, photos, tmp_path):
        (tmp_path / "here").mkdir()
        shutil.copytree(photos, tmp_path / "here" / "photos")
        assert run(tmp_path, "here/photos", "-o", "here/out")[0] == 0
        (tmp_path / "here").rename(tmp_path / "there")
        code, out, _ = run(tmp_path, "there/photos", "-o", "there/out", "--resume")
        assert (code, "2 of 2 images were done before" in out) == (0, True)

    @pytest.mark.slow
    def test_a_photo_that_changed_is_done_again(self, photos, tmp_path):
        assert run(tmp_path, "photos", "-o", "out")[0] == 0
        save(photos / "b.png")
        code, out, _ = run(tmp_path, "photos", "-o", "out", "--resume")
        assert code == 0
        assert "1 image has changed since" in out
        assert run(tmp_path, "photos", "-o", "anew")[0] == 0
        assert (tmp_path / "out" / "people.json").read_bytes() == (tmp_path / "anew" / "people.json").read_bytes()

    @pytest.mark.slow
    def test_a_file_of_the_config_that_changed_is_refused(self, photos, tmp_path):
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "own.pth").write_text("one")
        (tmp_path / "named.py").write_text(
            "from fakes import FakeDetector\n\n\nclass Weighted(FakeDetector):\n"
            "    def __init__(self, checkpoint):\n        super().__init__()\n"
        )
        (tmp_path / "config.py").write_text(
            CONFIG.replace('type="fakes.FakeDetector"', 'type="named.Weighted", checkpoint="weights/own.pth"')
        )
        assert run(tmp_path, "photos", "-o", "out")[0] == 0
        (tmp_path / "weights" / "own.pth").write_text("two")
        code, _, err = run(tmp_path, "photos", "-o", "out", "--resume")
        assert (code, "other settings (files)" in err) == (2, True)

    def test_what_was_left_out_is_listed(self, photos, tmp_path):
        (photos / "film.mp4").touch()
        (photos / "notes.txt").touch()
        code, _, err = run(tmp_path, "photos", "-o", "out")
        assert code == 0
        assert len(err.splitlines()) == 2
        skipped = {entry["path"]: entry["reason"] for entry in _people(tmp_path / "out")["skipped"]}
        assert skipped.keys() == {"photos/film.mp4", "photos/notes.txt"}
        assert "video" in skipped["photos/film.mp4"]


def test_another_run_in_the_folder_is_waited_for_by_nobody(photos, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        code, _, err = run(tmp_path, "photos", "-o", "out")
    assert code == 2
    assert err == "bmp: out: another run writes here; wait for it, or choose another output folder\n"
    assert run(tmp_path, "photos", "-o", "out")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["long name", "wide"])
def test_a_picture_that_cannot_be_drawn_fails_alone(photos, tmp_path, monkeypatch, problem):
    name = "x" * 251 + ".png"
    if problem == "wide":
        monkeypatch.setattr(files, "_LONGEST_JPEG", 100)
        from PIL import Image

        Image.new("RGB", (101, 2)).save(photos / name[-40:])
    else:
        save(photos / name, FRONT)
    code, _, err = run(tmp_path, "photos", "-o", "out", "--batch-size", "1")
    assert code == 1
    (line,) = err.splitlines()
    assert "its picture cannot be drawn" in line
    assert _names(tmp_path / "out") == ["a.png", "b.png"]


@pytest.mark.slow
def test_names_with_anything_in_them_are_printed_as_they_can_be(photos, tmp_path):
    odd = os.fsdecode(b"photos/\xff\n\x1b[31m.png")
    save(tmp_path / odd, FRONT)
    code, out, err = run(tmp_path, "photos", "-o", "out")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if ".png: 1 person" in line and line[0] != "b"]
    assert line.isascii()
    assert "\x1b" not in line
    assert odd.removeprefix("photos/") in _names(tmp_path / "out")


def test_an_output_folder_that_goes_ends_the_run(photos, tmp_path, monkeypatch):
    work_through = files.work_through

    def removed_before(*arguments):
        shutil.rmtree(tmp_path / "out")
        return work_through(*arguments)

    monkeypatch.setattr(bmp.cli, "work_through", removed_before)
    code, _, err = run(tmp_path, "photos", "-o", "out")
    assert code == 2
    assert "Traceback" not in err
    (line,) = err.splitlines()
    assert "cannot be written, No such file or directory" in line
    assert not (tmp_path / "out").exists()


def test_an_error_that_nobody_thought_of_is_one_line_unless_debugged(photos, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(bmp.cli, "work_through", broken)
    code, _, err = run(tmp_path, "photos", "-o", "out")
    assert (code, err) == (1, "bmp: unexpected RuntimeError: two lines; --debug shows where\n")
    code, _, err = run(tmp_path, "photos", "-o", "out", "--overwrite", "--debug")
    assert code == 1
    assert "Traceback" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [("| head -c 1", 0, ""), ("> /dev/full", 1, os.strerror(errno.ENOSPC)), (">&-", 0, "")],
)
def test_a_stdout_that_is_closed_or_full_does_not_end_the_work(photos, tmp_path, ending, code, words):
    command = f"{sys.executable} {ROOT / 'run_bmp.py'} -c config.py photos -o out {ending}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii:strict"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == bool(words)
    assert _names(tmp_path / "out") == ["a.png", "b.png"]


@pytest.mark.slow
def test_what_libraries_in_c_say_stays_off_the_terminal(photos, tmp_path):
    (tmp_path / "noisy.py").write_text(
        "import os\nimport warnings\nfrom fakes import FakeDetector\n\n\nclass Noisy(FakeDetector):\n"
        "    def detect(self, images):\n        os.write(2, b'TIFFReadDirectory: Warning\\n')\n"
        "        warnings.warn('soon', FutureWarning)\n        return super().detect(images)\n"
    )
    (tmp_path / "config.py").write_text(CONFIG.replace("fakes.FakeDetector", "noisy.Noisy"))
    assert run(tmp_path, "photos", "-o", "out", "--quiet") == (0, "", "")
    code, _, err = run(tmp_path, "photos", "-o", "loud", "--verbose")
    assert code == 0
    assert "TIFFReadDirectory" in err


@pytest.mark.slow
def test_the_presets_are_listed_with_what_they_are_good_for(tmp_path):
    code, out, err = main_in(tmp_path, "--list-configs")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert any(line.startswith("lite.py") and "run anywhere" in line for line in lines)
    nano = next(index for index, line in enumerate(lines) if line.startswith("nano.py"))
    assert lines[nano + 1].strip() in ("ready", "needs the extra openmmlab")


@pytest.mark.slow
def test_the_doctor_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("BMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    code, out, err = main_in(tmp_path, "doctor")
    assert err == ""
    assert f"weights are kept in {tmp_path / 'cache'}" in out
    assert "lite.py can run" in out
    (trained,) = [line for line in out.splitlines() if line.startswith("samp_b+.py ")]
    assert trained.endswith("needs a training first, which makes output/samp_b+.safetensors")
    (downloaded,) = [line for line in out.splitlines() if line.startswith("- weights are downloaded")]
    assert "output/" not in downloaded
    assert code == 0
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr("bmp.doctor.find_spec", lambda library: None)
    code, out, _ = main_in(tmp_path, "doctor")
    assert code == 1
    assert 'run `pip install -e ".[lite]"` in ' in out


@pytest.mark.parametrize(("real", "said"), [((), False), (("headless",), False), (("", "headless"), True)])
def test_the_doctor_sees_two_opencvs(monkeypatch, real, said):
    def files(name):
        kind = name.removeprefix("opencv-python").removeprefix("-")
        if not real and kind:
            raise metadata.PackageNotFoundError(name)
        return [PurePosixPath("cv2/__init__.py" if kind in real else f"{name}.dist-info/METADATA")]

    monkeypatch.setattr("bmp.doctor.metadata.files", files)
    assert doctor.has_two_opencvs() == said


def test_the_doctor_finds_packages_that_do_not_fit_each_other(tmp_path, monkeypatch):
    def weights_of(pipeline):
        if pipeline["detector"]["type"] != "LiteDetector":
            raise RuntimeError("operator torchvision::nms\ndoes not exist")
        return iter(())

    monkeypatch.setattr("bmp.doctor.weights_of", weights_of)
    code, out, err = main_in(tmp_path, "doctor")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("nano.py ")]
    assert line.endswith("cannot be loaded: operator torchvision::nms does not exist")
    assert "install torch and torchvision anew" in out
