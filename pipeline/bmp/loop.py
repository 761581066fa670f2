"""The whole algorithm: detect, pose, suppress, segment, paint out, detect again. Knows protocols, not networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.ops.masks import exclusive, paint_out
from bmp.stages import Detector, ImageView, PoseEstimator, Segmenter, Suppressor
from bmp.structures import Detections, Image, Instances, Masks, Poses


@dataclass(frozen=True, eq=False)
class RoundTrace:
    """What the stages gave one image in one round.

    round: from 1. seen: the image as the detector saw it. detections, poses: of everybody detected, row by row.
    kept: int64, who survived suppression: rows among the ``known`` people of earlier rounds followed by the
    detections. segmented: masks of the new people who survived, before overlaps are resolved, with their prompts.
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
    """What the loop has to say of image ``index`` of the batch; ``trace`` is empty unless it was asked for."""

    index: int
    people: Instances
    trace: list[RoundTrace]


@dataclass(eq=False)
class _Case:
    """An image on its way through the rounds. Masks of ``people`` may overlap until the image is finished.

    The fields without a value at first are the current round's, each set by the stage that makes it.
    """

    index: int
    image: Image
    people: Instances
    view: ImageView = None
    trace: list[RoundTrace] = field(default_factory=list)
    seen: Image = field(init=False)
    found: Detections = field(init=False)  # everybody detected, and below their poses
    poses: Poses = field(init=False)
    kept: Tensor = field(init=False)
    old: Instances = field(init=False)  # those of earlier rounds whom suppression kept
    new: Detections = field(init=False)  # those found now whom it kept, and below their poses and masks
    new_poses: Poses = field(init=False)
    new_masks: Masks = field(init=False)


class Loop:
    """The loop over the rounds, built from any stages that fit the protocols of ``bmp.stages``.

    Args:
        detector: finds people in round 1, and in later rounds unless there is a ``redetector``.
        pose: gives them skeletons.
        segmenter: gives them masks, guided by the skeletons.
        suppressor: drops duplicates among the people of all rounds.
        redetector: finds people in the images of later rounds, in which everybody known is painted black.
        rounds: how often to look at most, at least 1.
        repose: estimate the poses of a round's new people once more, conditioned on the segmenter's masks.
        device: where images and people are kept between stages.
    """

    def __init__(
        self,
        detector: Detector,
        pose: PoseEstimator,
        segmenter: Segmenter,
        suppressor: Suppressor,
        *,
        redetector: Detector | None = None,
        rounds: int = 2,
        repose: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        _checked_rounds(rounds)
        self.detector = detector
        self.redetector = redetector or detector
        self.pose = pose
        self.segmenter = segmenter
        self.suppressor = suppressor
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
            boxes: each image's people in place of round 1's detections; None for an image to be detected in. Later
                rounds look for further people all the same.
            trace: keep what every stage of every round got and gave.
            only_given: an image with ``boxes`` of its own is finished after round 1: nobody else is looked for.
            rounds: how often to look at most, in place of the loop's own number.
        """
        rounds = self.rounds if rounds is None else _checked_rounds(rounds)
        cases = [
            _Case(index, image.to(self.device), Instances.empty(image, len(self.pose.keypoints), self.device))
            for index, image in enumerate(images)
        ]
        for number in range(1, rounds + 1):
            unfinished = self._round(number, cases, boxes if number == 1 else None, trace)
            if only_given and boxes is not None:
                unfinished = [case for case in unfinished if boxes[case.index] is None]
            yield from (self._finish(case) for case in cases if case not in unfinished)
            cases = unfinished
            if not cases:
                return
        yield from map(self._finish, cases)

    def _round(
        self, number: int, cases: list[_Case], boxes: Sequence[Detections | None] | None, trace: bool
    ) -> list[_Case]:
        """Do one round; return the cases in which somebody new was found, since only there looking again can help."""
        for case in cases:
            case.seen = case.image if number == 1 else paint_out(case.image, case.people.masks.bits)
        detector = self.detector if number == 1 else self.redetector
        given = [None] * len(cases) if boxes is None else boxes
        unseen = [case for case, people in zip(cases, given, strict=True) if people is None]
        found = iter(detector.detect([case.seen for case in unseen]) if unseen else [])
        for case, people in zip(cases, given, strict=True):
            case.found = (next(found) if people is None else people).to(self.device)

        for case, poses in zip(cases, self._estimate(cases, [case.found for case in cases]), strict=True):
            case.poses = poses

        for case in cases:
            detections = Detections.concat([case.people.detections, case.found])
            case.kept = self.suppressor.keep(detections, Poses.concat([case.people.poses, case.poses])).to(self.device)
            known = len(case.people)
            rows = case.kept[case.kept >= known] - known
            case.old = case.people[case.kept[case.kept < known]]
            case.new, case.new_poses = case.found[rows], case.poses[rows]
            case.new_masks = Masks.empty(case.image.height, case.image.width, self.device)
        busy = [case for case in cases if len(case.new)]

        self._segment(busy)
        if self.repose:
            everybody = [_resolve(Masks.concat([case.old.masks, case.new_masks])) for case in busy]
            refined = [
                replace(case.new, masks=masks.bits[len(case.old) :])
                for case, masks in zip(busy, everybody, strict=True)
            ]
            for case, poses in zip(busy, self._estimate(busy, refined), strict=True):
                case.new_poses = poses

        for case in cases:
            rounds = torch.full((len(case.new),), number, dtype=torch.int64, device=self.device)
            known = len(case.people)
            fresh = Instances(case.new, case.new_poses, case.new_masks, rounds)
            case.people = Instances.concat([case.old, fresh])
            if trace:
                stages = (case.seen, case.found, case.poses, case.kept, known, case.new_masks)
                case.trace.append(RoundTrace(number, *stages, _resolved(case.people)))
        return busy

    def _estimate(self, cases: list[_Case], people: list[Detections]) -> list[Poses]:
        return [poses.to(self.device) for poses in self.pose.estimate([case.image for case in cases], people)]

    def _segment(self, cases: list[_Case]) -> None:
        """Give the new people of ``cases`` their masks; an image is opened when the first of its people needs one."""
        unopened = [case for case in cases if case.view is None]
        for case, view in zip(unopened, self.segmenter.open([case.image for case in unopened]), strict=True):
            case.view = view
        masks = self.segmenter.segment(
            [case.view for case in cases],
            [case.new for case in cases],
            [case.new_poses for case in cases],
            [case.old.poses for case in cases],
        )
        for case, mask in zip(cases, masks, strict=True):
            case.new_masks = mask.to(self.device)

    def _finish(self, case: _Case) -> Result:
        return Result(case.index, _resolved(case.people), case.trace)


def _checked_rounds(rounds: int) -> int:
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise UserError(f"rounds: expected a whole number, at least 1, got {rounds!r}")
    return rounds


def _resolved(people: Instances) -> Instances:
    return replace(people, masks=_resolve(people.masks))


def _resolve(masks: Masks) -> Masks:
    """Give each pixel to the mask with the highest predicted IoU.

    Always from the masks as they were segmented, never from an earlier answer: a person who is later found to be
    a duplicate gives back what was taken from others.
    """
    return replace(masks, bits=exclusive(masks.bits, masks.scores))
