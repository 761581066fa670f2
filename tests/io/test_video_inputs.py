"""Which inputs are videos, by what is in them, and pictures as one video."""

import numpy as np
import PIL.Image
import pytest

from bmp.errors import UserError
from bmp.io.video import Losses, VideoReader, video_writer
from bmp.io.video_inputs import (
    PictureSequence,
    find_videos,
    folder_names,
    identity_of,
    is_seekable,
    open_video,
)

pytest.importorskip("av", reason="PyAV, the extra video")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A film, a picture, a text and nothing, under names that do and do not say so; folders of some of them."""
    folder = tmp_path_factory.mktemp("inputs")
    with video_writer(folder / "film.mp4") as write:
        for number in range(3):
            write(np.full((32, 48, 3), 40 * number, np.uint8), None)
    film = (folder / "film.mp4").read_bytes()
    PIL.Image.new("RGB", (40, 30)).save(folder / "photo.jpg")
    photo = (folder / "photo.jpg").read_bytes()
    for name, content in {
        "film.jpg": film,
        "film": film,
        "photo.mp4": photo,
        "text.txt": b"text\n" * 30,
        "text.mp4": b"text\n" * 30,
        "nothing.mp4": b"",
        "nothing.jpg": b"",
        "films/b.mp4": film,
        "films/a.MKV": film,
        "films/.hidden.mp4": film,
        "films/notes.txt": b"text\n",
        "both/a.mp4": film,
        "both/b.jpg": photo,
        "pictures/1.jpg": photo,
        "pictures/2.jpg": photo,
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("entry", "videos"),
    [
        ("film.mp4", ["film.mp4"]),
        ("film.jpg", ["film.jpg"]),
        ("film", ["film"]),
        ("photo.jpg", []),
        ("photo.mp4", []),
        ("text.txt", []),
        ("text.mp4", ["text.mp4"]),
        ("nothing.mp4", ["nothing.mp4"]),
        ("nothing.jpg", []),
        ("missing.jpg", []),
        ("films", ["films/a.MKV", "films/b.mp4"]),
        ("films/*.mp4", ["films/b.mp4"]),
        ("both", []),
        ("pictures", []),
    ],
)
def test_what_is_a_video(folder, entry, videos):
    assert find_videos([str(folder / entry)]) == [str(folder / name) for name in videos]


@pytest.mark.parametrize(
    ("entry", "is_video"),
    [
        ("rtsp://camera/1", True),
        ("udp://127.0.0.1:5000", True),
        ("http://example.org/live/stream.m3u8?token=1", True),
        ("https://example.org/walk.MP4", True),
        ("https://example.org/photo.jpg", False),
        ("v4l2:/dev/video7", True),
        ("avfoundation:0", True),
        ("a:b.jpg", False),
    ],
)
def test_addresses_and_cameras(entry, is_video):
    assert find_videos([entry]) == ([entry] if is_video else [])
    assert is_seekable(entry) is (entry == "a:b.jpg")


def test_videos_and_pictures_are_not_done_together(folder):
    with pytest.raises(UserError, match=r"film.mp4 is a video and .*photo.jpg is none; .* separate runs"):
        find_videos([str(folder / "photo.jpg"), str(folder / "film.mp4")])


def test_each_video_once_and_in_order(folder):
    names = [str(folder / name) for name in ("film", "film.mp4", "film", "films")]
    assert find_videos(names) == [*names[:2], str(folder / "films" / "a.MKV"), str(folder / "films" / "b.mp4")]


def test_as_videos(folder):
    assert find_videos([str(folder / "pictures")], as_videos=True) == [str(folder / "pictures")]
    assert len(find_videos([str(folder / "films")], as_videos=True)) == 2
    assert find_videos([str(folder / "photo.jpg")], as_videos=True) == [str(folder / "photo.jpg")]


def test_pictures_are_frames_in_the_order_of_their_names(folder):
    with open_video(folder / "pictures") as frames:
        assert (frames.name, frames.frames, frames.rate) == (str(folder / "pictures"), 2, 25.0)
        assert [(frame.index, frame.time, frame.image.width) for frame in frames] == [(0, 0.0, 40), (1, 0.04, 40)]
    assert isinstance(open_video(str(folder / "pictures" / "*.jpg")), PictureSequence)
    with open_video(folder / "film") as film:
        assert isinstance(film, VideoReader)


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ({"start": 3}, [3, 4, 5]),
        ({"start": 0.3}, [3, 4, 5]),
        ({"start": 0.25}, [3, 4, 5]),
        ({"end": 0.2}, [0, 1]),
        ({"end": 2, "every": 1}, [0, 1]),
        ({"start": 1, "every": 2}, [1, 3, 5]),
        ({"end": 100}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_parts_of_pictures(folder, part, numbers):
    frames = PictureSequence([folder / "photo.jpg"] * 6, "many", rate=10.0, **part)
    assert [frame.index for frame in frames] == numbers


def test_pictures_that_cannot_be_read(folder):
    said = []
    frames = PictureSequence([folder / "photo.jpg", folder / "nothing.jpg"], "two", notice=said.append)
    assert [frame.index for frame in frames] == [0]
    assert frames.losses == Losses(broken=1)
    assert said == [f"{folder / 'nothing.jpg'}: the file is empty; fetch it again"]
    with pytest.raises(UserError, match="none of its pictures"):
        list(PictureSequence([folder / "nothing.jpg"], "one", notice=said.append))
    with pytest.raises(UserError, match="no picture in that part"):
        PictureSequence([folder / "photo.jpg"], "one", start=1)
    with pytest.raises(UserError, match="every=1 or more"):
        open_video(folder / "pictures", every=0)


def test_names_of_folders_are_distinct():
    names = ["a/walk.mp4", "b/walk.mp4", "rtsp://camera:554/one?x=1", "walk.mkv", "..", "b/walk.mp4 "]
    found = folder_names(names)
    assert found[:4] == ["walk.mp4", "walk.mp4_2", "camera_554_one_x_1", "walk.mkv"]
    assert len(set(found)) == len(names)
    assert not any(name in ("", ".", "..") or "/" in name for name in found)


def test_a_film_is_known_again(folder):
    assert identity_of(str(folder / "film.mp4")) == identity_of(str(folder / "film"))
    assert identity_of(str(folder / "film.mp4")) != identity_of(str(folder / "text.mp4"))
    assert identity_of(str(folder / "pictures")) != identity_of(str(folder / "both"))
    assert identity_of("rtsp://camera/1") == {"source": "rtsp://camera/1"}
