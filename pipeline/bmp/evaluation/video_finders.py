"""Who finds people in videos or follows objects through them, in the form in which ``videos`` measures them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from bmp.datasets.videos import FrameLabels
from bmp.errors import MissingExtraError
from bmp.evaluation.videos import FoundObjects, ObjectFollower, PeopleFinder
from bmp.loop import Loop
from bmp.ops import masks
from bmp.structures import Frame, Instances
from bmp.video_loop import VideoLoop

if TYPE_CHECKING:
    from bmp.sam_pt import SAMPT

_SAME = 0.3  # IoU from which somebody in one frame may be somebody in the next


def by_loop(loop: Loop, video_loop: VideoLoop) -> PeopleFinder:
    """Return the loop over videos as a finder."""

    def find(frames: Iterable[Frame]) -> Iterator[FoundObjects]:
        for tracked in video_loop.run(loop, frames):
            yield _found(tracked.people.ids, tracked.people.instances)

    return find


def by_frames_alone(loop: Loop, rounds: int = 1) -> PeopleFinder:
    """Return a finder that takes each frame for a photo and pairs people with those of the frame before, by masks.

    Whoever is not in a frame comes back as somebody else: the lower bound for identities.
    """

    def find(frames: Iterable[Frame]) -> Iterator[FoundObjects]:
        last = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, 1, dtype=torch.bool)
        count = 0
        for frame in frames:
            people = _photo(loop, frame, rounds)
            bits = people.masks.bits.cpu()
            ids = torch.zeros(len(people), dtype=torch.int64)
            if len(people) and len(last[0]):
                overlap = masks.iou(last[1], bits).numpy()
                for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
                    if overlap[row, column] >= _SAME:
                        ids[column] = last[0][row]
            new = ids == 0
            ids[new] = torch.arange(count + 1, count + 1 + int(new.sum()))
            count += int(new.sum())
            last = ids, bits
            yield _found(ids, people)

    return find


def by_byte_track(loop: Loop, rate: float, rounds: int = 1) -> PeopleFinder:
    """Return a finder that takes each frame for a photo and keeps identities by boxes, as ByteTrack does.

    It is that of the package ``trackers``, an extra for comparison. Whoever it has not confirmed yet is not answered.

    Raises:
        ImportError: the package is not installed.
    """
    try:
        import supervision
        from trackers import ByteTrackTracker
    except ImportError as error:
        raise MissingExtraError("comparing with ByteTrack", "trackers", "dev", error) from error

    def find(frames: Iterable[Frame]) -> Iterator[FoundObjects]:
        # Scores of the detectors here are lower than those its limits are made for.
        tracker: Any = ByteTrackTracker(frame_rate=rate, track_activation_threshold=0.5, high_conf_det_threshold=0.5)
        for frame in frames:
            people = _photo(loop, frame, rounds)
            given = supervision.Detections(
                xyxy=people.detections.boxes.cpu().numpy(),
                confidence=people.detections.scores.cpu().numpy(),
                data={"row": np.arange(len(people))},
            )
            answer = tracker.update(given)
            numbers = [] if answer.tracker_id is None else answer.tracker_id.tolist()
            rows = [int(row) for row in answer.data.get("row", [])]
            kept = [(row, number) for row, number in zip(rows, numbers, strict=True) if number >= 0]
            ids = torch.tensor([number for _, number in kept], dtype=torch.int64)
            yield _found(ids, people[torch.tensor([row for row, _ in kept], dtype=torch.int64)])

    return find


def by_points(sam_pt: SAMPT, joints: bool = False) -> ObjectFollower:
    """Return SAM-PT as a follower of objects whose masks in the first frame are known.

    joints: follow the visible keypoints of each person, which are labelled, before other points of the mask.
    """
    from bmp.sam_pt import Query

    def follow(frames: Sequence[Frame], given: FrameLabels) -> Iterator[FoundObjects]:
        assert given.masks is not None  # measure_objects asks for them
        queries = []
        for row, identity in enumerate(given.ids.tolist()):
            points = None
            if joints and given.keypoints is not None:
                points = torch.from_numpy(given.keypoints[row][given.keypoints[row, :, 2] == 2][:, :2])
                points = points if len(points) else None
            queries.append(Query(identity, frames[0].index, torch.from_numpy(given.masks[row]), points))
        first = frames[0].index

        def film(start: int, end: int | None) -> Sequence[Frame]:
            return frames[start - first : None if end is None else end - first]

        for segmented in sam_pt.run(film, queries, start=first):
            yield FoundObjects(
                segmented.objects.ids.cpu().numpy(),
                segmented.bits.cpu().numpy(),
                segmented.scores.cpu().numpy().astype(np.float64),
            )

    return follow


def _photo(loop: Loop, frame: Frame, rounds: int) -> Instances:
    (result,) = loop.run([frame.image.to(loop.device)], rounds=rounds)
    people = result.people
    return people[people.masks.bits.flatten(1).any(dim=1)]


def _found(ids: torch.Tensor, people: Instances) -> FoundObjects:
    scores = people.detections.scores * people.masks.scores
    return FoundObjects(ids.cpu().numpy(), people.masks.bits.cpu().numpy(), scores.cpu().numpy().astype(np.float64))
