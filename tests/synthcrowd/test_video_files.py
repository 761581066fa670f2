"""Drawn videos on the disk say in each format what was drawn, and the command writes and refuses them."""

import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from bmp.io.formats.mot_challenge import read_mots
from bmp.io.video import VideoReader
from bmp.ops.masks import from_rle
from bmp.synthcrowd import splits
from bmp.synthcrowd.__main__ import main
from bmp.synthcrowd.files import encode
from bmp.synthcrowd.splits import VIDEO_SPLITS, VideoSplit
from bmp.synthcrowd.video_files import about, write_videos
from bmp.synthcrowd.videos import VideoFrame, VideoSettings, plan_video

pytestmark = pytest.mark.slow  # its films take a second to draw

SMALL = VideoSettings(size=80, length=10, heights=(35.0, 60.0), cuts=0.0, people=(2, 3), walls=1.0)


@pytest.fixture(scope="module")
def drawn() -> list[list[VideoFrame]]:
    return [list(plan_video(0, index, SMALL)) for index in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, "small", SMALL, 2)
    return folder


def test_frames_are_the_drawn_ones(folder: Path, drawn: list[list[VideoFrame]]) -> None:
    for name, frames in zip(("000000", "000001"), drawn, strict=True):
        assert len(list((folder / "small" / name).iterdir())) == 10
        assert (folder / "small" / name / "000007.jpg").read_bytes() == encode(frames[7].scene.image)


def test_coco_has_everybody_with_the_id(folder: Path, drawn: list[list[VideoFrame]]) -> None:
    coco = COCO(str(folder / "small.json"))
    frames = [frame for video in drawn for frame in video]
    assert len(coco.imgs) == len(frames) == 20
    for image, frame in zip(coco.imgs.values(), frames, strict=True):
        assert (folder / image["file_name"]).is_file()
        rows = coco.imgToAnns[image["id"]]
        assert [row["track_id"] for row in rows] == frame.ids.tolist()
        for row, mask in zip(rows, frame.scene.visible, strict=True):
            np.testing.assert_array_equal(coco.annToMask(row), mask)
    first = coco.dataset["videos"][0]
    assert (first["length"], first["fps"], first["cuts"]) == (10, 25.0, [])
    np.testing.assert_allclose(np.reshape(first["camera"][3], (2, 3)), drawn[0][3].camera, atol=1e-3)
    for row, track in enumerate(first["points"]):
        x, y, seen = track["locations"][4]
        np.testing.assert_allclose((x, y), drawn[0][4].points[row], atol=0.01)
        assert seen == drawn[0][4].points_seen[row]


def test_youtube_vis_and_mots_have_the_same_masks(folder: Path, drawn: list[list[VideoFrame]]) -> None:
    data = json.loads((folder / "small_vis.json").read_text())
    rows = {row["track_id"]: row for row in data["annotations"] if row["video_id"] == 1}
    lines = list(read_mots(folder / "small_mots" / "000000.txt"))
    for frame in drawn[0]:
        for identity, mask in zip(frame.ids.tolist(), frame.scene.visible, strict=True):
            run = rows[identity]["segmentations"][frame.index]
            np.testing.assert_array_equal(from_rle([run], 80, 80)[0], mask)
            (line,) = [row for row in lines if (row.frame, row.track_id) == (frame.index + 1, 2000 + identity)]
            assert line.mask == run
    assert len(lines) == sum(len(frame.ids) for frame in drawn[0])
    boxes = (folder / "small_mot" / "000000.txt").read_text().splitlines()
    assert len(boxes) == len(lines)
    assert all(0 < float(line.split(",")[-1]) <= 1 for line in boxes)


def test_events_lie_between_frames_that_show_the_person() -> None:
    shows = dataclasses.replace(SMALL, length=40, people=(1, 1), crossings=0.0, still=1.0, objects=(0, 0))
    video = plan_video(0, 2, shows)
    frames = list(video)
    events = about(video, frames)["events"]
    assert events
    for event in events:
        for index in (event["first"] - 1, event["last"] + 1):
            frame = frames[index]
            row = frame.actors.tolist().index(event["person"])
            assert frame.visible[row] > 0
        hidden = frames[event["first"]]
        assert hidden.visible[hidden.actors.tolist().index(event["person"])] <= 0.02 * hidden.inside.max()
        assert event["kind"] == "outside" or event["by"] == [0]


def test_a_film_shows_what_the_pictures_show(tmp_path: Path, drawn: list[list[VideoFrame]]) -> None:
    write_videos(tmp_path, "small", SMALL, 1, film=True)
    assert {path.name for path in (tmp_path / "small").iterdir()} == {"000000.mp4", "000000.jsonl"}
    with VideoReader(tmp_path / "small" / "000000.mp4") as reader:
        frames = list(reader)
    assert len(frames) == 10
    for frame, own in zip(frames, drawn[0], strict=True):
        assert frame.time == pytest.approx(own.time, abs=1e-4)
        assert np.abs(frame.image.pixels.numpy().astype(float) - own.scene.image).mean() < 8


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setitem(VIDEO_SPLITS, "video-val", VideoSplit(1, dataclasses.replace(SMALL, length=2)))
    return main(list(arguments))


def test_the_command_writes_videos_and_a_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, sheet = str(tmp_path / "data"), str(tmp_path / "sheet.png")
    options = ["--splits", "video-val", "--output", output, "--workers", "1"]
    assert _run(monkeypatch, *options, "--sheet", sheet) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"video-val: 1 videos, {output}/video-val.json"
    assert cv2.imread(sheet).shape == (2 * 80, 2 * 80, 3)
    assert _run(monkeypatch, *options) == 2
    assert "video-val.json exists; replace it with --overwrite" in capsys.readouterr().err
    assert _run(monkeypatch, *options, "--overwrite") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--film", "--splits", "val", "--output", "x"], "--film: there are only still pictures"),
        (["--extras", "--splits", "video-val", "--output", "x"], "--extras: there are only videos"),
        (["--splits", "video-vall", "--output", "x"], "has no split 'video-vall'; choose one of .*video-val"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, *options) == 2
    assert re.search(message, capsys.readouterr().err)


def test_splits_of_videos_are_independent() -> None:
    streams = [split.settings.stream for split in (*splits.SPLITS.values(), *VIDEO_SPLITS.values())]
    assert len(set(streams)) == len(streams)
    with pytest.raises(Exception, match="choose one of video-train, video-val, video-test, video-hard"):
        splits.find_video_split("val")
