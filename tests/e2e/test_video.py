"""The command on videos, with stages that cannot be wrong: what it takes for a video, messages, exit codes."""

import json

import numpy as np
import PIL.Image
import pytest
from program import CONFIG, run
from track_fakes import film, moving

from bmp.io.people_lines import read_lines

pytest.importorskip("av", reason="PyAV, the extra video")

SQUARE = moving((4, 10, 14, 30), dx=1)


@pytest.fixture
def folder(tmp_path):
    """Pictures of a square that moves, and a film of nobody."""
    from bmp.io.video import video_writer

    tracker = 'video = dict(tracker=dict(type="track_fakes.FakeTracker", speeds={0: (1, 0)}), patience=24)'
    (tmp_path / "config.py").write_text(f"{CONFIG}\n{tracker}\n")
    (tmp_path / "walk").mkdir()
    for frame in film(SQUARE, count=6):
        PIL.Image.fromarray(frame.image.pixels.numpy()).save(tmp_path / "walk" / f"{frame.index:03d}.png")
    with video_writer(tmp_path / "film of nobody") as write:
        for _ in range(5):
            write(np.zeros((32, 48, 3), np.uint8), None)
    return tmp_path


def frames(path):
    return [line["frame"] for line in read_lines(path / "people.jsonl")]


@pytest.mark.slow
def test_a_film_is_known_by_its_content(folder):
    code, out, err = run(folder, "--input", "film of nobody", "--output", "out")
    assert (code, err) == (0, "")
    assert out == "0 people in 5 frames: out/people.jsonl, film in out/overlay.mp4\n"
    assert frames(folder / "out") == [0, 1, 2, 3, 4]
    code, _, err = run(folder, "--input", "film of nobody", "--output", "out")
    assert code == 2
    assert "out has the results of an earlier run" in err
    code, out, err = run(folder, "--input", "film of nobody", "--output", "out", "--resume")
    assert (code, err) == (0, "")
    assert out == "film of nobody: was done before, 5 frames\n"
    code, _, err = run(folder, "--input", "film of nobody", "--output", "out", "--resume", "--start", "1")
    assert code == 2
    assert "made with other settings (start)" in err


@pytest.mark.slow
def test_a_folder_of_pictures_is_one_video_where_that_is_said(folder):
    code, out, err = run(
        folder, "--video", "walk", "--output", "out", "--no-overlay", "--start", "0.04s", "--every", "2"
    )
    assert (code, err) == (0, "")
    assert out == "1 person in 3 frames: out/people.jsonl\n"
    lines = list(read_lines(folder / "out" / "people.jsonl"))
    assert [(line["frame"], line["time"]) for line in lines] == [(1, 0.04), (3, 0.12), (5, 0.2)]
    assert {row["track_id"] for line in lines for row in line["people"]} == {1}
    settings = json.loads((folder / "out" / "video.json").read_text())["info"]
    assert settings["video"]["tracker"]["type"] == "track_fakes.FakeTracker"
    assert run(folder, "walk", "--output", "photos")[0] == 0
    assert (folder / "photos" / "people.json").exists()


@pytest.mark.slow
def test_one_that_cannot_be_read_does_not_stop_the_others(folder):
    (folder / "text.mp4").write_text("not a film\n" * 50)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "broken.mp4").write_bytes((folder / "film of nobody").read_bytes()[:300])
    names = ["text.mp4", "empty.mp4", "film of nobody", "broken.mp4"]
    code, out, err = run(folder, *names, "--output", "out", "--no-overlay")
    assert code == 1
    assert out == "0 people in 5 frames: out/film_of_nobody/people.jsonl\n"
    lines = err.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["bmp", "failed", name] for name in (names[0], names[1], names[3])
    ]
    assert "is broken or no video" in lines[0]
    assert "the file is empty" in lines[1]
    assert frames(folder / "out" / "film_of_nobody") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["film of nobody", "walk"], "film of nobody is a video and walk is none; do videos and pictures in separate"),
        (["film of nobody", "--trace"], "--trace is for photos; leave it out for videos"),
        (["walk", "--start", "1"], "--start is for videos; leave it out, or take pictures as one video with --video"),
        (["walk", "--no-overlay"], "--no-overlay is for videos"),
        (["film of nobody", "--start", "soon"], "expected a frame, as in 120, or a time"),
        (["film of nobody", "--start", "3", "--end", "2"], "nothing from frame 3 to frame 2"),
        (["film of nobody", "--set", "video.every=2"], "video has no 'every'; there is: tracker, patience"),
        (["film of nobody", "--set", "video.patience=-1"], "video.patience: expected at least 0, got -1"),
        (["film of nobody", "--set", "video=3"], "video: expected a dict of settings"),
    ],
)
def test_wrong_use_is_one_line(folder, arguments, message):
    code, out, err = run(folder, *arguments, "--output", "out")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (folder / "out" / "people.jsonl").exists()
