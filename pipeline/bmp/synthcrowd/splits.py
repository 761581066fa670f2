"""The fixed parts of SynthCrowd: the number and the kind of their scenes; does not know how they are made."""

from __future__ import annotations

from dataclasses import dataclass

from bmp.errors import UserError
from bmp.synthcrowd.scenes import Settings


@dataclass(frozen=True)
class Split:
    """A part of the data set.

    Attributes:
        count: number of scenes, unless another is given.
        settings: of its scenes.
    """

    count: int
    settings: Settings


_HARD = Settings(stream=3, people=(2, 5), pairs=1.0, pair_iou=(0.501, 0.9), heights=(90.0, 300.0), teams=0.4)
# Of the heights of people who join a pair up to eight per cent go off again: nobody is below 160 pixels.
_CLEAR = Settings(
    stream=4,
    people=(2, 3),
    pairs=1.0,
    pair_iou=(0.501, 0.65),
    heights=(175.0, 290.0),
    pair_visible=0.5,
    min_visible=0.5,
    truncation=0.0,
    teams=0.05,
)

SPLITS = {
    "train": Split(8000, Settings(stream=0, people=(1, 7), empty=0.03, min_visible=0.1)),
    "val": Split(500, Settings(stream=1)),
    "test": Split(500, Settings(stream=2)),
    "test-hard": Split(500, _HARD),
    "test-clear": Split(500, _CLEAR),
}
"""Every split by name. ``test-hard`` and ``test-clear`` have a pair with boxes of IoU above 0.5 in every scene."""


def find_split(name: str) -> Split:
    """Return a split by its name; ``UserError`` that lists the names if there is none."""
    if name not in SPLITS:
        raise UserError(f"SynthCrowd has no split {name!r}; choose one of {', '.join(SPLITS)}")
    return SPLITS[name]
