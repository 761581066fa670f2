"""Suppression of people found twice, by how alike their poses are. Knows no image, no mask and no round."""

from __future__ import annotations

import torch
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
    then the earlier row. Who is left standing suppresses everybody after it whose pose has an OKS above
    ``threshold`` with its own; who is suppressed suppresses nobody. All keypoints count in the OKS, and the area is
    that of the box of the person who stays.

    Args:
        threshold: OKS above which two people are one, in [0, 1].
        keypoint_threshold: score above which a keypoint is confident, in [0, 1].
        keypoints: the meaning of the poses' keypoints, with their OKS falloffs.

    Raises:
        UserError: for thresholds outside [0, 1].
    """

    def __init__(
        self, threshold: float = 0.8, keypoint_threshold: float = 0.3, keypoints: KeypointSet = COCO_KEYPOINTS
    ) -> None:
        for name, value in (("threshold", threshold), ("keypoint_threshold", keypoint_threshold)):
            if not 0 <= value <= 1:
                raise UserError(f"OKSSuppressor: expected {name} in [0, 1], got {value}; the defaults are 0.8 and 0.3")
        self.threshold = threshold
        self.keypoint_threshold = keypoint_threshold
        self.keypoints = keypoints

    def keep(self, people: Detections, poses: Poses) -> Tensor:
        """Return the rows that stay: int64, ascending, on the device of ``poses``.

        Raises ``ValueError`` where people and poses differ in number, or the poses have other keypoints.
        """
        if len(people) != len(poses):
            raise ValueError(
                f"OKSSuppressor: expected one pose a person, got {len(people)} people and {len(poses)} poses; "
                "index both with the same rows"
            )
        if poses.keypoints.shape[1] != len(self.keypoints):
            raise ValueError(
                f"OKSSuppressor: expected poses of {len(self.keypoints)} keypoints, got {poses.keypoints.shape[1]}; "
                "give OKSSuppressor the pose estimator's keypoint set"
            )
        order = self._strongest_first(people, poses)
        keypoints = poses.keypoints[order]
        sigmas = torch.tensor(self.keypoints.sigmas, device=keypoints.device)
        similar = oks(keypoints, keypoints, area(people.boxes[order]), sigmas) > self.threshold
        standing = _greedy(similar.cpu()).to(order.device)
        return order[standing].sort().values

    def _strongest_first(self, people: Detections, poses: Poses) -> Tensor:
        confident = (poses.scores > self.keypoint_threshold).sum(dim=1)
        order = people.scores.argsort(descending=True, stable=True)
        return order[confident[order].argsort(descending=True, stable=True)]


def _greedy(similar: Tensor) -> Tensor:
    """Visit the rows of bool (N, N) in order; each that stands fells the later ones similar to it. Bool (N,)."""
    standing = torch.ones(len(similar), dtype=torch.bool)
    for row in range(len(similar)):
        if standing[row]:
            standing[row + 1 :] &= ~similar[row, row + 1 :]
    return standing
