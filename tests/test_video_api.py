"""Videos in Python: the generator, its people, and frames of the user's own."""

import gc

import numpy as np
import PIL.Image
import pytest
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll
from track_fakes import FakeTracker, film, moving

import bmp
from bmp.api import VideoPeople
from bmp.errors import UserError
from bmp.io.decoding import ImageError
from bmp.segmenters.tracked import TrackedKeypoints
from bmp.video_loop import VideoLoop

LEFT, RIGHT = moving((4, 10, 14, 30), dx=1), moving((44, 12, 54, 36))
FRAMES = film(LEFT, RIGHT, count=6)


@pytest.fixture
def model():
    loop = bmp.BMP(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())
    loop.make_video_loop = lambda: VideoLoop(FakeTracker({0: (1, 0)}), TrackedKeypoints())
    return loop


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for frame in FRAMES:
        PIL.Image.fromarray(frame.image.pixels.numpy()).save(folder / f"{frame.index}.png")
    return folder


def test_a_video_gives_its_people_frame_by_frame(model, pictures):
    found = list(model.video(pictures, start=1, end=5, every=2))
    assert [(people.index, people.time, people.cut) for people in found] == [(1, 0.04, False), (3, 0.12, False)]
    for people in found:
        assert isinstance(people, VideoPeople)
        assert people.ids.tolist() == [1, 2]
        assert people.masks.shape == (2, 48, 64)
        assert people.source == str(pictures)
    assert repr(found[0]) == "VideoPeople(frame 1, 0.04 s: 1, 2)"


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 2])
def test_a_film_may_be_left_at_any_time_and_is_closed_then(model, tmp_path, monkeypatch, asked):
    pytest.importorskip("av", reason="PyAV, the extra video")
    from bmp.io.video import VideoReader, video_writer

    with video_writer(tmp_path / "a.mp4") as write:
        for frame in FRAMES:
            write(frame.image.pixels.numpy(), None)
    closed = []
    close = VideoReader.close
    monkeypatch.setattr(VideoReader, "close", lambda reader: (closed.append(reader.name), close(reader)))
    frames = model.video(tmp_path / "a.mp4")
    for _ in range(asked):
        next(frames)
    frames.close()
    assert closed == ([str(tmp_path / "a.mp4")] if asked else [])
    closed.clear()
    for number, _ in enumerate(model.video(tmp_path / "a.mp4")):
        if number == 1:
            break
    gc.collect()
    assert closed == [str(tmp_path / "a.mp4")]


def test_what_is_wrong_is_said_at_once(model, tmp_path):
    with pytest.raises(UserError, match="check the spelling"):
        model.video(tmp_path / "missing.mp4")
    with pytest.raises(ValueError, match="min_score"):
        model.video(tmp_path, min_score=2)
    with pytest.raises(ValueError, match="rate"):
        model.track([], rate=0)


@pytest.mark.slow
def test_frames_of_ones_own_are_read_one_at_a_time(model):
    read = []

    def frames():
        for frame in FRAMES:
            read.append(frame.index)
            yield frame.image.pixels.numpy()

    found = model.track(frames(), rate=10)
    assert read == []
    first = next(found)
    assert read == [0]
    assert (first.index, first.time) == (0, 0.0)
    assert [(people.index, people.time) for people in found] == [(n, n / 10) for n in range(1, 6)]
    assert [people.time for people in model.track(FRAMES)] == [frame.time for frame in FRAMES]


def test_a_frame_that_cannot_be_read_is_an_error(model):
    found = model.track([FRAMES[0], b"not a picture"])
    next(found)
    with pytest.raises(ImageError, match="the bytes"):
        next(found)


@pytest.mark.slow
def test_rows_keep_their_identity(model):
    people = list(model.track(FRAMES))[-1]
    assert people[[1, 0]].ids.tolist() == [2, 1]
    assert people[[1, 0]][0].box.tolist() == people[1].box.tolist()
    assert people[people.ids == 2].boxes.tolist() == people.boxes[1:].tolist()
    assert people[1:].confirmed.tolist() == [True]
    assert people[[1, 0]][[1, 0]] == people
    assert people[[1, 0]] != people


@pytest.mark.slow
def test_supervision_gets_the_ids(model):
    people = list(model.track(FRAMES))[-1][[1, 0]]
    detections, points = people.to_supervision()
    assert detections.tracker_id.tolist() == [2, 1]
    assert detections.xyxy.tolist() == people.boxes.tolist()
    assert len(points.xy) == 2
    nobody, _ = people[:0].to_supervision()
    assert nobody.tracker_id.tolist() == []


@pytest.mark.slow
def test_tables_and_annotations_have_the_ids(model):
    people = list(model.track(FRAMES))[4]
    assert [(row["track_id"], row["image_id"], row["id"]) for row in people.to_coco()] == [(1, 4, 1), (2, 4, 2)]
    assert people.numpy()["ids"].tolist() == [1, 2]
    pytest.importorskip("pandas")
    table = people.to_dataframe()
    assert table[["frame", "time", "id"]].to_numpy().tolist() == [[4, 0.16, 1], [4, 0.16, 2]]


@pytest.mark.slow
def test_colours_follow_the_identity(model):
    people = list(model.track(FRAMES))[-1]
    whole, alone = (np.asarray(each.plot(labels=False)) for each in (people, people[people.ids == 2]))
    assert (whole[10:40, 42:58] == alone[10:40, 42:58]).all()


def test_the_usual_parts_are_there_without_a_config():
    loop = bmp.BMP(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())
    assert type(loop.video_loop.tracker).__name__ == "LucasKanade"
    assert loop.video_loop is loop.video_loop
    assert torch.is_tensor(next(iter(loop.track(FRAMES))).ids)
