"""How people move from one frame into the next, as the points on them do. Knows no tracker and no segmenter."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from bmp.label_sets import KeypointSet
from bmp.ops.masks import to_boxes
from bmp.ops.point_motion import agreeing, similarity, transformed
from bmp.ops.query_points import NEGATIVE
from bmp.structures import Detections, Image, TrackedPeople

COASTING = 12
"""Frames for which somebody who is lost is supposed to go on as before."""

_CLOSE, _MOST = 1.0, 0.6  # pixels, and the share of points that agree so closely
_LIMBS = ("elbow", "wrist", "knee", "ankle")


def follow(
    people: TrackedPeople,
    found: Tensor,
    seen: Tensor,
    keypoints: KeypointSet,
    image: Image,
    *,
    recovers: bool = False,
) -> TrackedPeople:
    """Bring people into the frame ``image``, in which the tracker found their points.

    Points that do not move as the others of their person are not seen. A shift, turn and scale that fits the others
    carries points and joints that are not seen, the box and the mask. Somebody of whom nothing is seen moves on as
    before, for a while.

    Args:
        people: in the frame before.
        found: float32 (N, P, 2), where the points are.
        seen: bool (N, P), those of which the tracker is sure.
        keypoints: what the joints mean.
        image: this frame.
        recovers: the tracker knows where points are that it does not see, so that these are not carried.
    """
    if not len(people):
        return people
    seen = _agreed(people, found, seen, keypoints, max(image.height, image.width))
    matrices, moved = _motions(people, found, seen & (people.kinds != NEGATIVE))
    points = torch.where(seen[..., None] | recovers, found, transformed_each(people.points, matrices))
    poses, boxes = people.instances.poses, people.instances.detections.boxes
    joints = transformed_each(poses.keypoints, matrices)
    followed, shown = (torch.zeros_like(poses.visibility, dtype=torch.bool) for _ in range(2))
    rows, columns = (people.kinds >= 0).nonzero(as_tuple=True)
    numbers = people.kinds[rows, columns]
    joints[rows, numbers] = points[rows, columns]
    followed[rows, numbers], shown[rows, numbers] = True, seen[rows, columns]
    visibility = torch.where(followed, poses.visibility.clamp(min=0.5) * shown, poses.visibility)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    arrived = transformed_each(centres[:, None], matrices)[:, 0]
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2 * torch.linalg.det(matrices[:, :, :2]).clamp(min=0).sqrt()[:, None]
    shift = arrived - centres
    smooth = torch.where((people.age > 2)[:, None], (people.velocity + shift) / 2, shift)
    instances = replace(
        people.instances,
        detections=Detections(
            torch.cat([arrived - halves, arrived + halves], dim=1), people.instances.detections.scores
        ),
        poses=replace(poses, keypoints=joints, visibility=visibility),
    )
    return replace(
        people,
        instances=instances,
        points=points,
        seen=seen,
        velocity=torch.where(moved[:, None], smooth, people.velocity),
        motion=_composed(matrices, people.motion),
    )


def moved_masks(people: TrackedPeople) -> Tensor:
    """Return the masks as they were drawn, where people have moved to since: bool (N, H, W)."""
    still = torch.eye(2, 3, device=people.motion.device)
    bits = people.drawn.clone()
    height, width = bits.shape[1:]
    rows = (people.motion != still).flatten(1).any(dim=1) & people.drawn.flatten(1).any(dim=1)
    for row in rows.nonzero()[:, 0].tolist():
        matrix = people.motion[row].cpu().double().numpy()
        left, top, right, bottom = to_boxes(people.drawn[row : row + 1])[0].int().tolist()
        corners = (
            np.array([[left, top], [right, top], [left, bottom], [right, bottom]]) @ matrix[:, :2].T + matrix[:, 2]
        )
        low = np.floor(corners.min(axis=0) - 1).clip(0, (width, height)).astype(int)
        high = np.ceil(corners.max(axis=0) + 1).clip(0, (width, height)).astype(int)
        bits[row] = False
        if (high <= low).any():
            continue
        # Only the window in which the mask arrives is computed: masks of large frames are mostly empty.
        matrix[:, 2] += matrix[:, :2] @ (left, top) - low
        window = people.drawn[row, top:bottom, left:right].cpu().numpy().view(np.uint8)
        carried = cv2.warpAffine(
            window, matrix, tuple(int(side) for side in high - low), flags=cv2.INTER_NEAREST, borderValue=(0,)
        )
        bits[row, low[1] : high[1], low[0] : high[0]] = torch.from_numpy(carried > 0).to(bits.device)
    return bits


def transformed_each(points: Tensor, matrices: Tensor) -> Tensor:
    """Return points (N, P, 2), each row carried by its own of the matrices (N, 2, 3)."""
    return points @ matrices[:, :, :2].transpose(1, 2) + matrices[:, None, :, 2]


def _agreed(people: TrackedPeople, found: Tensor, seen: Tensor, keypoints: KeypointSet, side: int) -> Tensor:
    """Keep of the points that were seen those that move with their person; points beside people keep their verdict."""
    limbs = torch.tensor([name.endswith(_LIMBS) for name in (*keypoints.meanings, "")], device=seen.device)
    positive = people.kinds != NEGATIVE
    owners = torch.arange(len(people), device=seen.device)[:, None].expand(seen.shape)
    boxes = people.instances.detections.boxes
    agreed = seen.clone()
    agreed[positive] = agreeing(
        people.points[positive],
        found[positive],
        seen[positive],
        owners[positive],
        side=side,
        heights=boxes[:, 3] - boxes[:, 1],
        loose=limbs[people.kinds.where(people.kinds >= 0, -1)][positive],
    )
    return agreed


def _motions(people: TrackedPeople, found: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return how each person moved, float32 (N, 2, 3), and whether points say so, bool (N,)."""
    matrices = torch.eye(2, 3, device=found.device).repeat(len(people), 1, 1)
    coasting = people.missed < COASTING
    matrices[:, :, 2] = people.velocity * coasting[:, None]
    moved = own.any(dim=1)
    for row in moved.nonzero()[:, 0].tolist():
        before, after = people.points[row, own[row]], found[row, own[row]]
        box = people.instances.detections.boxes[row]
        # Most points of a body that does not bend agree closely, and the others would pull the fit aside.
        matrix = similarity(before, after, _CLOSE)
        if matrix is None or (transformed(before, matrix) - after).norm(dim=1).lt(_CLOSE).float().mean() < _MOST:
            matrix = similarity(before, after, 5 + 0.03 * float(box[3] - box[1]))
        if matrix is None:
            matrices[row] = torch.eye(2, 3, device=found.device)
            matrices[row, :, 2] = (after - before).median(dim=0).values
        else:
            matrices[row] = matrix
    return matrices, moved


def _composed(second: Tensor, first: Tensor) -> Tensor:
    """Return the motions (N, 2, 3) that do ``first`` and then ``second``."""
    linear = second[:, :, :2] @ first[:, :, :2]
    return torch.cat([linear, second[:, :, :2] @ first[:, :, 2:] + second[:, :, 2:]], dim=2)
