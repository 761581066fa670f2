"""The table of people who are followed: who enters it and how its rows change. Knows records, no stage and no file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bmp.ops.masks import to_boxes
from bmp.ops.query_points import NEGATIVE, person_points
from bmp.structures import CONFIRMED, LOST, NEW, Detections, Image, Instances, Masks, TrackedPeople
from bmp.tracking.appearance import LOOK_SIZE

FEWEST_SEEN = 3
"""Points of a person that have to be seen for a mask."""

_CONFIRMED_FROM = 3  # frames
_CHANGE = 2.0  # factor of the area of a mask that is doubtful


def nobody(height: int, width: int, joints: int, points: int, device: torch.device | str) -> TrackedPeople:
    """Return a table of nobody, for frames of that size and for people with so many joints and points."""
    image = Image(torch.zeros(height, width, 3, dtype=torch.uint8))
    return newcomers(
        torch.zeros(0, dtype=torch.int64, device=device),
        Instances.empty(image, joints, device),
        torch.zeros(0, LOOK_SIZE, device=device),
        points,
    )


def newcomers(ids: Tensor, found: Instances, looks: Tensor, points: int) -> TrackedPeople:
    """Return the rows of people who are seen for the first time, without their points.

    ids: int64 (N,). looks: float32 (N, B). points: joints and points of the surface of each person, together.
    """
    count, device = len(ids), ids.device
    size = max(points, found.poses.keypoints.shape[1]) + 1
    none, one = torch.zeros_like(ids), torch.ones_like(ids)
    return TrackedPeople(
        ids=ids,
        instances=_plain(found),
        points=torch.zeros(count, size, 2, device=device),
        kinds=torch.full((count, size), NEGATIVE, device=device),
        seen=torch.zeros(count, size, dtype=torch.bool, device=device),
        state=torch.full_like(ids, NEW),
        age=one,
        missed=none,
        unmatched=none,
        velocity=torch.zeros(count, 2, device=device),
        areas=_areas(found.masks.bits),
        looks=looks,
        drawn=found.masks.bits,
        motion=torch.eye(2, 3, device=device).repeat(count, 1, 1),
    )


def renewed(people: TrackedPeople, found: Instances, looks: Tensor) -> TrackedPeople:
    """Return people as they were found again, row by row, without new points."""
    back = (people.state == LOST)[:, None]
    return replace(
        people,
        instances=_plain(found),
        state=torch.where(people.state == LOST, CONFIRMED, people.state),
        missed=torch.zeros_like(people.missed),
        unmatched=torch.zeros_like(people.unmatched),
        velocity=people.velocity.where(~back, torch.zeros_like(people.velocity)),
        areas=_areas(found.masks.bits),
        looks=looks,
        drawn=found.masks.bits,
        motion=torch.eye(2, 3, device=people.device).repeat(len(people), 1, 1),
    )


def with_points(people: TrackedPeople, others: Tensor, count: int, seed: tuple[int, ...]) -> TrackedPeople:
    """Choose the points by which people are followed from here on.

    others: bool (H, W), pixels of further people, on whom no negative point lies. count: as for ``newcomers``. The
    choice depends on ``seed`` and the ids alone.
    """
    if not len(people):
        return people
    masks, poses = people.instances.masks.bits, people.instances.poses
    visible, everybody = poses.flags() == 2, masks.any(dim=0) | others
    parts = [
        person_points(
            masks[row],
            everybody & ~masks[row],
            poses.keypoints[row],
            visible[row],
            np.random.default_rng([*seed, int(people.ids[row])]),
            count=count,
        )
        for row in range(len(people))
    ]
    points, kinds, seen = (torch.stack(part).to(people.device) for part in zip(*parts, strict=True))
    return replace(people, points=points, kinds=kinds, seen=seen)


def with_masks(people: TrackedPeople, rows: Tensor, masks: Masks, least: float) -> TrackedPeople:
    """Give the people of these rows, int64 (M,), masks that were drawn in this frame; a score below ``least`` is none.

    Their boxes become those of the masks.
    """
    bits = masks.bits & (masks.scores >= least)[:, None, None]
    drawn, motion = people.drawn.clone(), people.motion.clone()
    drawn[rows], motion[rows] = bits, torch.eye(2, 3, device=people.device)
    instances = people.instances
    scores, boxes = instances.masks.scores.clone(), instances.detections.boxes.clone()
    scores[rows] = masks.scores
    there = bits.flatten(1).any(dim=1)
    boxes[rows[there]] = to_boxes(bits[there])
    instances = replace(
        instances,
        detections=replace(instances.detections, boxes=boxes),
        masks=replace(instances.masks, scores=scores),
    )
    return replace(people, instances=instances, drawn=drawn, motion=motion)


def with_bits(people: TrackedPeople, bits: Tensor) -> TrackedPeople:
    """Give people the pixels bool (N, H, W) that are theirs in this frame."""
    instances = people.instances
    return replace(people, instances=replace(instances, masks=replace(instances.masks, bits=bits)))


def settled(people: TrackedPeople) -> TrackedPeople:
    """Say who is in this frame: those with enough points that are seen, and a mask. The others are lost."""
    there = can_be_followed(people) & people.instances.masks.bits.flatten(1).any(dim=1)
    known = (people.state != NEW) | (people.age >= _CONFIRMED_FROM)
    people = replace(
        people,
        state=torch.where(there, torch.where(known, CONFIRMED, NEW), LOST),
        missed=torch.where(there, 0, people.missed + 1),
        seen=people.seen & there[:, None],
        drawn=people.drawn & there[:, None, None],
    )
    return with_bits(people, people.instances.masks.bits & there[:, None, None])


def can_be_followed(people: TrackedPeople) -> Tensor:
    """Say of whom enough points are seen: bool (N,)."""
    return (people.seen & (people.kinds != NEGATIVE)).sum(dim=1) >= FEWEST_SEEN


def doubtful(people: TrackedPeople) -> Tensor:
    """Say who is followed badly: too few points, or a mask that has become much larger or smaller. Bool (N,)."""
    areas = _areas(people.instances.masks.bits)
    changed = (areas > _CHANGE * people.areas) | (_CHANGE * areas < people.areas)
    return (people.state == CONFIRMED) & (changed | ~can_be_followed(people))


def _areas(bits: Tensor) -> Tensor:
    return bits.flatten(1).sum(dim=1).float()


def _plain(found: Instances) -> Instances:
    """Return people without what only the image loop needs: the detector's masks and the prompts."""
    return replace(
        found,
        detections=Detections(found.detections.boxes, found.detections.scores),
        masks=Masks(found.masks.bits, found.masks.scores),
    )
