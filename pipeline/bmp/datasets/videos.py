"""Videos with ground truth: what every such data set gives, frame by frame. Knows no format, no metric, no network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.structures import Frame


@dataclass(frozen=True, eq=False)
class FrameLabels:
    """Who or what is labelled in a frame.

    ids: int64 (N,), an object's own throughout the video. masks: bool (N, H, W), None where only boxes or poses are
    labelled. void: bool (H, W), pixels that count for nothing; None for none. boxes: float32 (N, 4), xyxy edges in
    pixels. keypoints: float32 (N, K, 3), x, y and COCO's v; None for none. points: float32 (P, 2), true locations of
    points that are followed through the video, of which points_seen, bool (P,), tells those that are visible.
    """

    ids: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_] | None
    boxes: npt.NDArray[np.float32]
    void: npt.NDArray[np.bool_] | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    points: npt.NDArray[np.float32] | None = None
    points_seen: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A frame and what is labelled in it; None where nobody has labelled it."""

    frame: Frame
    labels: FrameLabels | None


class VideoDataset(ABC):
    """A data set of videos; frames are read when they are asked for.

    name: for reports. published: the key of the data set in published numbers, None if there are none. keypoints: what
    those of labels mean. of_people: whether all people are labelled, and nothing else. rate: frames a second, where the
    data set does not say it frame by frame.
    """

    name: str
    published: str | None = None
    keypoints: KeypointSet = COCO_KEYPOINTS
    of_people: bool = True
    rate: float = 25.0

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of videos."""

    @abstractmethod
    def video_name(self, index: int) -> str:
        """Return what video ``index`` is called, a path with forward slashes."""

    @abstractmethod
    def frames(self, index: int) -> Iterator[LabelledFrame]:
        """Yield the frames of video ``index`` in order; ``UserError`` for one that is broken, or whose labels are."""


def boxes_around(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return xyxy edges around masks bool (N, H, W): float32 (N, 4), zeros for empty ones."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for row, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size:
            boxes[row] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes
