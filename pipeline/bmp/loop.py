"""The whole algorithm: detect, pose, suppress, segment, paint out, detect again. Knows protocols, not networks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.ops.agreement import with_agreement
from bmp.ops.masks import exclusive, paint_out
from bmp.stages import (
    Detector,
    FeatureDetector,
    ImageEncoder,
    ImageView,
    OverlapRule,
    PaintRule,
    PartParser,
    PoseEstimator,
    Segmenter,
    Suppressor,
)
from bmp.structures import Detections, Image, Instances, Masks, Parts, Poses, is_at_hand
from bmp.structures.mask_windows import MaskWindows

_LOGGER = logging.getLogger(__name__)

STAGES = ("encoder", "detector", "pose", "suppressor", "segmenter: encode", "segmenter: decode")
"""The names under which the work of stages is timed; the redetector counts as the detector."""

Clock = Callable[[str, int], AbstractContextManager[None]]
"""Given a name of ``STAGES``, or "parts", and a number of images: the context in which that stage does its work."""


@dataclass(frozen=True, eq=False)
class RoundTrace:
    """The results of all stages for one image in one round.

    round: from 1. seen: the image as the detector saw it, or without known people where it took them out of features.
    detections, poses: of everybody detected, row by row.
    kept: int64 on the CPU, the people left after suppression: rows among the ``known`` people of earlier rounds,
    followed by the detections. segmented: masks of the new people who survived, before overlaps are resolved, with
    their prompts.
    people: everybody accepted after this round, overlaps resolved.
    """

    round: int
    seen: Image
    detections: Detections
    poses: Poses
    kept: Tensor
    known: int
    segmented: Masks
    people: Instances


@dataclass(frozen=True, eq=False)
class Result:
    """The people of image ``index`` of the batch; ``trace`` is empty unless it was requested.

    image: as the stages had it, by which they know what they remember of it; whoever keeps it keeps that alive. parts:
    of the people's bodies, None where no parser tells them.
    """

    index: int
    people: Instances
    trace: list[RoundTrace]
    image: Image
    parts: Parts | None = None


@dataclass(eq=False)
class ImageState:
    """An image on its way through the rounds.

    index: its position in the batch. people: everybody accepted so far; their masks may overlap until the image is
    finished. seen: with a trace the image as the detector saw it in this round, else None. encoded: the shared encoder
    has its features. view: the segmenter's ``ImageView``, None until a person in the image needs a mask.
    """

    index: int
    image: Image
    people: Instances
    seen: Image | None = None
    encoded: bool = False
    view: ImageView = None
    trace: list[RoundTrace] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Suppressed:
    """The people of an image left by suppression: ``old`` ones of earlier rounds, ``new`` ones with their poses.

    kept: as in ``RoundTrace``.
    """

    kept: Tensor
    old: Instances
    new: Detections
    new_poses: Poses


class WholeMasks:
    """Paints known people out as far as their masks go."""

    def painted(self, people: Instances) -> MaskWindows:
        """Return the masks in windows; see ``bmp.stages.PaintRule``."""
        return people.masks.windows


class BestMask:
    """Gives each pixel to the mask of highest predicted IoU, whichever round it is of; of equals to the first."""

    def resolve(self, masks: Masks, rounds: Tensor) -> MaskWindows:
        """Return the masks in windows; see ``bmp.stages.OverlapRule``."""
        return exclusive(masks.windows, masks.scores)


@contextmanager
def log_time(stage: str, images: int) -> Iterator[None]:
    """Log how long a stage took; on a GPU that is until it handed its work over, which may be going on."""
    start = time.perf_counter()
    yield
    _LOGGER.debug("%s: %d images in %.3f s", stage, images, time.perf_counter() - start)


class Loop:
    """The loop over the rounds, built from any stages that fit the protocols of ``bmp.stages``.

    Examples:
        >>> from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, scene
        >>> loop = Loop(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll(), rounds=2)
        >>> image = scene((0, 0, 20, 40), (10, 10, 16, 16))  # the second square stands before the first
        >>> [result.people.round.tolist() for result in loop.run([image])]
        [[1, 2]]

    Args:
        detector: finds people in round 1, and in later rounds unless there is a ``redetector``.
        pose: gives them skeletons.
        segmenter: gives them masks, guided by the skeletons.
        suppressor: drops duplicates among the people of all rounds.
        redetector: finds people in the images of later rounds, in which everybody known is painted black; a
            ``FeatureDetector`` gets the images and what would be painted instead.
        overlaps: decides who has the pixels that several masks claim; None for ``BestMask``.
        paint: decides which pixels of the people known so far later rounds do not see; None for ``WholeMasks``.
        encoder: the image encoder that stages share, if they do; its time then is a line of its own and not that of
            the stage that asks it first. Who shares it is the stages' own affair.
        parts: tells the parts of bodies when the loop has finished with an image; None for none, at no cost.
        rounds: the greatest number of rounds, at least 1.
        repose: estimate the poses of a round's new people once more, conditioned on the segmenter's masks.
        device: where images and people are kept between stages.

    Attributes:
        clock: times each call of a stage; ``log_time`` by default.
    """

    clock: Clock = staticmethod(log_time)

    def __init__(
        self,
        detector: Detector,
        pose: PoseEstimator,
        segmenter: Segmenter,
        suppressor: Suppressor,
        *,
        redetector: Detector | None = None,
        overlaps: OverlapRule | None = None,
        paint: PaintRule | None = None,
        encoder: ImageEncoder | None = None,
        parts: PartParser | None = None,
        rounds: int = 2,
        repose: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        checked_rounds(rounds)
        self.detector = detector
        self.redetector = redetector or detector
        self.pose = pose
        self.segmenter = segmenter
        self.suppressor = suppressor
        self.overlaps = overlaps or BestMask()
        self.paint = paint or WholeMasks()
        self.encoder = encoder
        self.parts = parts
        self.rounds = rounds
        self.repose = repose
        self.device = device

    def run(
        self,
        images: Sequence[Image],
        boxes: Sequence[Detections | None] | None = None,
        trace: bool = False,
        *,
        only_given: bool = False,
        rounds: int | None = None,
    ) -> Iterator[Result]:
        """Send a batch of images through the loop together; each leaves as soon as it is finished.

        Images leave in any order; no image is missing and none comes twice.

        Args:
            images: the batch.
            boxes: each image's people in place of round 1's detections; None for an image in which people are to be
                detected. Later rounds look for further people in any case.
            trace: keep the input and output of every stage of every round.
            only_given: an image with ``boxes`` is finished after round 1: the loop looks for no further people.
            rounds: the greatest number of rounds, in place of the loop's own.
        """
        rounds = self.rounds if rounds is None else checked_rounds(rounds)
        states = [
            ImageState(index, image.to(self.device), Instances.empty(image, len(self.pose.keypoints), self.device))
            for index, image in enumerate(images)
        ]
        for number in range(1, rounds + 1):
            unfinished = self._round(number, states, boxes if number == 1 else None, trace)
            if only_given and boxes is not None:
                unfinished = [state for state in unfinished if boxes[state.index] is None]
            yield from (self._finish(state) for state in states if state not in unfinished)
            states = unfinished
            if not states:
                return
        yield from map(self._finish, states)

    def _round(
        self, number: int, states: list[ImageState], boxes: Sequence[Detections | None] | None, trace: bool
    ) -> list[ImageState]:
        """Do one round; return the images with new people: only there can another round find more."""
        found = self._detect(states, boxes) if number == 1 else self._redetect(states, trace)
        self._encode([state for state, people in zip(states, found, strict=True) if len(people)])
        poses = self._estimate(states, found)
        with self.clock("suppressor", len(states)):
            left = [self._suppress(*image) for image in zip(states, found, poses, strict=True)]
        segmented = self._segment(states, left)
        if self.repose:
            left = self._repose(number, states, left, segmented)
        for i, state in enumerate(states):
            known, new = len(state.people), left[i].new
            rounds = torch.full((len(new),), number, dtype=torch.int64, device=self.device)
            state.people = Instances.concat([left[i].old, Instances(new, left[i].new_poses, segmented[i], rounds)])
            if trace:
                # A copy: stages keep results as long as the image lives, and a trace may live longer.
                view = (replace(state.seen or state.image), found[i], poses[i], left[i].kept, known, segmented[i])
                state.trace.append(RoundTrace(number, *view, self._resolved(state.people)))
        return [state for state, each in zip(states, left, strict=True) if len(each.new)]

    def _detect(self, states: list[ImageState], boxes: Sequence[Detections | None] | None) -> list[Detections]:
        """Find the people of each image that has no ``boxes``, in round 1."""
        given = [None] * len(states) if boxes is None else boxes
        unknown = [state for state, rows in zip(states, given, strict=True) if rows is None]
        if isinstance(self.detector, FeatureDetector):
            self._encode(unknown)
        with self.clock("detector", len(unknown)):
            found = iter(self.detector.detect([state.image for state in unknown]) if unknown else [])
        return [(next(found) if rows is None else rows).to(self.device) for rows in given]

    def _redetect(self, states: list[ImageState], trace: bool) -> list[Detections]:
        """Find further people, in later rounds; what is painted out is worked out once, for detector and trace."""
        images = [state.image for state in states]
        with self.clock("detector", len(states)):
            known = [self.paint.painted(state.people) for state in states]
            if isinstance(self.redetector, FeatureDetector):
                found = self.redetector.detect_further(images, known)
                painted = list(map(paint_out, images, known)) if trace else []
            else:
                painted = list(map(paint_out, images, known))
                found = self.redetector.detect(painted)
        if trace:
            for state, image in zip(states, painted, strict=True):
                state.seen = image
        return [people.to(self.device) for people in found]

    def _encode(self, states: list[ImageState]) -> None:
        """Let the shared encoder, if there is one, see images that it has not seen."""
        new = [state for state in states if not state.encoded]
        if self.encoder is None or not new:
            return
        with self.clock("encoder", len(new)):
            self.encoder.levels([state.image for state in new])
        for state in new:
            state.encoded = True

    def _estimate(self, states: list[ImageState], people: list[Detections]) -> list[Poses]:
        """Give ``people`` their poses, on the original images."""
        with self.clock("pose", len(states)):
            found = self.pose.estimate([state.image for state in states], people)
        return [poses.to(self.device) for poses in found]

    def _suppress(self, state: ImageState, found: Detections, poses: Poses) -> _Suppressed:
        """Drop duplicates among the people of earlier rounds and those found now."""
        everybody = Detections.concat([state.people.detections, found])
        kept = self.suppressor.keep(everybody, Poses.concat([state.people.poses, poses])).cpu()
        known = len(state.people)
        rows = kept[kept >= known] - known
        return _Suppressed(kept, state.people[kept[kept < known]], found[rows], poses[rows])

    def _segment(self, states: list[ImageState], left: list[_Suppressed]) -> list[Masks]:
        """Give new people their masks; an image is opened when the first of its people needs one."""
        masks = [Masks.empty(state.image.height, state.image.width, self.device) for state in states]
        busy = [i for i, each in enumerate(left) if len(each.new)]
        unopened = [states[i] for i in busy if states[i].view is None]
        with self.clock("segmenter: encode", len(unopened)):
            views = self.segmenter.open([state.image for state in unopened])
        for state, view in zip(unopened, views, strict=True):
            state.view = view
        with self.clock("segmenter: decode", len(busy)):
            segmented = self.segmenter.segment(
                [states[i].view for i in busy],
                [left[i].new for i in busy],
                [left[i].new_poses for i in busy],
                [left[i].old.poses for i in busy],
            )
        for i, mask in zip(busy, segmented, strict=True):
            masks[i] = mask.to(self.device)
        return masks

    def _repose(
        self, number: int, states: list[ImageState], left: list[_Suppressed], segmented: list[Masks]
    ) -> list[_Suppressed]:
        """Estimate the poses of new people once more, conditioned on their masks without what belongs to others."""
        busy = [i for i, each in enumerate(left) if len(each.new)]
        refined = []
        for i in busy:
            old, new = left[i].old, left[i].new
            rounds = torch.cat([old.round, torch.full((len(new),), number, device=self.device)])
            bits = self.overlaps.resolve(Masks.concat([old.masks, segmented[i]]), rounds)
            refined.append(new.replaced(masks=bits[len(old) :]))
        again = list(left)
        for i, poses in zip(busy, self._estimate([states[i] for i in busy], refined), strict=True):
            again[i] = replace(left[i], new_poses=poses)
        return again

    def _resolved(self, people: Instances) -> Instances:
        """Give each pixel to one mask, always from the masks as they were segmented, never from an earlier result.

        So a person who is later found to be a duplicate gives back the pixels that were taken from others.
        """
        bits = self.overlaps.resolve(people.masks, people.round)
        return people.replaced(masks=people.masks.replaced(bits=bits))

    def _finish(self, state: ImageState) -> Result:
        people = with_agreement(self._resolved(state.people))
        if not is_at_hand(people.device):  # else each record was checked when it was made
            people.check_values()
        return Result(state.index, people, state.trace, state.image, self.parse(state.image, people))

    def parse(self, image: Image, people: Instances) -> Parts | None:
        """Tell the parts of people whom this loop has found in ``image``; None without a parser."""
        if self.parts is None:
            return None
        with self.clock("parts", 1):
            return self.parts.parse([image], [people])[0]


def checked_rounds(rounds: int) -> int:
    """Return a number of rounds; ``UserError`` for what is none."""
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise UserError(f"rounds: expected a whole number, at least 1, got {rounds!r}")
    return rounds
