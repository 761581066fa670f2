"""Reads maps of body parts as data sets publish them, and refuses what is none. Knows no data set by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from bmp.errors import UserError
from bmp.label_sets.part_sets import PartSet
from bmp.structures import Parts

IGNORED = 255
"""The label of pixels that do not count."""

Numbers = npt.NDArray[np.int64]


def number_map(path: Path, height: int, width: int) -> Numbers:
    """Return the numbers of a map, int64 (height, width); of a palette picture its indices, whatever the colours.

    Raises ``UserError`` for files that are missing, broken, of another size, or colour pictures.
    """
    try:
        with PIL.Image.open(path) as picture:
            numbers = np.asarray(picture)
    except Exception as error:  # decoders meet broken data with exceptions of any kind
        missing = isinstance(error, FileNotFoundError)
        reason = "is missing" if missing else f"cannot be read as a picture, {' '.join(str(error).split())}"
        raise UserError(f"{path}: {reason}; extract the archive again") from None
    if numbers.ndim != 2:
        raise UserError(f"{path}: expected a map with one number a pixel, got a colour picture; keep the folders *_ids")
    if numbers.shape != (height, width):
        got = f"{numbers.shape[1]}x{numbers.shape[0]}"
        raise UserError(f"{path}: expected {width}x{height} pixels like its photo, got {got}; extract it again")
    return numbers.astype(np.int64)


def label_map(path: Path, height: int, width: int, label_set: PartSet) -> Numbers:
    """Return a map of labels, ``IGNORED`` among them; ``UserError`` as ``number_map``, and for other numbers."""
    labels = number_map(path, height, width)
    known = labels[labels != IGNORED]
    if known.size and known.max() >= len(label_set):
        raise UserError(
            f"{path}: expected {label_set} from 0 to {len(label_set) - 1}, or {IGNORED} for pixels that do not count, "
            f"got {known.max()}; give the data set's own maps of categories, not pictures of them"
        )
    return labels


def instance_map(path: Path, height: int, width: int, label_set: PartSet) -> tuple[Numbers, Numbers]:
    """Return labels and the numbers of humans from a map that numbers all parts of all people.

    Beside the map lies a text file of its name with a line "number label human" for each part. Raises ``UserError`` as
    ``number_map``, and for lists that are broken or do not have a number of the map.
    """
    numbers = number_map(path, height, width)
    file = path.with_suffix(".txt")
    try:
        rows = [[int(word) for word in line.split()] for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{file}: is missing; extract the archive again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: expected lines of three whole numbers, {error}; extract the archive again") from None
    labels, humans = np.zeros_like(numbers), np.zeros_like(numbers)
    known = {0}
    for row in rows:
        if len(row) != 3 or not 0 < row[1] < len(label_set) or row[2] < 1:
            raise UserError(
                f"{file}: expected lines with the number of a part, its label from 1 to {len(label_set) - 1}, and its "
                f"human from 1, got {' '.join(map(str, row))!r}; extract the archive again"
            )
        own = numbers == row[0]
        labels[own], humans[own] = row[1], row[2]
        known.add(row[0])
    if unknown := sorted(set(np.unique(numbers).tolist()) - known):
        raise UserError(f"{path}: {file.name} has no line for number {unknown[0]}; extract the archive again")
    return labels, humans


def labelled_parts(labels: Numbers, owners: Numbers, people: int, label_set: PartSet) -> Parts:
    """Return maps of ground truth as a record; scores are 1. owners: the row of the person plus 1."""
    return Parts(
        torch.from_numpy(labels.astype(np.uint8)),
        torch.from_numpy(owners.astype(np.int32)),
        torch.ones(people, len(label_set)),
        label_set,
    )
