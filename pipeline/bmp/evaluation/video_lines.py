"""Compares two files of people in a video, a line a frame: what was found with what is true. Knows no picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bmp.datasets.videos import FrameLabels, boxes_around
from bmp.errors import UserError
from bmp.evaluation.metrics.tracks import TrackNumbers
from bmp.evaluation.metrics.video_masks import (
    MOST_PROPOSALS,
    VideoMaskNumbers,
    match_proposals,
    object_quality,
    summarize_objects,
)
from bmp.evaluation.videos import FoundObjects, count_people, whole_tracks
from bmp.io.formats.video_rows import FrameRow, RowsFile
from bmp.io.segmentations import checked_segmentation, to_mask


@dataclass(frozen=True)
class LineNumbers:
    """tracks: identities. masks: J and F of whole tracks, paired as DAVIS does it without given masks."""

    tracks: TrackNumbers
    masks: VideoMaskNumbers | None


def compare_lines(labels: Path, found: Path) -> LineNumbers:
    """Compare the frames that both files have.

    Args:
        labels: a ``.jsonl`` as SynthCrowd's videos have it.
        found: a ``people.jsonl``.

    Raises:
        UserError: a file cannot be read, they have no frame in common, or their masks are of different sizes.
    """
    own = {row["frame"]: row for row in RowsFile(found)()}
    pairs = [(row, own[row["frame"]]) for row in RowsFile(labels)() if row["frame"] in own]
    if not pairs:
        raise UserError(f"{found}: has no frame that {labels} has; name files of the same video")
    size = _size(labels, [row for row, _ in pairs])
    if (other := _size(found, [row for _, row in pairs], size)) != size:
        raise UserError(f"{found}: its masks are {other[1]}x{other[0]}, those of {labels} {size[1]}x{size[0]}")
    known = []
    for truth, answer in pairs:
        masks = _masks(truth, *size)
        marked = FrameLabels(_ids(truth), masks, boxes_around(masks))
        scores = np.array([person.get("score", 1.0) for person in answer["people"]], np.float64)
        known.append((marked, FoundObjects(_ids(answer), _masks(answer, *size), scores)))
    tracks = whole_tracks(known)
    best = (-tracks.scores).argsort(kind="stable")[:MOST_PROPOSALS]
    matched = match_proposals(tracks.ground_truth, tracks.found[best])
    quality = object_quality(tracks.ground_truth, matched, every_frame=True)
    return LineNumbers(count_people(known).numbers, summarize_objects([quality]))


def _size(path: Path, rows: list[FrameRow], usual: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return height and width of the masks in a file; ``usual`` where there is none."""
    for row in rows:
        for person in row["people"]:
            shape = person.get("segmentation")
            if isinstance(shape, dict):
                return shape["size"][0], shape["size"][1]
    if usual is None:
        raise UserError(f"{path}: nobody in it has a mask; name a file with people")
    return usual


def _ids(row: FrameRow) -> np.ndarray:
    return np.array([person["track_id"] for person in row["people"]], np.int64)


def _masks(row: FrameRow, height: int, width: int) -> np.ndarray:
    masks = torch.zeros(len(row["people"]), height, width, dtype=torch.bool)
    for mask, person in zip(masks, row["people"], strict=True):
        mask |= to_mask(checked_segmentation(person.get("segmentation"), height, width), height, width)
    return masks.numpy()
