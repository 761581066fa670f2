"""Writes part maps as PNG: labels and people's numbers, and the folders of CIHP's submissions. Knows no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from bmp.label_sets.part_sets import PartSet
from bmp.structures import Parts

LABELS, NUMBERS = "parts", "people_ids"
"""Folders of label maps, and of the numbers of people, from 1, as they stand in people.json."""
GLOBAL, BY_PART, BY_PERSON = "global_parsing", "instance_parsing", "instance_segmentation"
"""Folders of CIHP's submissions."""


def label_picture(labels: NDArray[np.uint8], label_set: PartSet) -> PIL.Image.Image:
    """Return a palette picture whose pixels are labels, (H, W)."""
    picture = PIL.Image.fromarray(labels)
    picture.putpalette([value for colour in label_set.palette() for value in colour])
    return picture


def number_picture(numbers: NDArray[np.int32]) -> PIL.Image.Image:
    """Return a grey picture whose pixels are numbers, (H, W): of 8 bits, or of 16 where one is beyond 255.

    Raises ``ValueError`` for numbers beyond 65535.
    """
    most = int(numbers.max(initial=0))
    if most > 65535:
        raise ValueError(f"a PNG has numbers up to 65535, got {most}")
    return PIL.Image.fromarray(numbers.astype(np.uint8 if most < 256 else np.uint16))


def part_pictures(name: str, parts: Parts) -> Iterator[tuple[str, PIL.Image.Image]]:
    """Yield the pictures of an image called ``name``, each with the path of its file."""
    file = name if name.lower().endswith(".png") else f"{name}.png"
    yield f"{LABELS}/{file}", label_picture(parts.labels.cpu().numpy(), parts.label_set)
    yield f"{NUMBERS}/{file}", number_picture(parts.owners.cpu().numpy())


def cihp_id(name: str) -> str:
    """Return what CIHP calls an image of that name: its last part without the ending.

    Examples:
        >>> cihp_id("val/0000123.jpg")
        '0000123'
    """
    return PurePosixPath(name).stem


def cihp_submission(name: str, parts: Parts, scores: list[float]) -> Iterator[tuple[str, PIL.Image.Image | str]]:
    """Yield the files of CIHP's submission for an image, pictures and lists, each with its path.

    ``instance_parsing`` numbers the parts of all people from 1, and its list has a line "label score" for each;
    ``instance_segmentation`` numbers the people, and its list has a line "1 score" for each.

    Args:
        name: of the image.
        parts: with CIHP's labels.
        scores: of the people, in [0, 1].
    """
    number, count = cihp_id(name), len(parts.label_set)
    labels, owners = parts.labels.cpu().numpy(), parts.owners.cpu().numpy()
    codes = np.where(labels > 0, owners * count + labels, 0)
    known = np.unique(codes[codes > 0])
    lines = [f"{code % count} {float(parts.scores[code // count - 1, code % count]):.6f}" for code in known.tolist()]
    by_part = np.where(codes > 0, np.searchsorted(known, codes) + 1, 0).astype(np.int32)
    yield f"{GLOBAL}/{number}.png", label_picture(labels, parts.label_set)
    yield f"{BY_PART}/{number}.png", number_picture(by_part)
    yield f"{BY_PART}/{number}.txt", "".join(f"{line}\n" for line in lines)
    yield f"{BY_PERSON}/{number}.png", number_picture(owners)
    yield f"{BY_PERSON}/{number}.txt", "".join(f"1 {score:.6f}\n" for score in scores)
