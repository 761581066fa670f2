"""Writes people in videos as YouTube-VIS has them: a mask or nothing for each frame of each person.

People come one after the other in these files, and frames in the rows: rows are gone over once for each person, within
the frames that show the person, so that memory does not grow with the length of a video.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import TextIO

from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID
from bmp.io.atomic import replacing, writing
from bmp.io.formats.video_rows import PersonRow, VideoRows
from bmp.io.segmentations import checked_segmentation, mask_area, to_run_lengths
from bmp.ops.masks import RunLengths


@dataclass
class _Track:
    """A person: the first and last frame, by position in the video, and scores summed over frames."""

    first: int
    last: int
    total: float = 0.0
    frames: int = 0


def write_results(path: Path, videos: Sequence[VideoRows]) -> None:
    """Write what was found: a list with an entry a person: video_id, category_id, score and ``segmentations``.

    The score is the mean of the person's over the frames that show it. Videos have ids from 1.
    """
    with writing(path), replacing(path) as file:
        file.write("[")
        first = True
        for number, video in enumerate(videos, 1):
            tracks, length = _tracks(video)
            for identity, track in tracks.items():
                head = {"video_id": number, "category_id": CATEGORY_ID, "score": track.total / track.frames}
                file.write(f"{'' if first else ','}\n{json.dumps(head)[:-1]}, ")
                _write_masks(file, video, identity, track, length)
                file.write("}")
                first = False
        file.write("\n]\n")


def write_ground_truth(path: Path, videos: Sequence[VideoRows]) -> None:
    """Write labels: ``videos`` with the names of their frames, ``annotations`` with masks, boxes and areas a frame."""
    with writing(path), replacing(path) as file:
        head = {"info": {}, "categories": [{"id": CATEGORY_ID, "name": "person", "supercategory": "person"}]}
        file.write(f'{json.dumps(head)[:-1]},\n"videos": [')
        for number, video in enumerate(videos, 1):
            entry = {"id": number, "width": video.width, "height": video.height, "fps": video.rate}
            file.write(f"{',' if number > 1 else ''}\n{json.dumps(entry)[:-1]}, ")
            file.write('"file_names": [')
            length = 0
            for row in video.rows():
                file.write(f"{', ' if length else ''}{json.dumps(video.file_name(row))}")
                length += 1
            file.write(f'], "length": {length}}}')
        file.write('\n],\n"annotations": [')
        annotation_id = 0
        for number, video in enumerate(videos, 1):
            tracks, length = _tracks(video)
            for identity, track in tracks.items():
                annotation_id += 1
                entry = {
                    "id": annotation_id,
                    "video_id": number,
                    "track_id": identity,
                    "category_id": CATEGORY_ID,
                    "iscrowd": 0,
                    "length": length,
                    "width": video.width,
                    "height": video.height,
                }
                file.write(f"{',' if annotation_id > 1 else ''}\n{json.dumps(entry)[:-1]}, ")
                _write_masks(file, video, identity, track, length, numbers=True)
                file.write("}")
        file.write("\n]}\n")


def _tracks(video: VideoRows) -> tuple[dict[int, _Track], int]:
    """Return everybody in a video by id, in the order in which they appear, and how many frames there are."""
    tracks: dict[int, _Track] = {}
    length = 0
    for row in video.rows():
        for person in row["people"]:
            track = tracks.setdefault(person["track_id"], _Track(length, length))
            track.last = length
            track.total += person.get("score", 1.0)
            track.frames += 1
        length += 1
    return tracks, length


def _write_masks(
    file: TextIO, video: VideoRows, identity: int, track: _Track, length: int, *, numbers: bool = False
) -> None:
    """Write the lists with an entry a frame: ``segmentations``, and with ``numbers`` also ``bboxes`` and ``areas``."""
    file.write('"segmentations": [')
    for position, mask in enumerate(_masks(video, identity, track, length)):
        file.write(f"{', ' if position else ''}{json.dumps(mask)}")
    file.write("]")
    if numbers:
        file.write(', "bboxes": [')
        for position, person in enumerate(_appearances(video, identity, track, length)):
            file.write(f"{', ' if position else ''}{json.dumps(person['bbox'] if person else None)}")
        file.write('], "areas": [')
        for position, mask in enumerate(_masks(video, identity, track, length)):
            area = mask_area(mask, video.height, video.width) if mask else None
            file.write(f"{', ' if position else ''}{json.dumps(area)}")
        file.write("]")


def _appearances(video: VideoRows, identity: int, track: _Track, length: int) -> Iterator[PersonRow | None]:
    """Yield the row of a person in each frame, None where there is none."""
    yield from repeat(None, track.first)
    for row in islice(video.rows(track.first), track.last + 1 - track.first):
        yield next((person for person in row["people"] if person["track_id"] == identity), None)
    yield from repeat(None, length - 1 - track.last)


def _masks(video: VideoRows, identity: int, track: _Track, length: int) -> Iterator[RunLengths | None]:
    """Yield the mask of a person in each frame, None where there is none."""
    for person in _appearances(video, identity, track, length):
        shape = person.get("segmentation") if person else None
        if isinstance(shape, dict) and tuple(shape["size"]) != (video.height, video.width):
            height, width = shape["size"]
            raise UserError(
                f"{video.name}: has frames of {width}x{height} pixels behind the first one of {video.width}x"
                f"{video.height}, and YouTube-VIS has one size a video; leave it out of --formats"
            )
        checked = checked_segmentation(shape, video.height, video.width)
        yield None if checked is None else to_run_lengths(checked, video.height, video.width)
