"""Policies that choose prompts: positive points, negative points and boxes. Knows no segmenter.

A policy sees poses and boxes, not the image: keypoints outside it are prompts like any other, and a segmenter
that cannot use them drops them. The selections are functions of plain tensors, so that training uses them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.ops.boxes import inflate
from bmp.registry import BOX_PROMPTS, NEGATIVES, PROMPTERS
from bmp.structures import Detections, Poses, Prompts

Signal = Literal["visibility", "presence", "expected_oks", "scores"]
"""The number of a pose by which keypoints are ranked (the paper's Table 6)."""


def select_max_visibility(visibility: Tensor, count: int, threshold: float = 0.0) -> Tensor:
    """Choose the most visible keypoints of each person (the paper's MaxVis, §4.3.2).

    Args:
        visibility: (N, K). A keypoint that must not be chosen has a value below ``threshold``, -1 for instance.
        count: how many to choose.
        threshold: keypoints below it are left out.

    Returns:
        int64 (N, count): indices, the most visible first, the lower index in a tie; -1 where no more are left.
    """
    order = visibility.argsort(dim=1, descending=True, stable=True)[:, :count]
    chosen = order.where(visibility.take_along_dim(order, dim=1) >= threshold, -1)
    return pad(chosen, (0, count - chosen.shape[1]), value=-1)


def select_max_spread(
    keypoints: Tensor,
    visibility: Tensor,
    count: int,
    threshold: float,
    *,
    confidence: Tensor | None = None,
    candidate_quantile: float | None = None,
    face: Sequence[int] = (),
) -> Tensor:
    """Choose visible keypoints far from each other (the paper's MaxSpread, §4.3.2).

    Start at the most confident, then again and again take the keypoint whose nearest chosen one is farthest away.

    Args:
        keypoints: (N, K, 2), x and y in pixels.
        visibility: (N, K). A keypoint that must not be chosen has a value below ``threshold``.
        count: how many to choose.
        threshold: keypoints below it are left out.
        confidence: (N, K), ranks keypoints for the start and for ``candidate_quantile``; None for the visibility.
        candidate_quantile: q in [0, 1) lets only the most confident compete at each step, as published code for BMP
            does: of m keypoints above the threshold, chosen ones counted as the least confident, those at or above
            quantile q. None lets all compete, as the paper says.
        face: indices of which only the most visible one takes part.

    Returns:
        int64 (N, count): indices in the order of choice, -1 where no more are left. In a tie the later keypoint
        goes first: an ankle helps more than a nose.
    """
    available = visibility >= threshold
    if face:
        best = visibility[:, list(face)].argmax(dim=1, keepdim=True)
        available[:, list(face)] &= torch.arange(len(face), device=best.device) == best
    confidence = visibility if confidence is None else confidence
    competitors = _competitors(available.sum(dim=1, keepdim=True), candidate_quantile)
    nearest = torch.full_like(visibility, float("inf"))  # distance to the nearest chosen keypoint
    chosen: list[Tensor] = []
    for _ in range(min(count, visibility.shape[1])):
        rest = confidence.where(available, float("-inf"))
        if not chosen:
            pick = _last_argmax(rest)
        else:
            least = rest.sort(dim=1, descending=True).values.take_along_dim(competitors - 1, dim=1)
            pick = _last_argmax(nearest.where(available & (rest >= least), float("-inf")))
        chosen.append(pick.where(available.any(dim=1, keepdim=True), -1))
        available = available.scatter(1, pick, False)
        here = keypoints.take_along_dim(pick[:, :, None], dim=1)
        nearest = nearest.minimum((keypoints - here).norm(dim=2))
    return pad(torch.cat(chosen, dim=1), (0, count - len(chosen)), value=-1)


def _competitors(counts: Tensor, quantile: float | None) -> Tensor:
    """Return how many of the remaining keypoints compete at a step, of ``counts`` (N, 1) at the start; at least 1.

    The quantile lies at position q·(m - 1) of the m sorted values. Chosen ones sit at the lower end, so those at or
    above it are always the same number of the most confident of the rest.
    """
    if quantile is None:
        return counts.clamp(min=1)
    below = (quantile * (counts - 1) - 1e-4).ceil().long()  # 0.8 · 5 is 4, whatever the rounding says
    return (counts - below).clamp(min=1)


def _last_argmax(values: Tensor) -> Tensor:
    """Index of the maximum of each row, (N, 1), the last one in a tie."""
    return values.shape[1] - 1 - values.flip(1).argmax(dim=1, keepdim=True)


class NegativePoints(Protocol):
    """A policy for points that are not on the person."""

    def points(self, people: Detections, poses: Poses, others: Poses, positive: Prompts) -> Prompts:
        """Return the negative points row by row for ``poses`` of ``people``, who are prompted with ``positive``."""
        ...


class BoxPrompt(Protocol):
    """A policy for the box that accompanies the points."""

    def boxes(self, people: Detections) -> Tensor:
        """Return float32 (N, 4), xyxy, which may reach out of the image."""
        ...


@NEGATIVES.register_module()
class LeastVisible:
    """The person's own keypoints of lowest visibility as negative points (supplement, A.1).

    Keypoints that are positive prompts are left out.

    Args:
        count: how many.
        signal: which number of the pose counts as visibility.

    Raises:
        UserError: for a count or signal that makes no sense.
    """

    def __init__(self, count: int = 1, signal: Signal = "visibility") -> None:
        self.count = _check_count(count)
        self.signal = _check_signal(signal)

    def points(self, people: Detections, poses: Poses, others: Poses, positive: Prompts) -> Prompts:
        """Return the points; ``people`` and ``others`` do not matter here."""
        visibility = _values(poses, self.signal)
        # one column more, where padding may point to
        taken = torch.zeros(len(poses), visibility.shape[1] + 1, dtype=torch.bool, device=visibility.device)
        taken = taken.scatter(1, positive.keypoints.where(positive.keypoints >= 0, visibility.shape[1]), True)[:, :-1]
        # the most hidden is the least visible; what is taken falls below the threshold of -1
        hidden = (-visibility).masked_fill(taken, -2.0)
        return _own_points(poses, select_max_visibility(hidden, self.count, threshold=-1.0), label=0)


@NEGATIVES.register_module()
class ClosestOther:
    """The keypoints of other people that lie closest as negative points (supplement, A.1).

    Others are the other new people and those who have a mask already; only their visible keypoints count, since a
    hidden one lies on another person's body.

    Args:
        count: how many.
        threshold: keypoints of others with a signal below it do not count.
        signal: which number of the pose counts as visibility.
        closest_to: "prompts", the nearest positive prompt of the person: its remaining keypoints may be hidden and
            guessed onto the very body that the negative point should exclude. Or "box_center", the middle of the
            person's box, as BBoxMaskPose 2.0.0 has it; in a crowd that may be far from what is seen of the person.

    Raises:
        UserError: for a count, threshold or signal that makes no sense.
    """

    def __init__(
        self,
        count: int = 1,
        threshold: float = 0.3,
        signal: Signal = "visibility",
        closest_to: Literal["prompts", "box_center"] = "prompts",
    ) -> None:
        self.count = _check_count(count)
        self.threshold = check_fraction("threshold", threshold)
        self.signal = _check_signal(signal)
        if closest_to not in ("prompts", "box_center"):
            raise UserError(f"closest_to: expected prompts or box_center, got {closest_to!r}")
        self.closest_to = closest_to

    def points(self, people: Detections, poses: Poses, others: Poses, positive: Prompts) -> Prompts:
        """Return the points: for person i from rows of ``poses`` but i, and from all rows of ``others``."""
        everybody = Poses.concat([poses, others])
        visible = _values(everybody, self.signal) >= self.threshold
        own = torch.arange(len(everybody), device=visible.device) == torch.arange(
            len(poses), device=visible.device
        ).unsqueeze(1)
        usable = (visible & ~own[:, :, None]).flatten(1)  # (N, everybody's keypoints)
        candidates = everybody.keypoints.flatten(0, 1)
        centers = people.boxes.reshape(-1, 2, 2).mean(dim=1, keepdim=True)
        by_prompts = self.closest_to == "prompts"
        # the matrix product that cdist would take for many points loses the pixels of large coordinates
        distances = torch.cdist(
            positive.points if by_prompts else centers, candidates, compute_mode="donot_use_mm_for_euclid_dist"
        )
        if by_prompts:
            distances = distances.masked_fill((positive.labels != 1)[:, :, None], float("inf"))
        distances = distances.amin(dim=1)
        ordered, index = distances.masked_fill(~usable, float("inf")).sort(dim=1, stable=True)
        found = ordered[:, : self.count].isfinite()
        points = candidates[index[:, : self.count]].where(found[:, :, None], 0.0)
        missing = self.count - found.shape[1]
        labels = found.to(torch.int8) - 1
        return Prompts(
            points=pad(points, (0, 0, 0, missing)),
            labels=pad(labels, (0, missing), value=-1),
            keypoints=torch.full((len(poses), self.count), -1, device=points.device),
        )


@BOX_PROMPTS.register_module()
class GivenBox:
    """The person's box as it came from the detector."""

    def boxes(self, people: Detections) -> Tensor:
        """Return the boxes of ``people``."""
        return people.boxes


@BOX_PROMPTS.register_module()
class InflatedBox:
    """The person's box, larger (§4.3.3): how a segmenter bears imprecise boxes.

    Args:
        factor: by how much of its size the box grows in each of the four directions; 0.5 doubles width and height.

    Raises:
        UserError: for a factor below 0.
    """

    def __init__(self, factor: float = 0.5) -> None:
        if factor < 0:
            raise UserError(f"InflatedBox: expected factor >= 0, got {factor}; 0.5 doubles width and height")
        self.factor = factor

    def boxes(self, people: Detections) -> Tensor:
        """Return the enlarged boxes of ``people``."""
        return inflate(people.boxes, self.factor)


@PROMPTERS.register_module()
class MaxVisibility:
    """The keypoints of highest visibility and nothing else: the prompts of SAM-pose2seg (§3.3, §4.3.2).

    Args:
        count: how many positive points.
        threshold: keypoints with a signal below it are left out. By default none is: even a poorly visible person
            gets its best points.
        signal: which number of the pose counts as visibility.
        negative: policy for negative points; None for none.
        box: policy for box prompts; None for none.
        keypoints: the meaning of the poses' keypoints; for ``among`` only.
        among: a set whose keypoints, by meaning, may be positive points, such as COCO's where the poses have further
            ones that the segmenter was not trained with; None for all.

    Raises:
        UserError: for a count, threshold or signal that makes no sense.
    """

    def __init__(
        self,
        count: int = 3,
        threshold: float = 0.0,
        signal: Signal = "visibility",
        negative: NegativePoints | None = None,
        box: BoxPrompt | None = None,
        keypoints: KeypointSet = COCO_KEYPOINTS,
        among: KeypointSet | None = None,
    ) -> None:
        self.count = _check_count(count)
        self.threshold = check_fraction("threshold", threshold)
        self.signal = _check_signal(signal)
        self.negative = negative
        self.box = box
        self.excluded = _excluded(keypoints, among)

    def prompts(self, people: Detections, poses: Poses, others: Poses) -> Prompts:
        """Return ``count`` positive points a person, the best first, then the negative ones, padded with label -1.

        Raises ``UserError`` where the poses lack the signal.
        """
        visibility = _without(_values(poses, self.signal), self.excluded)
        chosen = select_max_visibility(visibility, self.count, self.threshold)
        return _compose(people, poses, others, chosen, self.negative, self.box)


@PROMPTERS.register_module()
class MaxSpread:
    """Visible keypoints far from each other, one of the face at most: the prompts of base SAM 2.1 (§3.3, §4.3.2).

    With annotated keypoints, whose visibility is 0 or 1, ``count=3`` is the paper's choice. The published code for
    BMP is ``candidate_quantile=0.8, ranking="scores"``.

    Args:
        count: how many positive points at most.
        threshold: keypoints with a signal below it are left out; a person may then have no points at all.
        candidate_quantile: lets only the most confident compete, see ``select_max_spread``; None for all.
        signal: which number of the pose counts as visibility.
        ranking: which number says where to start and who competes; None for the same as ``signal``.
        keypoints: the meaning of the poses' keypoints: which ones belong to the face.
        negative: policy for negative points; None for none.
        box: policy for box prompts; None for none.
        among: as for ``MaxVisibility``.

    Raises:
        UserError: for a count, threshold, quantile, signal or ranking that makes no sense.
    """

    def __init__(
        self,
        count: int = 6,
        threshold: float = 0.3,
        candidate_quantile: float | None = None,
        signal: Signal = "visibility",
        ranking: Signal | None = None,
        keypoints: KeypointSet = COCO_KEYPOINTS,
        negative: NegativePoints | None = None,
        box: BoxPrompt | None = None,
        among: KeypointSet | None = None,
    ) -> None:
        self.count = _check_count(count)
        self.threshold = check_fraction("threshold", threshold)
        if candidate_quantile is not None and not 0 <= candidate_quantile < 1:
            raise UserError(f"candidate_quantile: expected None or 0 <= q < 1, got {candidate_quantile}; BMP uses 0.8")
        self.candidate_quantile = candidate_quantile
        self.signal = _check_signal(signal)
        self.ranking = self.signal if ranking is None else _check_signal(ranking)
        self.keypoints = keypoints
        self.excluded = _excluded(keypoints, among)
        self.negative = negative
        self.box = box

    def prompts(self, people: Detections, poses: Poses, others: Poses) -> Prompts:
        """Return up to ``count`` positive points a person in the order of choice, then negative ones, padded with -1.

        Raises ``UserError`` where the poses lack the signal and ``ValueError`` where they have other keypoints.
        """
        if poses.keypoints.shape[1] != len(self.keypoints):
            raise ValueError(
                f"MaxSpread: expected poses of {len(self.keypoints)} keypoints, got {poses.keypoints.shape[1]}; "
                "give MaxSpread the pose estimator's keypoint set"
            )
        chosen = select_max_spread(
            poses.keypoints,
            _without(_values(poses, self.signal), self.excluded),
            self.count,
            self.threshold,
            confidence=_values(poses, self.ranking),
            candidate_quantile=self.candidate_quantile,
            face=self.keypoints.face,
        )
        return _compose(people, poses, others, chosen, self.negative, self.box)


def _compose(
    people: Detections,
    poses: Poses,
    others: Poses,
    chosen: Tensor,
    negative: NegativePoints | None,
    box: BoxPrompt | None,
) -> Prompts:
    """Put positive points, negative points and boxes together."""
    if len(people) != len(poses):
        raise ValueError(
            f"prompts: expected one pose a person, got {len(people)} people and {len(poses)} poses; "
            "index both with the same rows"
        )
    parts = [_own_points(poses, chosen, label=1)]
    if negative is not None:
        parts.append(_with_positive(negative.points(people, poses, others, parts[0]), parts[0]))
    return Prompts(
        points=torch.cat([part.points for part in parts], dim=1),
        labels=torch.cat([part.labels for part in parts], dim=1),
        keypoints=torch.cat([part.keypoints for part in parts], dim=1),
        boxes=None if box is None else box.boxes(people),
    )


def _own_points(poses: Poses, chosen: Tensor, label: int) -> Prompts:
    """Turn indices (N, P) of the person's own keypoints, -1 for none, into points of one label."""
    found = chosen >= 0
    points = poses.keypoints.take_along_dim(chosen.clamp(min=0)[:, :, None], dim=1).where(found[:, :, None], 0.0)
    return Prompts(points=points, labels=torch.where(found, label, -1).to(torch.int8), keypoints=chosen)


def _with_positive(points: Prompts, positive: Prompts) -> Prompts:
    """Keep points of people who have a positive one: nothing but negative points says what not to segment only."""
    keep = (positive.labels == 1).any(dim=1, keepdim=True)
    return Prompts(
        points=points.points.where(keep[:, :, None], 0.0),
        labels=points.labels.where(keep, -1),
        keypoints=points.keypoints.where(keep, -1),
    )


def _values(poses: Poses, signal: Signal) -> Tensor:
    """Return (N, K) of that name."""
    values: Tensor | None = getattr(poses, signal)
    if values is None:
        raise UserError(
            f"signal {signal!r}: this pose estimator gives none; use 'visibility', or a model with that branch (PMPose)"
        )
    return values


def _excluded(keypoints: KeypointSet, among: KeypointSet | None) -> list[int]:
    """Return the keypoints that are not among those of another set, by their meaning."""
    if among is None:
        return []
    return [number for number, meaning in enumerate(keypoints.meanings) if meaning not in among.meanings]


def _without(visibility: Tensor, excluded: Sequence[int]) -> Tensor:
    """Return the visibility with that of excluded keypoints below any threshold."""
    if not excluded:
        return visibility
    return visibility.index_fill(1, torch.tensor(excluded, device=visibility.device), -1.0)


def _check_signal(signal: Signal) -> Signal:
    if signal not in get_args(Signal):
        raise UserError(f"signal: expected one of {', '.join(get_args(Signal))}, got {signal!r}")
    return signal


def _check_count(count: int) -> int:
    if count < 1:
        raise UserError(f"count: expected at least 1 point, got {count}; leave the policy out for none")
    return count


def check_fraction(name: str, value: float) -> float:
    """Return an argument of a policy; ``UserError`` where it is outside [0, 1]."""
    if not 0 <= value <= 1:
        raise UserError(f"{name}: expected a number in [0, 1], got {value}; 0 leaves nothing out")
    return value
