"""The fixed parts of SynthCrowd: number and kind of scenes and videos; does not know how they are made."""

from __future__ import annotations

from dataclasses import dataclass

from bmp.errors import UserError
from bmp.synthcrowd.scenes import Settings
from bmp.synthcrowd.videos import VideoSettings


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


@dataclass(frozen=True)
class VideoSplit:
    """A part of the data set that consists of videos.

    Attributes:
        count: number of videos, unless another is given.
        settings: of its videos.
    """

    count: int
    settings: VideoSettings


VIDEO_SPLITS = {
    "video-train": VideoSplit(200, VideoSettings(stream=100)),
    "video-val": VideoSplit(40, VideoSettings(stream=101)),
    "video-test": VideoSplit(40, VideoSettings(stream=102)),
    "video-hard": VideoSplit(
        40,
        VideoSettings(stream=103, people=(4, 7), crossings=1.0, walls=0.6, leaving=0.6, teams=0.7, cuts=0.3, still=0.2),
    ),
}
"""The splits in motion by name. In ``video-hard`` more people cross, disappear and come back, mostly dressed alike."""


def find_split(name: str) -> Split:
    """Return a split of still pictures by its name; ``UserError`` that lists the names if there is none."""
    if name not in SPLITS:
        raise UserError(f"SynthCrowd has no split {name!r}; choose one of {', '.join((*SPLITS, *VIDEO_SPLITS))}")
    return SPLITS[name]


def find_video_split(name: str) -> VideoSplit:
    """Return a split of videos by its name; ``UserError`` that lists the names if there is none."""
    if name not in VIDEO_SPLITS:
        raise UserError(f"SynthCrowd has no split of videos {name!r}; choose one of {', '.join(VIDEO_SPLITS)}")
    return VIDEO_SPLITS[name]
