"""Writes and reads the text files of MOTChallenge: boxes (MOT) and masks (MOTS) of people, a line a person a frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bmp.errors import UserError
from bmp.io.atomic import replacing, writing
from bmp.io.formats.video_rows import PersonRow, VideoRows
from bmp.io.json_fields import expect, short
from bmp.io.segmentations import checked_segmentation, mask_area, to_mask
from bmp.ops.masks import RunLengths, exclusive, to_rle

PEDESTRIAN, IGNORED = 2, 10
"""Classes of MOTS; 1 is a car."""
_PER_CLASS = 1000


@dataclass(frozen=True)
class MotsRow:
    """A line of a file of MOTS.

    frame: as in the file, from 0 in KITTI and from 1 in MOTChallenge. track_id: class x 1000 + a number. kind: the
    class. mask: in pixels of the frame.
    """

    frame: int
    track_id: int
    kind: int
    mask: RunLengths

    @property
    def ignored(self) -> bool:
        """Whether what is here counts for nothing."""
        return self.kind == IGNORED


def write_mots(path: Path, video: VideoRows, *, first_frame: int = 1) -> None:
    """Write masks: ``frame id class height width run-lengths``, with no pixel of two people.

    Ids are 2000 + a number below 1000: the own id, or where one is larger, by order of appearance.

    Args:
        path: the file.
        video: whose people have masks; those without one in a frame are not in its lines.
        first_frame: the number of the first frame, 1 for MOTChallenge and 0 for KITTI.

    Raises:
        UserError: there are more than 1000 people, or the file cannot be written.
    """
    numbers = _numbers(video)
    with writing(path), replacing(path) as file:
        for frame, row in enumerate(video.rows(), first_frame):
            people, size = row["people"], video.size(row)
            for person, mask in zip(people, _disjoint(people, size), strict=True):
                if mask is not None:
                    track_id = PEDESTRIAN * _PER_CLASS + numbers[person["track_id"]]
                    file.write(f"{frame} {track_id} {PEDESTRIAN} {size[0]} {size[1]} {mask['counts']}\n")


def write_boxes(path: Path, video: VideoRows) -> None:
    """Write boxes: ``frame, id, left, top, width, height, confidence, class, visibility``, frames and pixels from 1.

    Class 1 are pedestrians. The visibility is the share of the person that is seen, where that is known, else 1.
    """
    with writing(path), replacing(path) as file:
        for frame, row in enumerate(video.rows(), 1):
            for person in row["people"]:
                left, top, width, height = person["bbox"]
                numbers = (left + 1, top + 1, width, height, person.get("score", 1.0))
                values = ",".join(f"{value:.6g}" for value in (*numbers, 1, _visibility(person, video.size(row))))
                file.write(f"{frame},{person['track_id']},{values}\n")


def read_mots(path: Path) -> Iterator[MotsRow]:
    """Yield the lines of a file of masks, which may be in any order.

    Raises:
        UserError: the file cannot be read, or a line is not of the format.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _mots_row(line.split(), f"{path}: line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read, {getattr(error, 'strerror', None) or 'it is no text'}") from None


def _mots_row(fields: list[str], location: str) -> MotsRow:
    form = "frame id class height width run-lengths"
    expect(len(fields) == 6, location, f"expected 6 fields, {form}, got {len(fields)}")
    whole = all(field.isascii() and field.isdecimal() and len(field) < 10 for field in fields[:5])
    expect(whole, location, f"expected whole numbers before the run lengths, got {short(' '.join(fields[:5]))}")
    frame, track_id, kind, height, width = map(int, fields[:5])
    try:
        mask = checked_segmentation({"size": [height, width], "counts": fields[5]}, height, width)
    except ValueError as error:
        raise UserError(f"{location}: {error}") from None
    assert isinstance(mask, dict)  # run lengths stay what they are
    return MotsRow(frame, track_id, kind, mask)


def _numbers(video: VideoRows) -> dict[int, int]:
    """Return for each id a number below 1000."""
    found: dict[int, int] = {}
    for row in video.rows():
        for person in row["people"]:
            found.setdefault(person["track_id"], len(found))
    if len(found) > _PER_CLASS:
        raise UserError(f"{video.name}: {len(found)} people, and MOTS can tell {_PER_CLASS} apart; cut the video up")
    return {own: own for own in found} if all(0 <= own < _PER_CLASS for own in found) else found


def _disjoint(people: list[PersonRow], size: tuple[int, int]) -> list[RunLengths | None]:
    """Return masks without common pixels, which go to the higher score; None for people who have none."""
    shapes = [checked_segmentation(person.get("segmentation"), *size) for person in people]
    bits = torch.zeros(len(people), *size, dtype=torch.bool)
    for row, shape in enumerate(shapes):
        bits[row] = to_mask(shape, *size)
    scores = torch.tensor([person.get("score", 1.0) for person in people])
    bits = exclusive(bits, scores)
    return [run if mask.any() else None for mask, run in zip(bits, to_rle(bits), strict=True)]


def _visibility(person: PersonRow, size: tuple[int, int]) -> float:
    whole, seen = person.get("amodal_segmentation"), person.get("segmentation")
    if whole is None or seen is None:
        return 1.0
    return mask_area(seen, *size) / max(mask_area(whole, *size), 1)
