"""Coarse body parts from skeleton and mask alone: the nearest limb has the pixel. Knows no network and no clothes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.label_sets.part_sets import BODY
from bmp.ops.parts import merge_specks, window_of
from bmp.registry import PARSERS
from bmp.structures import Image, Instances, Parts, Poses


class _Capsule(NamedTuple):
    """What lies around the line from one joint to another: its part, and its radius as a share of a person's height."""

    part: str
    start: str
    end: str
    radius: float


_LIMBS = tuple(
    _Capsule(part.format(side), start.format(side), end.format(side), radius)
    for side in ("left", "right")
    for part, start, end, radius in (
        ("{} arm", "{}_shoulder", "{}_elbow", 0.035),
        ("{} arm", "{}_elbow", "{}_wrist", 0.03),
        ("{} leg", "{}_hip", "{}_knee", 0.05),
        ("{} leg", "{}_knee", "{}_ankle", 0.04),
        ("torso", "{}_shoulder", "{}_hip", 0.05),
    )
)
_ACROSS = (_Capsule("torso", "left_shoulder", "right_shoulder", 0.05), _Capsule("torso", "left_hip", "right_hip", 0.06))
_TRUNK, _HEAD = 0.08, 0.10
_JOINTS = COCO_KEYPOINTS.names[5:]
_FACE = COCO_KEYPOINTS.names[:5]
_TORSO = 0.3  # from shoulders to hips, as a share of a person's height
_REACH = 0.9  # share of an upright person's height that the farthest keypoints span
_FINEST = 160  # cells along the longer side of a person: limbs have no sharper ends than that


@PARSERS.register_module()
class SkeletonParts:
    """Splits each mask into head, torso, arms and legs by the nearest limb of the person's skeleton.

    For presets without a parser of their own: it needs no weights and knows no clothes, and so its labels are those of
    ``bmp.label_sets.part_sets.BODY``, which says that they are coarse. Limbs of which an end is absent (presence
    below 0.5) are left out unless all are. The score of a part is the mean score of its limbs' keypoints.

    Args:
        keypoints: the meaning of the poses' keypoints.
        smallest: connected parts of fewer pixels go to a neighbour.

    Raises:
        UserError: for keypoints without shoulders, hips, arms and legs.
    """

    label_set = BODY

    def __init__(self, keypoints: KeypointSet = COCO_KEYPOINTS, smallest: int = 16) -> None:
        number = {name: index for index, name in enumerate(keypoints.meanings)}
        lacking = [name for name in _JOINTS if name not in number]
        if lacking:
            raise UserError(
                f"SkeletonParts: {keypoints} have no {', '.join(lacking):.100}; use a pose estimator that has, or "
                "leave pipeline.parts out"
            )
        self.keypoints = keypoints
        self.smallest = smallest
        self._joints = np.array([number[name] for name in _JOINTS])
        faces = [number[name] for name in _FACE if name in number]
        tops = [index for name, index in number.items() if name.endswith(("head", "head_top"))]
        self._head = np.array(faces or tops, np.int64)

    def parse(self, images: Sequence[Image], people: Sequence[Instances]) -> list[Parts]:
        """Return parts row by row for ``people``; ``ValueError`` for poses of other keypoints."""
        return [self._of_image(each) for each in people]

    def _of_image(self, people: Instances) -> Parts:
        if people.poses.keypoints.shape[1] < len(self.keypoints):
            raise ValueError(
                f"SkeletonParts: expected poses with {self.keypoints} first, got {people.poses.keypoints.shape[1]}; "
                "give SkeletonParts the pose estimator's keypoint set"
            )
        parts = Parts.nowhere(people, self.label_set)
        labels, scores = parts.labels.clone(), parts.scores.clone()
        for row in range(len(people)):
            inside = parts.owners == row + 1
            rows, columns = window_of(inside)
            if rows.start < rows.stop:
                own = self._of_person(
                    people.poses[[row]], inside[rows, columns], rows.start, columns.start, scores[row]
                )
                labels[rows, columns] += own.to(labels.device)
        return replace(parts, labels=labels, scores=scores)

    def _of_person(self, pose: Poses, inside: Tensor, top: int, left: int, scores: Tensor) -> Tensor:
        """Return the labels of a window, uint8 (h, w), 0 outside the mask; ``scores`` (C,) are filled in."""
        capsules = self._capsules(pose, scores)
        height, width = inside.shape
        step = max(1, -(-max(height, width) // _FINEST))
        y, x = np.mgrid[top + step / 2 : top + height + step : step, left + step / 2 : left + width + step : step]
        cells = np.stack([x, y], axis=-1)
        nearest = np.argmin([_distance(cells, *ends) - radius for _, *ends, radius in capsules], axis=0)
        coarse = np.array([self.label_set.names.index(part) for part, *_ in capsules], np.uint8)[nearest]
        fine = coarse.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]
        bits = inside.cpu().numpy()
        labels = merge_specks(fine * bits, bits, self.smallest)
        for number in range(1, len(scores)):
            if not (labels == number).any():
                scores[number] = 0
        return torch.from_numpy(labels)

    def _capsules(
        self, pose: Poses, scores: Tensor
    ) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64], float]]:
        """Return part, ends in pixels and radius in pixels of each limb; ``scores`` (C,) are filled in."""
        points = np.nan_to_num(pose.keypoints[0].double().cpu().numpy()).clip(-1e5, 1e5)
        certain = pose.scores[0].cpu().numpy()
        present = (pose.flags()[0] > 0).cpu().numpy()
        place = dict(zip(_JOINTS, points[self._joints], strict=True))
        there = dict(zip(_JOINTS, present[self._joints], strict=True))
        sure = dict(zip(_JOINTS, certain[self._joints], strict=True))
        shoulders = (place["left_shoulder"] + place["right_shoulder"]) / 2
        hips = (place["left_hip"] + place["right_hip"]) / 2
        seen = points[np.concatenate([self._joints, self._head])]
        seen = seen[present[np.concatenate([self._joints, self._head])]] if present.any() else seen
        size = max(1.0, np.linalg.norm(shoulders - hips) / _TORSO, np.ptp(seen, axis=0).max() * _REACH)

        found: list[tuple[str, NDArray[np.float64], NDArray[np.float64], float]] = []
        rated: dict[str, list[float]] = {}
        for demand in (True, False):  # where no limb has both its ends, all count
            for part, start, end, radius in (*_LIMBS, *_ACROSS):
                if not demand or (there[start] and there[end]):
                    found.append((part, place[start], place[end], radius * size))
                    rated.setdefault(part, []).extend((sure[start], sure[end]))
            if found:
                break
        if any(part == "torso" for part, *_ in found):
            found.append(("torso", shoulders, hips, _TRUNK * size))
        head = self._head[present[self._head]] if len(self._head) else self._head
        if len(head):
            middle = points[head].mean(axis=0)
            found.append(("head", middle, middle, _HEAD * size))
            rated["head"] = certain[head].tolist()
        for part, values in rated.items():
            scores[self.label_set.names.index(part)] = float(np.mean(values))
        return found


def _distance(cells: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of cells (h, w, 2) from the line between two points, in pixels (h, w)."""
    line = end - start
    along = ((cells - start) @ line / max(float(line @ line), 1e-9)).clip(0, 1)
    return np.asarray(np.linalg.norm(cells - (start + along[..., None] * line), axis=-1))
