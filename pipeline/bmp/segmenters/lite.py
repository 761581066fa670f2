"""A segmenter that runs anywhere: the landmark network's own mask of the person whose pose it is given.

Knows no prompts, and nothing of who made the poses.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bmp.checkpoints.sources import resolve
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, conversion
from bmp.models.lite import landmarks, regions
from bmp.models.lite.regions import Array, ImagePyramid
from bmp.ops.boxes import iou
from bmp.ops.masks import to_boxes
from bmp.registry import SEGMENTERS
from bmp.structures import Detections, Image, Masks, Poses

BOX_SCALE = 1.25
# Radius of the circle that encloses a body, over the root mean square distance of its keypoints from the hips.
REACH = 1.7
STOUT = np.array([0.42, 0.5], dtype=np.float32)  # half axes of the ellipse over the box's width and height
FITS = 0.5  # IoU of a mask's extent and the box from which the mask is the person's
QUALITY = (0.25, 0.45, 0.11)  # of a mask: constant, share of that IoU, share of the network's flag
GUESSED = 0.5  # of an ellipse
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


def silhouette(box: Array, width: int, height: int) -> NDArray[np.bool_]:
    """Return bool (height, width): the ellipse in ``box`` (4,) that people of unknown pose resemble most."""
    canvas = np.zeros((height, width), dtype=np.uint8)
    middle = (box[:2] + box[2:]) / 2 - 0.5
    axes = np.maximum((box[2:] - box[:2]) * STOUT, 0.5)
    centre, half = (tuple(np.round(pair * 16).clip(-(2**24), 2**24).astype(int).tolist()) for pair in (middle, axes))
    cv2.ellipse(canvas, centre, half, 0, 0, 360, 1, cv2.FILLED, cv2.LINE_8, 4)  # sixteenths of a pixel
    return canvas.astype(np.bool_)


def within(bits: NDArray[np.bool_], box: Array) -> tuple[NDArray[np.bool_], float]:
    """Return ``bits`` (H, W) cut to ``box`` (4,), and how far the two agree: the IoU of their extents, in [0, 1]."""
    height, width = bits.shape
    left, top = np.clip(np.floor(box[:2]), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(box[2:]), 0, (width, height)).astype(int)
    cut = np.zeros_like(bits)
    cut[top:bottom, left:right] = bits[top:bottom, left:right]
    extent = to_boxes(torch.from_numpy(bits[None]))
    return cut, float(iou(extent, torch.from_numpy(box[None]))[0, 0])


@SEGMENTERS.register_module()
class LiteSegmenter:
    """Masks of the landmark network, in the region where the pose says that the person is; nothing outside the box.

    Where such a mask does not fit the box, the network saw another person or none: then an ellipse in the box,
    which overlaps a person's mask by half on average, has to do. The scores are the IoU that masks of that fit had
    on photos.

    Args:
        weights: of the landmark network, a path or a name that ``bmp.checkpoints.sources`` knows.
        num_threads: of the network.
        keypoints: the meaning of the poses' keypoints.

    Raises:
        UserError: for a value out of range, or weights that cannot be had.
        ImportError: where LiteRT is not installed.
    """

    def __init__(
        self,
        weights: str = landmarks.WEIGHTS,
        num_threads: int = 2,
        keypoints: KeypointSet = COCO_KEYPOINTS,
    ) -> None:
        self.keypoints = keypoints
        reading = conversion(self.keypoints, COCO_KEYPOINTS)
        self._known = list(reading.known)
        self._rows = [reading.origins[number][0] for number in reading.known]
        self._landmarks = landmarks.load(resolve(weights), num_threads)

    def open(self, images: Sequence[Image]) -> list[ImagePyramid]:
        """Return each image with its smaller copies."""
        return [ImagePyramid.of(image) for image in images]

    def segment(
        self,
        views: Sequence[ImagePyramid],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return masks row by row for ``people``, on the CPU; ``others`` do not matter to this network.

        Raises ``ValueError`` for poses that do not start with the keypoints it is for.
        """
        return [self._segment(*one) for one in zip(views, people, poses, strict=True)]

    def _segment(self, picture: ImagePyramid, people: Detections, poses: Poses) -> Masks:
        if poses.keypoints.shape[1] < len(self.keypoints):
            raise ValueError(
                f"LiteSegmenter: expected poses with {self.keypoints} first, got {poses.keypoints.shape[1]}; "
                "give LiteSegmenter the pose estimator's keypoint set"
            )
        if not len(people):
            return Masks.empty(picture.height, picture.width)
        # A keypoint of COCO's that the poses lack is one of which nothing is known.
        keypoints = np.zeros((len(people), len(COCO_KEYPOINTS), 2), dtype=np.float32)
        scores = np.zeros((len(people), len(COCO_KEYPOINTS)), dtype=np.float32)
        keypoints[:, self._known] = poses.keypoints[:, self._rows].cpu().numpy()
        scores[:, self._known] = poses.scores[:, self._rows].cpu().numpy()
        boxes = people.boxes.cpu().numpy()
        seen = self._landmarks(picture, look_where(keypoints, scores, boxes))
        bits = np.zeros((len(people), picture.height, picture.width), dtype=np.bool_)
        quality = np.full(len(people), GUESSED, dtype=np.float32)
        for row, (mask, region, box) in enumerate(zip(seen.masks, seen.regions, boxes, strict=True)):
            bits[row], fit = within(regions.paste(mask, region, picture.width, picture.height), box)
            if fit >= FITS:
                quality[row] = np.dot(QUALITY, (1, fit, seen.flags[row]))
            else:
                bits[row] = silhouette(box, picture.width, picture.height)
        return Masks(torch.from_numpy(bits), torch.from_numpy(quality.clip(0, 1)))
