"""Measures whoever finds people in videos, or follows objects through them, against the ground truth.

It knows data sets of videos and metrics; whoever is measured is a function of frames. Everything is counted for one
video at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from bmp.datasets.videos import FrameLabels, LabelledFrame, VideoDataset
from bmp.errors import UserError
from bmp.evaluation.metrics.tracks import TrackCounts, TrackFrame, TrackNumbers, count_tracks
from bmp.evaluation.metrics.video_masks import (
    ObjectQuality,
    SpaceTimeAP,
    SpaceTimeMasks,
    VideoMaskNumbers,
    object_quality,
    space_time_ap,
    summarize_objects,
)
from bmp.ops import boxes, masks
from bmp.stages import PointTracker
from bmp.structures import Frame

if TYPE_CHECKING:
    from bmp.sam_pt import SAMPT, Clicks

POINT_TOLERANCE = 4.0
"""Pixels that a followed point may lie from its true location."""


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """What was found in a frame: ids int64 (N,), masks bool (N, H, W), scores float (N,)."""

    ids: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]


_Item = TypeVar("_Item")
PeopleFinder = Callable[[Iterable[Frame]], Iterable[FoundObjects]]
"""Finds people in the frames of a video, one answer a frame, in order."""
ObjectFollower = Callable[[Sequence[Frame], FrameLabels], Iterable[FoundObjects]]
"""Follows the objects of the first frame, whose labels it is given, through all frames; ids are those of the labels."""


@dataclass(frozen=True)
class Pace:
    """How long it took. frames: how many were read. seconds: that finding or following took, without what it read."""

    frames: int
    seconds: float

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class PeopleNumbers(Pace):
    """How well people were found and kept apart, with the IoU of masks as similarity.

    tracks: identities. masks: AP of whole tracks; None for data sets without masks.
    """

    tracks: TrackNumbers
    masks: SpaceTimeAP | None


@dataclass(frozen=True)
class ObjectNumbers(Pace):
    """How well the objects of first frames were followed; None where there was none."""

    masks: VideoMaskNumbers | None


@dataclass(frozen=True)
class ClickNumbers(Pace):
    """What clicks bring, over all frames of all videos.

    masks: after the clicks; None where nothing is labelled. clicks: corrections in all. untouched: of the objects in
    the frames that follow the first of each, the share that needed none; None where there is nothing to count.
    """

    masks: VideoMaskNumbers | None
    clicks: int
    untouched: float | None


@dataclass(frozen=True)
class PointNumbers:
    """How well points were followed, over all frames behind the first in which each is visible.

    pck: of those that are truly visible the share that was said to be seen, within ``POINT_TOLERANCE`` of the truth.
    precision: the share of points that were said to be seen, that are truly visible and within it. visible: how many
    there were. None where there is nothing to count.
    """

    pck: float | None
    precision: float | None
    visible: int


@dataclass(frozen=True)
class PointCounts:
    """Points over all frames: visible ones, those that were said to be seen, and those of both within tolerance."""

    visible: int = 0
    said: int = 0
    right: int = 0

    def __add__(self, other: PointCounts) -> PointCounts:
        return PointCounts(self.visible + other.visible, self.said + other.said, self.right + other.right)

    @property
    def numbers(self) -> PointNumbers:
        """The shares."""
        return PointNumbers(
            self.right / self.visible if self.visible else None,
            self.right / self.said if self.said else None,
            self.visible,
        )


@dataclass
class Clock:
    """How many items a generator made and how long it took, without whoever uses them."""

    seconds: float = 0.0
    frames: int = field(default=0)

    def timed(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the items, and count them and the time that each took."""
        iterator = iter(items)
        while True:
            started = time.perf_counter()
            item = next(iterator, None)
            self.seconds += time.perf_counter() - started
            if item is None:
                return
            self.frames += 1
            yield item


class PeopleTally:
    """Adds up how well people were found and kept apart, video by video."""

    def __init__(self) -> None:
        self._counts: list[TrackCounts] = []
        self._pairs: list[SpaceTimeMasks] = []

    def add(self, name: str, labelled: Sequence[LabelledFrame], found: Sequence[FoundObjects]) -> TrackNumbers:
        """Compare one answer a frame with the labels of a video, and return this video's own numbers.

        Frames without labels count for nothing; nor does somebody found of whom more than half lies on void pixels.

        Raises:
            UserError: answers that do not fit the frames.
        """
        if len(found) != len(labelled):
            raise UserError(f"{name}: expected {len(labelled)} answers, got {len(found)}")
        known = [
            (one.labels, _counted(answer, one.labels))
            for one, answer in zip(labelled, found, strict=True)
            if one.labels is not None
        ]
        counts = count_people(known)
        self._counts.append(counts)
        if known and all(labels.masks is not None for labels, _ in known):
            self._pairs.append(whole_tracks(known))
        return counts.numbers

    def numbers(self, frames: int, seconds: float) -> PeopleNumbers | None:
        """Return the numbers of all videos, which took so long; None where nobody is labelled."""
        if not any(entry.labelled for entry in self._counts):
            return None
        total = sum(self._counts[1:], self._counts[0])
        return PeopleNumbers(frames, seconds, total.numbers, space_time_ap(self._pairs) if self._pairs else None)


class ObjectTally:
    """Adds up how well objects whose first masks are given were followed. As in DAVIS, the ends do not count.

    every_frame: the first and the last labelled frame of a video count as well.
    """

    def __init__(self, every_frame: bool = False) -> None:
        self._every_frame = every_frame
        self._qualities: list[ObjectQuality] = []

    def add(
        self,
        name: str,
        labelled: Sequence[LabelledFrame],
        found: Sequence[FoundObjects],
        ids: Sequence[int] | None = None,
    ) -> None:
        """Compare one answer a frame with the labels of these objects; None for those of the first frame.

        Raises:
            UserError: answers that do not fit the frames.
        """
        if len(found) != len(labelled):
            raise UserError(f"{name}: expected {len(labelled)} answers, got {len(found)}")
        known = [(one.labels, answer) for one, answer in zip(labelled, found, strict=True) if one.labels is not None]
        if len(known) < (1 if self._every_frame else 3):
            return
        ids = known[0][0].ids.tolist() if ids is None else ids
        truth = np.stack([_of(ids, labels.ids, _masks(labels)) for labels, _ in known], axis=1)
        answers = np.stack([_of(ids, answer.ids, answer.masks) for _, answer in known], axis=1)
        void = np.stack([_void(labels) for labels, _ in known])
        self._qualities.append(object_quality(truth, answers, void, every_frame=self._every_frame))

    def numbers(self, frames: int, seconds: float) -> ObjectNumbers:
        """Return the numbers of all videos, which took so long."""
        return ObjectNumbers(frames, seconds, summarize_objects(self._qualities))


def begun(frames: Sequence[LabelledFrame]) -> Sequence[LabelledFrame]:
    """Return the frames of a video from the first on in which somebody is labelled; none where nobody is."""
    first = next((row for row, one in enumerate(frames) if one.labels is not None and len(one.labels.ids)), len(frames))
    return frames[first:]


def measure_people(
    dataset: VideoDataset, find: PeopleFinder, note: Callable[[TrackNumbers], object] = lambda _: None
) -> PeopleNumbers:
    """Find people in every video and compare them with the labels, as ``PeopleTally`` does.

    ``note`` is given the numbers of each video.

    Raises:
        UserError: no frame is labelled, or an answer does not fit its frame.
    """
    clock, tally = Clock(), PeopleTally()
    for index in range(len(dataset)):
        labelled = list(dataset.frames(index))
        found = list(clock.timed(find(one.frame for one in labelled)))
        note(tally.add(dataset.video_name(index), labelled, found))
    numbers = tally.numbers(clock.frames, clock.seconds)
    if numbers is None:
        raise UserError(f"{dataset.name}: nobody is labelled; choose another data set")
    return numbers


def measure_objects(dataset: VideoDataset, follow: ObjectFollower) -> ObjectNumbers:
    """Follow the objects of each video's first labelled frame, given as its masks, and compare them with the labels.

    As in DAVIS, the first and the last frame do not count. Frames without labels are left out.

    Raises:
        UserError: a data set without masks, or an answer that does not fit its frame.
    """
    clock, tally = Clock(), ObjectTally()
    for index in range(len(dataset)):
        frames = begun(list(dataset.frames(index)))
        if not frames:
            continue
        given = frames[0].labels
        assert given is not None
        if given.masks is None:
            raise UserError(f"{dataset.name}: has no masks to follow; choose another data set")
        found = list(clock.timed(follow([one.frame for one in frames], given)))
        tally.add(dataset.video_name(index), frames, found)
    return tally.numbers(clock.frames, clock.seconds)


def measure_clicks(dataset: VideoDataset, model: SAMPT, clicks: Clicks | None = None) -> ClickNumbers:
    """Let simulated clicks correct the masks of whatever is labelled, which are followed in between; all frames count.

    Raises:
        UserError: a data set without masks, or a tracker that answers late.
    """
    from bmp.sam_pt import interact

    clock, tally, made = Clock(), ObjectTally(every_frame=True), list[int]()
    total = 0
    for index in range(len(dataset)):
        frames = list(dataset.frames(index))
        if any(one.labels is not None and one.labels.masks is None for one in frames):
            raise UserError(f"{dataset.name}: has no masks to click for; choose another data set")
        answers, known = [], set[int]()
        for answer in clock.timed(interact(model, map(_with_truth, frames), clicks)):
            found, counts = answer.segmented, answer.clicks.tolist()
            total += sum(counts)
            for number, count in zip(found.objects.ids.tolist(), counts, strict=True):
                if number in known:
                    made.append(count)
                known.add(number)
            answers.append(
                FoundObjects(found.objects.ids.numpy(), found.bits.numpy(), found.scores.numpy().astype(np.float64))
            )
        tally.add(dataset.video_name(index), frames, answers, sorted(known))
    untouched = sum(count == 0 for count in made) / len(made) if made else None
    masks_found = tally.numbers(clock.frames, clock.seconds).masks
    return ClickNumbers(clock.frames, clock.seconds, masks_found, total, untouched)


def _with_truth(one: LabelledFrame) -> tuple[Frame, dict[int, torch.Tensor] | None]:
    if one.labels is None:
        return one.frame, None
    rows = zip(one.labels.ids.tolist(), torch.from_numpy(_masks(one.labels)), strict=True)
    return one.frame, dict(rows)


def measure_points(dataset: VideoDataset, tracker: PointTracker) -> PointNumbers:
    """Follow the labelled points of every video, each from the first frame in which it is visible.

    Raises:
        UserError: a tracker that answers late, or a data set without points.
    """
    total = PointCounts()
    for index in range(len(dataset)):
        total += follow_points(dataset.name, dataset.frames(index), tracker)
    return total.numbers


def follow_points(name: str, frames: Iterable[LabelledFrame], tracker: PointTracker) -> PointCounts:
    """Follow the labelled points of one video; raises as ``measure_points``, of which it is a part."""
    if tracker.delay:
        raise UserError("points: this tracker answers late; choose one that answers at once")
    visible = right = said = 0
    step = None
    for one in frames:
        labels = one.labels
        if labels is None or labels.points is None or labels.points_seen is None:
            raise UserError(f"{name}: has no points to follow; choose SynthCrowd's videos")
        truth, seen = torch.from_numpy(labels.points), torch.from_numpy(labels.points_seen)
        if step is None:
            state, points, alive = tracker.start(one.frame.image), truth.clone(), seen.clone()
            begun = seen.clone()
        else:
            rows = begun.nonzero()[:, 0]
            moved, found, _ = tracker.step(state, step, one.frame.image, points[rows])
            points[rows] = moved
            alive[rows] = found if tracker.recovers else found & alive[rows]
            near = (points - truth).norm(dim=1) <= POINT_TOLERANCE
            visible += int((begun & seen).sum())
            said += int((begun & alive).sum())
            right += int((begun & seen & alive & near).sum())
            new = seen & ~begun
            points[new], alive[new], begun = truth[new], True, begun | new
        step = one.frame.image
    return PointCounts(visible, said, right)


def count_people(known: Sequence[tuple[FrameLabels, FoundObjects]]) -> TrackCounts:
    """Count identities in one video: what is labelled and what was found in each frame, in order."""
    return count_tracks([_compared(labels, answer) for labels, answer in known])


def _counted(answer: FoundObjects, labels: FrameLabels) -> FoundObjects:
    """Return an answer without what lies mostly on void pixels."""
    if labels.void is None or not len(answer.ids):
        return answer
    areas = answer.masks.sum(axis=(1, 2))
    kept = (answer.masks & labels.void).sum(axis=(1, 2)) <= areas / 2
    return FoundObjects(answer.ids[kept], answer.masks[kept], answer.scores[kept])


def _compared(labels: FrameLabels, answer: FoundObjects) -> TrackFrame:
    found = torch.from_numpy(answer.masks)
    if labels.masks is None:
        similarity = boxes.iou(torch.from_numpy(labels.boxes), masks.to_boxes(found))
    else:
        if len(answer.ids) and answer.masks.shape[1:] != labels.masks.shape[1:]:
            raise UserError(f"expected masks of {labels.masks.shape[1:]} pixels, got {answer.masks.shape[1:]}")
        found = found if len(answer.ids) else torch.zeros(0, *labels.masks.shape[1:], dtype=torch.bool)
        similarity = masks.iou(torch.from_numpy(labels.masks), found)
    return TrackFrame(labels.ids, answer.ids, similarity.numpy().astype(np.float64).clip(0, 1))


def whole_tracks(known: Sequence[tuple[FrameLabels, FoundObjects]]) -> SpaceTimeMasks:
    """Return everybody labelled and everybody found in a video as masks through all its frames."""
    labelled = sorted({identity for labels, _ in known for identity in labels.ids.tolist()})
    found = sorted({identity for _, answer in known for identity in answer.ids.tolist()})
    truth = [_of(labelled, labels.ids, _masks(labels)) for labels, _ in known]
    size = truth[0].shape[1:]
    answers = [
        _of(found, answer.ids, answer.masks if len(answer.ids) else np.zeros((0, *size), np.bool_))
        for _, answer in known
    ]
    scores: dict[int, list[float]] = {identity: [] for identity in found}
    for _, answer in known:
        for identity, score in zip(answer.ids.tolist(), answer.scores.tolist(), strict=True):
            scores[identity].append(score)
    means = np.array([float(np.mean(scores[identity])) for identity in found])
    return SpaceTimeMasks(np.stack(truth, axis=1), np.stack(answers, axis=1), means)


def _of(ids: Sequence[int], own: npt.NDArray[np.int64], bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the masks of these ids, (len(ids), H, W), empty for those that are not among ``own``."""
    rows = {identity: row for row, identity in enumerate(own.tolist())}
    chosen = np.zeros((len(ids), *bits.shape[1:]), np.bool_)
    for row, identity in enumerate(ids):
        if identity in rows:
            chosen[row] = bits[rows[identity]]
    return chosen


def _masks(labels: FrameLabels) -> npt.NDArray[np.bool_]:
    assert labels.masks is not None
    return labels.masks


def _void(labels: FrameLabels) -> npt.NDArray[np.bool_]:
    return np.zeros(_masks(labels).shape[1:], np.bool_) if labels.void is None else labels.void
