"""The release's own rules for duplicates and for pixels that several masks claim; they exist for comparison only.

BBoxMaskPose 2.0.0 differs here from what its papers describe. Each class says how, and what comes of it. It knows no
image and no network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.ops.oks import oks
from bmp.registry import OVERLAP_RULES, SUPPRESSORS
from bmp.structures import Detections, Masks, Poses
from bmp.suppression.oks import check_poses, check_thresholds


@SUPPRESSORS.register_module()
class ReleasedOKSSuppressor:
    """The pose suppression of BBoxMaskPose 2.0.0, with its three defects.

    Every ordered pair is compared, the first person being the reference, by the OKS over the reference's confident
    keypoints. The most similar pair goes first: of the two the one with fewer confident keypoints is removed, the
    reference in a tie.

    - A person who was removed goes on removing others as their reference, so that of a row of people who resemble
      their neighbours only one may be left.
    - Boxes x1, y1, x2, y2 are read as left, top, width, height. The area is x2 * y2, which grows with the distance
      from the image's corner: two people 15 pixels apart are one person there.
    - A reference without confident keypoints resembles everybody inside a box three times as large as its own, read
      wrongly as well, and is removed.

    Args:
        threshold: OKS above which two people are one, in [0, 1].
        keypoint_threshold: score above which a keypoint is confident, in [0, 1].
        keypoints: the meaning of the poses' keypoints, with their OKS falloffs.

    Raises:
        UserError: for thresholds outside [0, 1].
    """

    def __init__(
        self, threshold: float = 0.8, keypoint_threshold: float = 0.5, keypoints: KeypointSet = COCO_KEYPOINTS
    ) -> None:
        check_thresholds("ReleasedOKSSuppressor", threshold=threshold, keypoint_threshold=keypoint_threshold)
        self.threshold = threshold
        self.keypoint_threshold = keypoint_threshold
        self.keypoints = keypoints

    def keep(self, people: Detections, poses: Poses) -> Tensor:
        """Return the rows that stay: int64, ascending, on the device of ``poses``.

        Raises ``ValueError`` where people and poses differ in number, or the poses have other keypoints.
        """
        check_poses("ReleasedOKSSuppressor", people, poses, self.keypoints)
        confident = poses.scores > self.keypoint_threshold
        counts = confident.sum(dim=1).tolist()
        similar = self._similarities(people.boxes, poses, confident)
        removed: set[int] = set()
        while len(similar) and float(similar.max()) > self.threshold:
            reference, other = divmod(int(similar.argmax()), len(similar))
            loser = other if counts[reference] > counts[other] else reference
            removed.add(loser)
            similar[reference, other] = -1
            similar[:, loser] = -1
        rows = [row for row in range(len(people)) if row not in removed]
        return torch.tensor(rows, dtype=torch.int64, device=poses.device)

    def _similarities(self, boxes: Tensor, poses: Poses, confident: Tensor) -> Tensor:
        """Return (N, N), references in rows; nobody resembles himself."""
        keypoints = poses.keypoints.cpu().double()  # as NumPy computes
        boxes, confident = boxes.cpu().double(), confident.cpu()
        corner, size = boxes[:, :2], boxes[:, 2:]  # as if they were left, top and width, height
        area = size.prod(dim=1)
        sigmas = torch.tensor(self.keypoints.sigmas, dtype=torch.float64)
        similar = oks(keypoints, keypoints, area, sigmas, confident)
        low, high = (corner - size)[:, None, None], (corner + 2 * size)[:, None, None]
        beyond = (low - keypoints[None]).clamp(min=0) + (keypoints[None] - high).clamp(min=0)
        falloff = 2 * area[:, None] * (2 * sigmas).square()
        smallest = torch.finfo(falloff.dtype).tiny
        by_box = torch.exp(-beyond.square().sum(dim=-1) / falloff.clamp(min=smallest)[:, None]).mean(dim=-1)
        return similar.where(confident.any(dim=1, keepdim=True), by_box).fill_diagonal_(-1)


@OVERLAP_RULES.register_module()
class OldMasksStay:
    """Each round's new masks give way to better ones, those of earlier rounds never do: BBoxMaskPose 2.0.0.

    A pixel goes to the highest predicted IoU, in a tie to the newer mask, but only new masks are changed. An old mask
    that loses a pixel keeps it all the same, so that masks of different rounds overlap.
    """

    def resolve(self, masks: Masks, rounds: Tensor) -> Tensor:
        """Return bits bool (N, H, W); see ``bmp.stages.OverlapRule``."""
        bits = masks.bits.clone()
        for number in sorted(set(rounds.tolist())):
            new = rounds == number
            order = (~new).int().argsort(stable=True)
            order = order[masks.scores[order].argsort(descending=True, stable=True)]
            free = torch.ones_like(bits[0])
            for row in order[rounds[order] <= number].tolist():
                claimed = bits[row].clone()
                if new[row]:
                    bits[row] &= free
                free &= ~claimed
        return bits
