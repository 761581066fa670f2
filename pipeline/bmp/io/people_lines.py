"""Writes and reads people.jsonl, the people of a video, a frame a line; knows no network and no picture.

A line is whole once it is written, whatever happens to the program afterwards. ``video.json`` beside it says what video
it is of and how it was made.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from typing_extensions import Self, TypedDict

from bmp.errors import UserError
from bmp.io.annotations import Category, to_annotations
from bmp.io.atomic import replacing, writing
from bmp.io.formats.video_rows import FrameRow
from bmp.io.json_fields import JsonObject
from bmp.label_sets import KeypointSet
from bmp.structures import CONFIRMED, NEW, TrackedFrame

PEOPLE_LINES, VIDEO_FILE = "people.jsonl", "video.json"
_STATES = {NEW: "new", CONFIRMED: "confirmed"}


class VideoInfo(TypedDict):
    """What ``video.json`` holds.

    name: of the video, without folder. width, height: of its frames in pixels, upright. fps: average frames a second,
    None where unknown. complete: whether the run came to the end of the video; until then ``frames``, the number of
    lines, and ``broken``, the number of frames that could not be done, are those of the last checkpoint. notices: what
    else there is to know. categories: what the keypoints mean, as in people.json. info: the settings of the run.
    """

    name: str
    width: int
    height: int
    fps: float | None
    complete: bool
    frames: int
    broken: int
    notices: list[str]
    categories: list[Category]
    info: JsonObject


class PeopleLines:
    """The file people.jsonl while it is written.

    What a run that was killed has left is not thrown away when it is resumed: lines behind the checkpoint are made
    once more, compared with those that are there, and only written where these differ or end.

    Args:
        path: the file, in a folder that exists.
        keypoints: what the keypoints mean.
        resume: go on with the file where it exists, instead of starting anew.
        begin: the byte at which to go on, the end of a line.
        checksum: crc32 of what comes before, which has to be as it was written.

    Attributes:
        end: the byte behind the last line that was written or confirmed.
        checksum: crc32 of all before it.

    Raises:
        UserError: what comes before ``begin`` is not as it was written.
    """

    def __init__(
        self, path: Path, keypoints: KeypointSet, *, resume: bool = False, begin: int = 0, checksum: int = 0
    ) -> None:
        self._keypoints = keypoints
        self._path = path
        with writing(path):
            self._file: IO[bytes] = path.open("r+b" if resume and path.exists() else "w+b")
        self.end, self.checksum = begin, checksum
        try:
            left, found = begin, 0
            while left and (chunk := self._file.read(min(left, 1 << 20))):
                left, found = left - len(chunk), zlib.crc32(chunk, found)
            if left or found != checksum:
                raise UserError(f"{path}: changed since it was written; start anew with --overwrite")
        except BaseException:
            self._file.close()
            raise

    def add(self, found: TrackedFrame) -> None:
        """Write the people of a frame."""
        line = to_line(found, self._keypoints)
        with writing(self._path, "make room and --resume"):
            self._file.seek(self.end)
            if self._file.read(len(line)) != line:
                self._file.seek(self.end)
                self._file.truncate()
                self._file.write(line)
                self._file.flush()
        self.end += len(line)
        self.checksum = zlib.crc32(line, self.checksum)

    def sync(self) -> None:
        """Return once everything is on the disk."""
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Drop what is left behind the last line of an earlier run, and close the file."""
        with writing(self._path, "make room and --resume"):
            self._file.truncate(self.end)
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def to_line(found: TrackedFrame, keypoints: KeypointSet) -> bytes:
    """Return the people of a frame as a line of people.jsonl."""
    people = found.people
    rows = to_annotations(people.instances.to("cpu"), found.frame.index, keypoints)
    tracks = zip(people.ids.tolist(), people.state.tolist(), rows, strict=True)
    line = {
        "frame": found.frame.index,
        "time": round(found.frame.time, 6),
        "cut": found.cut,
        "people": [
            {
                "track_id": number,
                "state": _STATES[state],
                **{key: value for key, value in row.items() if key not in ("id", "image_id")},
            }
            for number, state, row in tracks
        ],
    }
    return json.dumps(line, allow_nan=False).encode() + b"\n"


def read_lines(path: Path) -> Iterator[FrameRow]:
    """Yield the frames of a people.jsonl, one at a time; a last line that is not whole is left out.

    Raises:
        UserError: a line is no frame.
    """
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):
                return
            try:
                line: FrameRow = json.loads(text)
                whole = isinstance(line["frame"], int) and isinstance(line["people"], list)
            except (ValueError, KeyError, TypeError):
                whole = False
            if not whole:
                raise UserError(f"{path}: line {number} is no frame; make the file again")
            yield line


def write_info(folder: Path, info: VideoInfo) -> None:
    """Write ``video.json`` in one step."""
    with replacing(folder / VIDEO_FILE) as file:
        json.dump(info, file, indent=1)


def read_info(folder: Path) -> VideoInfo | None:
    """Return what ``video.json`` in a folder holds; None where there is none.

    Raises:
        UserError: it is not as this program writes it.
    """
    path = folder / VIDEO_FILE
    if not path.exists():
        return None
    try:
        info: VideoInfo = json.loads(path.read_bytes())
        missing = VideoInfo.__required_keys__ - set(info)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: broken ({error}); start anew with --overwrite") from None
    if missing:
        raise UserError(f"{path}: lacks {', '.join(sorted(missing))}; start anew with --overwrite")
    return info
