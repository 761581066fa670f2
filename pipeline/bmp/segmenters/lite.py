"""A segmenter that runs anywhere: the landmark network's own mask of the person whose pose it is given.

Knows no prompts, and nothing of who made the poses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bmp.checkpoints.sources import resolve
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.lite import landmarks, regions
from bmp.models.lite.landmarks import Landmarks
from bmp.models.lite.regions import Array, Picture
from bmp.registry import SEGMENTERS
from bmp.structures import Detections, Image, Masks, Poses

BOX_SCALE = 1.25
REACH = (
    1.7  # radius of the circle that encloses a body, over the root mean square distance of its keypoints from the hips
)
SHOULDERS = [COCO_KEYPOINTS.names.index(f"{side}_shoulder") for side in ("left", "right")]
HIPS = [COCO_KEYPOINTS.names.index(f"{side}_hip") for side in ("left", "right")]


def look_where(keypoints: Array, scores: Array, boxes: Array) -> Array:
    """Return the regions (N, 4) in which the network expects people of that pose to be.

    keypoints: (N, K, 2) in pixels, K at least 17, COCO's first. scores: (N, K), 0 for points of which nothing is
    known. boxes: (N, 4), used for people without a known hip or shoulder.
    """
    hips, shoulders = (_mean(keypoints[:, pair], scores[:, pair]) for pair in (HIPS, SHOULDERS))
    distances = np.linalg.norm(keypoints - hips[:, None], axis=2, keepdims=True)
    radius = REACH * np.sqrt(_mean(distances**2, scores))
    up = shoulders - hips
    length = np.linalg.norm(up, axis=1, keepdims=True)
    by_pose = regions.from_points(hips, hips + up * radius / np.maximum(length, 1e-6), landmarks.REGION_SCALE)
    known = (scores[:, HIPS].max(axis=1) > 0) & (scores[:, SHOULDERS].max(axis=1) > 0) & (length[:, 0] > 0)
    return np.where(known[:, None], by_pose, regions.from_boxes(boxes, BOX_SCALE))


def _mean(values: Array, weights: Array) -> Array:
    """Return the weighted mean (N, D) of (N, P, D)."""
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
    return np.asarray((values * share[..., None]).sum(axis=1), dtype=np.float32)


def quality(seen: Landmarks, keypoints: Array, scores: Array) -> Array:
    """Predict how good the masks are, (N,) in [0, 1].

    The network's flag that there is a person, times the mean probability of the mask's pixels, times the share of
    the pose, weighted by ``scores``, that lies within the mask.
    """
    mask = seen.masks.astype(np.float32)
    inside = mask > 0.5
    sureness = (mask * inside).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
    cells = np.floor(regions.to_region(keypoints, seen.regions) * landmarks.SIZE)
    within = ((cells >= 0) & (cells < landmarks.SIZE)).all(axis=2)
    x, y = np.clip(cells, 0, landmarks.SIZE - 1).astype(np.int64).transpose(2, 0, 1)
    covered = (inside[np.arange(len(seen))[:, None], y, x] & within).astype(np.float32)
    return np.asarray((seen.flags * sureness * _mean(covered[..., None], scores)[:, 0]).clip(0, 1), dtype=np.float32)


@SEGMENTERS.register_module()
class LiteSegmenter:
    """Masks of the landmark network, in the region where the pose says that the person is; nothing outside it.

    Args:
        weights: of the landmark network, a path or a name that ``bmp.checkpoints.sources`` knows.
        num_threads: of the network.

    Raises:
        UserError: for a value out of range, or weights that cannot be had.
        ImportError: where LiteRT is not installed.
    """

    def __init__(self, weights: str = landmarks.WEIGHTS, num_threads: int = 2) -> None:
        self._landmarks = landmarks.load(resolve(weights), num_threads)

    def open(self, images: Sequence[Image]) -> list[Picture]:
        """Return each image with its smaller copies."""
        return [Picture.of(image) for image in images]

    def segment(
        self,
        views: Sequence[Picture],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return masks row by row for ``people``, on the CPU; ``others`` do not matter to this network.

        Raises ``ValueError`` for poses that do not start with COCO's 17 keypoints.
        """
        return [self._segment(*one) for one in zip(views, people, poses, strict=True)]

    def _segment(self, picture: Picture, people: Detections, poses: Poses) -> Masks:
        if poses.keypoints.shape[1] < len(COCO_KEYPOINTS):
            raise ValueError(
                f"LiteSegmenter: expected poses with COCO's 17 keypoints first, got {poses.keypoints.shape[1]}; "
                "use a pose estimator with COCO's keypoints"
            )
        if not len(people):
            return Masks.empty(picture.height, picture.width)
        count = len(COCO_KEYPOINTS)
        keypoints, scores = poses.keypoints[:, :count].cpu().numpy(), poses.scores[:, :count].cpu().numpy()
        seen = self._landmarks(picture, look_where(keypoints, scores, people.boxes.cpu().numpy()))
        bits = [
            regions.paste(mask, region, picture.width, picture.height)
            for mask, region in zip(seen.masks, seen.regions, strict=True)
        ]
        return Masks(torch.from_numpy(np.stack(bits)), torch.from_numpy(quality(seen, keypoints, scores)))
