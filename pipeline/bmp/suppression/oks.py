"""Suppression of people found twice, by how alike their poses are. Knows no image, no mask and no round."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.ops.boxes import area
from bmp.ops.oks import oks
from bmp.registry import SUPPRESSORS
from bmp.structures import Detections, Poses


@SUPPRESSORS.register_module()
class OKSSuppressor:
    """Of two people with the same pose the one with fewer confident keypoints goes.

    People are visited from the one with the most confident keypoints on, the higher detection score first in a tie,
    then the earlier row. Each one who is not suppressed yet suppresses all later people whose OKS with that person is
    above ``threshold``; a suppressed person suppresses nobody. The OKS is over the confident keypoints of the person
    who stays, over all keypoints where none is confident, and the area is that of this person's box.

    Args:
        threshold: OKS above which two people are one, in [0, 1].
        keypoint_threshold: score above which a keypoint is confident, in [0, 1]: 0.5 in the second BBox-Mask-Pose, 0.3
            in the first.
        counted: "confident", or "all" for an OKS over all keypoints, in which two guesses at a hidden limb keep
            duplicates apart.
        keypoints: the meaning of the poses' keypoints, with their OKS falloffs.

    Raises:
        UserError: for thresholds outside [0, 1] and for another ``counted``.
    """

    def __init__(
        self,
        threshold: float = 0.8,
        keypoint_threshold: float = 0.5,
        counted: Literal["confident", "all"] = "confident",
        keypoints: KeypointSet = COCO_KEYPOINTS,
    ) -> None:
        check_thresholds("OKSSuppressor", threshold=threshold, keypoint_threshold=keypoint_threshold)
        if counted not in ("confident", "all"):
            raise UserError(f"OKSSuppressor: expected counted to be 'confident' or 'all', got {counted!r}")
        self.threshold = threshold
        self.keypoint_threshold = keypoint_threshold
        self.counted = counted
        self.keypoints = keypoints

    def keep(self, people: Detections, poses: Poses) -> Tensor:
        """Return the rows that stay: int64, ascending, on the CPU.

        Raises ``ValueError`` where people and poses differ in number, or the poses have other keypoints.
        """
        check_poses("OKSSuppressor", people, poses, self.keypoints)
        confident = poses.scores > self.keypoint_threshold
        order = people.scores.argsort(descending=True, stable=True)
        order = order[confident.sum(dim=1)[order].argsort(descending=True, stable=True)]
        # Somebody without a confident keypoint comes last, and can only suppress others of the kind.
        counted = confident | ~confident.any(dim=1, keepdim=True) if self.counted == "confident" else None
        similar = oks(
            poses.keypoints[order],
            poses.keypoints[order],
            area(people.boxes[order]),
            torch.tensor(self.keypoints.sigmas, device=poses.device),
            None if counted is None else counted[order],
        )
        # One transfer of numbers and similarities; who stands is decided one after the other, on the CPU.
        numbered = torch.cat((order[:, None], (similar > self.threshold).long()), dim=1).cpu()
        return numbered[_greedy(numbered[:, 1:].numpy() > 0), 0].sort().values


def check_thresholds(owner: str, **values: float) -> None:
    """Raise ``UserError`` where one of these arguments of ``owner`` is outside [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"{owner}: expected {name} in [0, 1], got {value}; the defaults are 0.8 and 0.5")


def check_poses(owner: str, people: Detections, poses: Poses, keypoints: KeypointSet) -> None:
    """Raise ``ValueError`` unless there is one pose a person, of these keypoints."""
    if len(people) != len(poses):
        raise ValueError(
            f"{owner}: expected one pose a person, got {len(people)} people and {len(poses)} poses; "
            "index both with the same rows"
        )
    if poses.keypoints.shape[1] != len(keypoints):
        raise ValueError(
            f"{owner}: expected poses of {len(keypoints)} keypoints, got {poses.keypoints.shape[1]}; "
            f"give {owner} the pose estimator's keypoint set"
        )


def _greedy(similar: NDArray[np.bool_]) -> Tensor:
    """Visit the rows of (N, N) in order; each that stands suppresses the later ones similar to it. Bool (N,)."""
    standing = np.ones(len(similar), dtype=np.bool_)
    for row in range(len(similar)):
        if standing[row]:
            standing[row + 1 :] &= ~similar[row, row + 1 :]
    return torch.from_numpy(standing)
