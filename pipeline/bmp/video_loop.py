"""The loop over a video: follow points, draw masks, look again now and then, keep identities. Knows protocols only.

Beside ``bmp.loop``, which it uses as a part: on some frames that loop looks for people as if the frame were a photo.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.loop import Loop
from bmp.ops.agreement import with_agreement
from bmp.stages import ImageView, PointTracker, RememberingPrompter, Segmenter, TrackPrompter
from bmp.structures import Detections, Frame, Image, Instances, Masks, Poses, TrackedFrame, TrackedPeople
from bmp.tracking.appearance import looks_of
from bmp.tracking.identities import Identities, RetiredPeople
from bmp.tracking.motion import follow, moved_masks
from bmp.tracking.scene_cuts import Scene, is_cut, scene_of
from bmp.tracking.table import (
    can_be_followed,
    doubtful,
    newcomers,
    nobody,
    renewed,
    settled,
    with_bits,
    with_masks,
    with_points,
)

_REST = 3  # frames after a detection in which doubts do not lead to another
_SEARCHING = 2  # times as often people are looked for while somebody is lost
_FAILED, _COUNTED = 0.8, 10  # share of points that fail together at a cut, of so many at least
_LUMA, _OVERLAP = 10.0, 0.9  # what then has to differ: points fail as well where the only person is hidden at once


@dataclass(eq=False)
class VideoState:
    """What is kept from frame to frame; it does not grow with the length of the video.

    people: followed, those who are lost included. retired: followed no more. next_id: of the next newcomer.
    since_detection, since_masks: frames since people were looked for, and since masks were drawn. previous: the frame
    before, None at the beginning. scene: what it looked like. memory: the tracker's own. handed: the newest frame that
    the tracker has. looks: how people looked, for prompts that remember it; None for others.
    """

    people: TrackedPeople
    retired: RetiredPeople
    next_id: int = 1
    since_detection: int = 0
    since_masks: int = 0
    previous: Image | None = None
    scene: Scene | None = None
    memory: Any = None
    handed: Image | None = None
    looks: RememberingPrompter | None = None


class VideoLoop:
    """Follows people through a video, built from any parts that fit the protocols of ``bmp.stages``.

    For each frame:

    1. Everybody's points are followed from the frame before; where the scene changes, everybody is retired.
    2. People with at least three points that can be seen get a mask, all of them at once on one embedding. One that two
       of them get stays with the one who was there.
    3. Every so many frames, twice as often while somebody is lost, and where something is doubtful, the image loop
       finds people as in a photo. Those who were followed are matched with them and get new poses, masks and points;
       the others found are new.
    4. Somebody without a mask is lost, and after a while retired.

    Examples:
        >>> from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, scene
        >>> from track_fakes import FakeTracker, TrackedKeypoints
        >>> loop = Loop(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())
        >>> film = [Frame(i, i / 25, scene((10 + i, 10, 30 + i, 40))) for i in range(3)]
        >>> for found in VideoLoop(FakeTracker({0: (1, 0)}), TrackedKeypoints()).run(loop, film):
        ...     print(found.people.ids.tolist(), found.people.instances.detections.boxes.tolist())
        [1] [[10.0, 10.0, 30.0, 40.0]]
        [1] [[11.0, 10.0, 31.0, 40.0]]
        [1] [[12.0, 10.0, 32.0, 40.0]]

    Args:
        tracker: follows points from frame to frame.
        prompts: turns a person's points into a mask.
        identities: the rules by which people are who they were; None for ``Identities()``.
        keyframe_every: people are looked for at least every so many frames.
        mask_every: masks are drawn every so many frames, and between them moved as the points move.
        rounds: of the image loop on such frames.
        patience: frames after which somebody who is lost is retired.
        max_unmatched: detections in a row that did not find somebody who is followed, after which they are retired.
        points: joints and points of the surface of each person that are followed, together.
        min_mask_score: predicted IoU from which a mask counts.
        seed: of the choice of points; the same film and seed give the same result.

    Raises:
        UserError: for values that make no sense.
    """

    def __init__(
        self,
        tracker: PointTracker,
        prompts: TrackPrompter,
        identities: Identities | None = None,
        *,
        keyframe_every: int = 6,
        mask_every: int = 1,
        rounds: int = 1,
        patience: int = 24,
        max_unmatched: int = 2,
        points: int = 16,
        min_mask_score: float = 0.5,
        seed: int = 0,
    ) -> None:
        least = {"keyframe_every": 1, "mask_every": 1, "rounds": 1, "patience": 0, "max_unmatched": 1, "points": 3}
        given = dict(zip(least, (keyframe_every, mask_every, rounds, patience, max_unmatched, points), strict=True))
        for name, value in given.items():
            if value < least[name]:
                raise UserError(f"video.{name}: expected at least {least[name]}, got {value}")
        if not 0 <= min_mask_score <= 1:
            raise UserError(f"video.min_mask_score: expected a number from 0 to 1, got {min_mask_score}")
        self.tracker = tracker
        self.prompts = prompts
        self.identities = identities or Identities()
        self.keyframe_every = keyframe_every
        self.mask_every = mask_every
        self.rounds = rounds
        self.patience = patience
        self.max_unmatched = max_unmatched
        self.points = points
        self.min_mask_score = min_mask_score
        self.seed = seed

    def run(self, loop: Loop, frames: Iterable[Frame], state: VideoState | None = None) -> Iterator[TrackedFrame]:
        """Follow people through frames, in order, and yield each frame as soon as it is done.

        Args:
            loop: the image loop.
            frames: of one video; some may be missing.
            state: where an earlier run stopped; None for the beginning.
        """
        state = self.begin(loop) if state is None else state
        for frame, ahead in self.with_ahead(frames):
            yield self.step(loop, state, frame, ahead)

    def with_ahead(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, list[Frame]]]:
        """Yield each frame with those that follow it, as many as the tracker is late; fewer at the end."""
        held: deque[Frame] = deque()
        for frame in frames:
            held.append(frame)
            if len(held) > self.tracker.delay:
                yield held.popleft(), list(held)
        while held:
            yield held.popleft(), list(held)

    def begin(self, loop: Loop) -> VideoState:
        """Return the state before the first frame."""
        state = VideoState(nobody(1, 1, len(loop.pose.keypoints), self.points, loop.device), RetiredPeople.empty())
        state.looks = self._no_looks()
        return state

    def resume(self, loop: Loop, state: VideoState, image: Image, ahead: Sequence[Frame] = ()) -> None:
        """Go on after the frame ``image``: what is not in the table of people is begun anew from it."""
        state.previous, state.scene, state.looks = image, scene_of(image), self._no_looks()
        self._start(state, image, ahead)
        self._remember(state, _EncodedOnce(loop.segmenter, image), state.people.present)

    def _no_looks(self) -> RememberingPrompter | None:
        return self.prompts.fresh() if isinstance(self.prompts, RememberingPrompter) else None

    def _remember(self, state: VideoState, segmenter: _EncodedOnce, found: Tensor) -> None:
        """Tell prompts that remember it how people look in this frame; found: bool (N,), whose masks are right."""
        if state.looks is not None and len(state.people):
            state.looks.remember(segmenter.whole, segmenter.view, state.people, found)

    def step(self, loop: Loop, state: VideoState, frame: Frame, ahead: Sequence[Frame] = ()) -> TrackedFrame:
        """Follow people into the next frame; ``state`` is brought up to date.

        ahead: the frames after it, as ``with_ahead`` gives them, for a tracker that answers late.
        """
        image, scene = frame.image.to(loop.device), scene_of(frame.image)
        cut = state.scene is not None and (
            is_cut(state.scene, scene)
            or (self._follow(loop, state, image, ahead) and is_cut(state.scene, scene, luma=_LUMA, overlap=_OVERLAP))
        )
        first = cut or state.previous is None
        if first:
            self._retire(state, torch.ones(len(state.people), dtype=torch.bool, device=loop.device))
            state.people = self._nobody(loop, image)
            self._start(state, image, ahead)
        segmenter = _EncodedOnce(loop.segmenter, image)
        # Whoever is lost may come out from behind the others at any time.
        rhythm = self.keyframe_every if bool(state.people.present.all()) else -(-self.keyframe_every // _SEARCHING)
        detected = first or state.since_detection >= rhythm
        if detected or state.since_masks >= self.mask_every:
            self._draw(loop, state, segmenter)
        if detected or (state.since_detection >= _REST and bool(doubtful(state.people).any())):
            detected = True
            self._look(loop, state, segmenter, frame)
        state.people = settled(state.people)
        self._retire(state, (state.people.missed > self.patience) | (state.people.unmatched >= self.max_unmatched))
        state.since_detection, state.since_masks = state.since_detection + 1, state.since_masks + 1
        state.previous, state.scene = image, scene
        present = state.people[state.people.present]
        present = present[present.ids.argsort()]
        present = replace(present, instances=with_agreement(present.instances))
        return TrackedFrame(replace(frame, image=image), present, cut, detected)

    def _start(self, state: VideoState, image: Image, ahead: Sequence[Frame]) -> None:
        """Begin a scene with the frame ``image``: a tracker that answers late is handed those after it, too."""
        state.memory, state.handed = self.tracker.start(image), image
        for late in range(1, self.tracker.delay + 1):
            self._hand(state, _newest(image, ahead[:late]), image.pixels.new_zeros(0, 2, dtype=torch.float32))

    def _hand(self, state: VideoState, newest: Image | None, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Let the tracker step to the frame ``newest``, or stay at the last one of the scene."""
        assert state.handed is not None  # a scene begins with a frame
        previous, newest = state.handed, newest or state.handed
        state.handed = newest
        return self.tracker.step(state.memory, previous, newest, points)

    def _follow(self, loop: Loop, state: VideoState, image: Image, ahead: Sequence[Frame]) -> bool:
        """Bring everybody's points, poses and masks into this frame; say whether most points failed all at once."""
        people = replace(state.people, age=state.people.age + 1)
        newest = _newest(image, ahead[: self.tracker.delay]) if self.tracker.delay else image
        found, seen, _ = self._hand(state, newest, people.points.reshape(-1, 2))
        seen = seen.reshape(people.seen.shape) & (people.seen | self.tracker.recovers)
        moved = follow(
            people, found.reshape(people.points.shape), seen, loop.pose.keypoints, image, recovers=self.tracker.recovers
        )
        state.people = self._shared_out(loop, moved)
        known = int(people.seen.sum())
        return known >= _COUNTED and int((people.seen & ~seen).sum()) >= _FAILED * known

    def _draw(self, loop: Loop, state: VideoState, segmenter: _EncodedOnce) -> None:
        """Give people who can be seen masks by their points, in place of those that only moved with them."""
        state.since_masks = 0
        rows = can_be_followed(state.people).nonzero()[:, 0]
        if len(rows):
            prompts = state.looks or self.prompts
            masks = prompts.prompted_masks(segmenter.whole, segmenter.view, state.people[rows]).to(loop.device)
            # Two on one body would take it from each other in turns.
            slipped = self.identities.slipped(state.people[rows], masks.bits).to(loop.device)
            masks = replace(masks, bits=masks.bits & ~slipped[:, None, None])
            people = with_masks(state.people, rows, masks, self.min_mask_score)
            state.people = self._shared_out(loop, people)

    def _look(self, loop: Loop, state: VideoState, segmenter: _EncodedOnce, frame: Frame) -> None:
        """Find people as in a photo, and tell who of them is whom, and who is new."""
        state.since_detection = 0
        people, keypoints = state.people, loop.pose.keypoints
        photo = copy.copy(loop)
        photo.segmenter, photo.parts = segmenter, None
        (result,) = photo.run([segmenter.image], rounds=self.rounds)
        # What the agreement is said of, masks and poses, will have moved by the time that it is asked for.
        found = replace(result.people, agreement=None)[result.people.masks.bits.flatten(1).any(dim=1)]
        looks = looks_of(segmenter.image, found, keypoints).to(loop.device)
        sigmas = torch.tensor(keypoints.sigmas, device=loop.device)
        rows = self.identities.match(people, found, looks, sigmas).to(loop.device)
        same, unmatched = rows >= 0, torch.ones(len(people), dtype=torch.bool, device=loop.device)
        unmatched[rows[same]] = False
        # Somebody found who is like somebody in the frame is that person once more, and nobody new; and somebody
        # followed who is like another who was found has slipped onto the other.
        known = Instances.concat([people.instances[people.present & unmatched], found[same]])
        new = ~same & ~self.identities.duplicates(found, known, sigmas).to(loop.device)
        slipped = self.identities.duplicates(people.instances, found[same], sigmas).to(loop.device)
        # Of those who are lost nothing was to be found, perhaps: their patience decides.
        missing = people.unmatched + people.present.long()
        others = replace(people, unmatched=missing, drawn=people.drawn & ~slipped[:, None, None])[unmatched]
        ids = self._ids(state, looks[new]).to(loop.device)
        fresh = TrackedPeople.concat(
            [renewed(people[rows[same]], found[same], looks[same]), newcomers(ids, found[new], looks[new], self.points)]
        )
        seed = self.seed, frame.index
        fresh = with_points(fresh, others.instances.masks.bits.any(dim=0), self.points, seed)
        state.people = TrackedPeople.concat([others, fresh])
        self._remember(state, segmenter, torch.arange(len(state.people), device=loop.device) >= len(others))
        state.people = self._shared_out(loop, state.people)

    def _ids(self, state: VideoState, looks: Tensor) -> Tensor:
        """Return the ids of newcomers with these looks (M, B): new ones, and those of people who come back."""
        back = self.identities.recognise(state.retired, looks)
        ids = torch.arange(state.next_id, state.next_id + len(back))
        ids = torch.where(back < 0, state.next_id + (back < 0).cumsum(0) - 1, ids)
        ids[back >= 0] = state.retired.ids[back[back >= 0]]
        state.next_id += int((back < 0).sum())
        state.retired = state.retired[~torch.isin(state.retired.ids, ids)]
        return ids

    def _shared_out(self, loop: Loop, people: TrackedPeople) -> TrackedPeople:
        """Move masks to where people are, and give each pixel to one of them, as the image loop does."""
        masks = replace(people.instances.masks, bits=moved_masks(people))
        shared_out = masks.replaced(bits=loop.overlaps.resolve(masks, people.instances.round))
        return with_bits(people, shared_out.bits)

    def _retire(self, state: VideoState, rows: Tensor) -> None:
        """Follow some people no more; bool (N,)."""
        state.retired = self.identities.remember(state.retired, state.people[rows])
        state.people = state.people[~rows]

    def _nobody(self, loop: Loop, image: Image) -> TrackedPeople:
        return nobody(image.height, image.width, len(loop.pose.keypoints), self.points, loop.device)


def _newest(image: Image, ahead: Sequence[Frame]) -> Image | None:
    """Return the last of the frames after ``image``; None where there is none, or another scene begins among them."""
    scenes = [scene_of(each) for each in (image, *(frame.image for frame in ahead))]
    if not ahead or any(is_cut(*pair) for pair in itertools.pairwise(scenes)):
        return None
    return ahead[-1].image.to(image.pixels.device)


class _EncodedOnce:
    """A segmenter for one frame, which is encoded when it is first needed, and only then."""

    def __init__(self, segmenter: Segmenter, image: Image) -> None:
        self.whole, self.image = segmenter, image

    @functools.cached_property
    def view(self) -> ImageView:
        return self.whole.open([self.image])[0]

    def open(self, images: Sequence[Image]) -> list[ImageView]:
        return [self.view for _ in images]

    def segment(
        self,
        views: Sequence[ImageView],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        return self.whole.segment(views, people, poses, others)
