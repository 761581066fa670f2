"""Finds the videos among inputs and opens them: films, streams, cameras, and pictures in order as one video."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from typing_extensions import Self

from bmp.errors import UserError
from bmp.io.decoding import ImageError, Notice, is_picture_file, log_notice
from bmp.io.images import VIDEO_EXTENSIONS, find, is_picture, load
from bmp.io.urls import is_url
from bmp.io.video import Instant, Losses, VideoError, VideoReader
from bmp.structures import Frame

_DEVICES = ("avfoundation", "dshow", "gdigrab", "v4l2", "x11grab")  # FFmpeg's formats of cameras and screens
_PLAYLISTS = (".m3u8", ".mpd", ".ts")
_SAMPLED = 1 << 20  # bytes of each end of a film by which it is known again


class VideoSource(Protocol):
    """The frames of a video in order, to be read once; ``VideoReader`` says what the attributes mean."""

    name: str
    frames: int | None
    rate: float | None
    losses: Losses

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def close(self) -> None:
        """Give the file or stream back."""
        ...


class PictureSequence:
    """Pictures as the frames of a video, in the order of their names; one that cannot be read is skipped and reported.

    Args:
        paths: of the pictures.
        name: of the video.
        rate: frames a second.
        start, end, every, notice: as for ``VideoReader``.

    Raises:
        UserError: for a part that there is not.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        *,
        rate: float = 25.0,
        start: Instant = 0,
        end: Instant | None = None,
        every: int = 1,
        notice: Notice = log_notice,
    ) -> None:
        first = start if isinstance(start, int) else _first_from(start, rate)
        last = len(paths) if end is None else end if isinstance(end, int) else _first_from(end, rate)
        numbers = range(first, min(last, len(paths)), every)
        if not numbers:
            raise UserError(f"{name}: there is no picture in that part; it has {len(paths)} at {rate:g} a second")
        self._paths, self._numbers, self._rate, self._notice = paths, numbers, rate, notice
        self.name = name
        self.rate: float | None = rate
        self.frames: int | None = len(paths)
        self.losses = Losses()

    def __iter__(self) -> Iterator[Frame]:
        for number in self._numbers:
            try:
                image = load(self._paths[number], notice=self._notice)
            except ImageError as error:  # noqa: PERF203 - each picture may fail, and the next one may not
                self.losses.broken += 1
                self._notice(str(error))
            else:
                yield Frame(number, number / self._rate, image)
        if self.losses.broken == len(self._numbers):
            raise VideoError(f"{self.name}: none of its pictures can be read")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def close(self) -> None:
        """Nothing is held."""


def find_videos(inputs: Sequence[str], as_videos: bool = False) -> list[str]:
    """Return the videos that inputs name, in order, each once; none where they name pictures.

    A file is a video if its content is, whatever its name; what is neither video nor picture counts by its name. A
    folder or pattern stands for the videos in it, by their names, if there are no pictures. Streams are addresses
    (``rtsp://``, ``udp://`` ..., ``http://`` with the name of a video or playlist) and devices (``/dev/video0``, or
    FORMAT:DEVICE as FFmpeg has them, such as ``avfoundation:0``).

    Args:
        inputs: what the user named.
        as_videos: all of them are videos, and a folder or pattern with pictures is one video.

    Raises:
        UserError: videos and pictures are named together.
    """
    if as_videos:
        return list(dict.fromkeys(video for entry in inputs for video in (_members(entry) or [entry])))
    found = {entry: _videos_of(entry) for entry in inputs}
    videos = list(dict.fromkeys(video for each in found.values() for video in each))
    if videos and (others := [entry for entry, each in found.items() if not each]):
        raise UserError(f"{videos[0]} is a video and {others[0]} is none; do videos and pictures in separate runs")
    return videos


def folder_names(videos: Sequence[str]) -> list[str]:
    """Return a name for each video, by which a folder may be called; distinct, and the same in each run."""
    names: list[str] = []
    for video in videos:
        plain = re.sub(r"[^\w.-]+", "_", video.partition("://")[2] or Path(video).name).strip("._") or "video"
        names.append(plain if plain not in names else f"{plain}_{1 + sum(name.startswith(plain) for name in names)}")
    return names


def open_video(
    source: str | os.PathLike[str],
    *,
    start: Instant = 0,
    end: Instant | None = None,
    every: int = 1,
    notice: Notice = log_notice,
) -> VideoSource:
    """Open a video: a film, a stream, a camera, or a folder or pattern of pictures, which are its frames.

    Raises:
        VideoError, UserError: as of ``VideoReader``.
    """
    name = os.fspath(source)
    if (os.path.isdir(name) or glob.has_magic(name)) and not os.path.isfile(name):  # noqa: PTH112, PTH113
        if every < 1:
            raise UserError(f"expected every=1 or more, got {every}; 10 gives each tenth picture")
        paths = [path for path in find(name).paths if is_picture(path)]
        return PictureSequence(paths, name, start=start, end=end, every=every, notice=notice)
    format, device = _device_of(name)
    return VideoReader(device, start=start, end=end, every=every, format=format, notice=notice)


def is_seekable(source: str) -> bool:
    """Tell whether a video can be read again from any frame on, as films and pictures can, and streams cannot."""
    return "://" not in source and _device_of(source)[0] is None


def identity_of(source: str) -> dict[str, object]:
    """Return what a video is known by when a run is resumed: plain values."""
    path = Path(source)
    if not is_seekable(source) or not path.exists():
        return {"source": source}
    if path.is_dir():
        names = "\n".join(str(each) for each in find(source).paths)
        return {"pictures": hashlib.sha256(names.encode()).hexdigest()}
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_SAMPLED))
        file.seek(max(0, size - _SAMPLED))
        digest.update(file.read())
    return {"bytes": size, "sha256_of_ends": digest.hexdigest()}


def _first_from(time: float, rate: float) -> int:
    """Return the number of the first picture that is shown at that time or later."""
    number = int(time * rate)
    return number + (number / rate < time)


def _videos_of(entry: str) -> list[str]:
    if is_url(entry):
        path = re.split("[?#]", entry)[0].lower()
        return [entry] if path.endswith((*VIDEO_EXTENSIONS, *_PLAYLISTS)) else []
    if "://" in entry or _device_of(entry)[0] is not None:
        return [entry]
    if os.path.isfile(entry):  # noqa: PTH113 - answers no where pathlib raises
        return [entry] if _is_video(Path(entry)) else []
    return _members(entry)


def _members(entry: str) -> list[str]:
    """Return the videos in a folder, or among the matches of a pattern, if there are no pictures; by their names."""
    if os.path.isdir(entry):  # noqa: PTH112
        paths = sorted(path for path in Path(entry).rglob("*") if path.is_file() and not path.name.startswith("."))
    elif glob.has_magic(entry) and not os.path.lexists(entry):
        paths = sorted(path for path in map(Path, glob.glob(entry, recursive=True)) if path.is_file())  # noqa: PTH207
    else:
        return []
    if any(is_picture(path) for path in paths):
        return []
    return [str(path) for path in paths if path.suffix.lower() in VIDEO_EXTENSIONS]


def _is_video(path: Path) -> bool:
    """Tell by the content of a file whether it is a video; what is nothing at all counts by its name."""
    if is_picture_file(path):
        return False
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        return True
    try:
        VideoReader(path).close()
    except UserError:
        return False
    return True


def _device_of(name: str) -> tuple[str | None, str]:
    """Return FFmpeg's format of a device, None for what is no device, and the device's own name."""
    format, colon, device = name.partition(":")
    if colon and format in _DEVICES and not Path(name).exists():
        return format, device
    try:
        is_device = stat.S_ISCHR(os.stat(name).st_mode)  # noqa: PTH116 - answers no for names that are too long
    except (OSError, ValueError):
        is_device = False
    return ("v4l2" if is_device else None), name
