"""What is known of the people in a video, a row a frame: the form from which all files about videos are written.

It is the form of ``people.jsonl``, a line a frame. Whoever writes another file goes over the rows as often as needed
and holds one of them at a time, so that memory does not grow with the length of a video.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from typing_extensions import NotRequired, TypedDict

from bmp.errors import UserError
from bmp.io.annotations import Annotation
from bmp.io.json_fields import expect, expect_field, is_number, is_whole, short
from bmp.ops.masks import RunLengths


class PersonRow(Annotation):
    """Somebody in a frame of a video: an annotation, but for ``id`` and ``image_id``, and the person's own id.

    ``state`` is "new" in the first frames of a person who was found, then "confirmed".
    ``amodal_segmentation`` is what would be seen with nobody and nothing in front, where that is known.
    """

    track_id: int
    state: NotRequired[str]
    amodal_segmentation: NotRequired[RunLengths]


class FrameRow(TypedDict):
    """A frame: its number from 0, its time in seconds, whether it is the first of another scene, who is in it."""

    frame: int
    time: float
    cut: bool
    people: list[PersonRow]


@dataclass(frozen=True, eq=False)
class VideoRows:
    """A video and everybody in it.

    name: without extension; folders and files are called by it. width, height: of the first frame in pixels; those
    behind it may have sizes of their own. rate: frames a second, None where it is unknown. rows: gives the frames in
    order, anew each time it is called, from a position on.
    """

    name: str
    width: int
    height: int
    rate: float | None
    rows: RowsFile | RowsList

    def file_name(self, row: FrameRow) -> str:
        """Return what a frame is called as a picture."""
        return f"{self.name}/{row['frame']:06}.jpg"

    def size(self, row: FrameRow) -> tuple[int, int]:
        """Return height and width of a frame, as its masks say; those of the video where there is none."""
        for person in row["people"]:
            shape = person.get("segmentation")
            if isinstance(shape, dict):
                return shape["size"][0], shape["size"][1]
        return self.height, self.width


class RowsFile:
    """The rows of a ``people.jsonl``, which is checked once and read a row at a time; call it to go over them.

    Held are the places of the lines in the file, 8 bytes a frame.

    Raises:
        UserError: the file cannot be read, or a line of it is no such row.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets = array("q")
        last, offset = -1, 0
        with self._open() as file:
            for number, line in enumerate(file, 1):
                location = f"{path}: line {number}"
                expect(line.endswith(b"\n"), location, "is cut off, as of a run that was interrupted; resume that run")
                row = _parsed(line, location)
                if number > 1 or "settings" not in row:
                    expect_field(location, row, "frame", is_whole(row.get("frame")), "the number of a frame")
                    expect(row["frame"] > last, location, f"frame {row['frame']} after frame {last}; sort the lines")
                    _check(row, location)
                    last = row["frame"]
                    self._offsets.append(offset)
                offset += len(line)

    def __call__(self, first: int = 0) -> Iterator[FrameRow]:
        """Yield the rows from that position on."""
        if first >= len(self._offsets):
            return
        with self._open() as file:
            file.seek(self._offsets[first])
            for number, line in enumerate(file, 1):
                yield _parsed(line, f"{self._path}: line {number} from row {first} on")

    def _open(self) -> IO[bytes]:
        try:
            return self._path.open("rb")
        except OSError as error:
            raise UserError(f"{self._path}: cannot be read, {error.strerror or error}") from None


class RowsList:
    """Rows that are in memory."""

    def __init__(self, rows: Sequence[FrameRow]) -> None:
        self._rows = rows

    def __call__(self, first: int = 0) -> Iterator[FrameRow]:
        """Yield the rows from that position on."""
        return iter(self._rows[first:])


def _parsed(line: bytes, location: str) -> FrameRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{location}: not JSON, {' '.join(str(error).split()):.80}") from None
    expect(isinstance(row, dict), location, f"expected an object with named fields, got {short(row)}")
    parsed: FrameRow = row
    return parsed


def _check(row: FrameRow, location: str) -> None:
    expect_field(location, row, "time", is_number(row.get("time"), 0, 1e12), "seconds")
    people = row.get("people")
    expect(isinstance(people, list), location, f"expected a list of people, got {short(people)}")
    seen = set()
    for person in row["people"]:
        expect(isinstance(person, dict), location, f"expected people to be objects, got {short(person)}")
        expect_field(location, person, "track_id", is_whole(person.get("track_id")), "a whole number")
        identity = person["track_id"]
        expect(identity not in seen, location, f"person {identity} is twice in the frame; an id is one person's")
        seen.add(identity)
