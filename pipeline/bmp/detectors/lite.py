"""A person detector of two small networks that run anywhere; knows nothing of the pose estimator or the loop.

One network finds boxes; the landmark network looks at the surer ones twice, tightens them, and has a say in how sure
each is, but no veto: people who are cut off, seated, or seen from behind have boxes without convincing landmarks.
Scores are probabilities, from two logistic models that ``benchmarks/fit_lite.py`` fitted to photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmp.checkpoints.sources import resolve
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.lite import landmarks, regions, ssd
from bmp.models.lite.landmarks import BODY, COCO_LANDMARKS, Landmarks
from bmp.models.lite.logistic import Logistic, logit
from bmp.models.lite.regions import Array, ImagePyramid
from bmp.ops.boxes import area, iou
from bmp.ops.oks import oks
from bmp.registry import DETECTORS
from bmp.structures import Detections, Image

FOUND = 0.05  # score from which a box of the first network is a candidate
LOOKED_AT = 0.2  # and from which the landmark network looks at it
CANDIDATES = 60  # of an image, the best ones
BOX_SCALE = 1.25  # side of the region that is looked at first, over the box's longer edge
TRUSTED = 0.65  # IoU of a box and its landmarks' extent from which both have a say in the box
HELD, LARGER = 0.8, 1.3  # share of a box within another, and ratio of their areas, from which the other holds it
SAME = 0.6  # likeness from which two people are one
PAINTED = 0.5  # share of a candidate that is painted out from which there is nobody
CANVAS = 256  # longer edge in pixels on which masks are compared


# Fitted by benchmarks/fit_lite.py.
LOOKED = Logistic(
    {
        "found": 0.972,
        "flags": 1.068,
        "heat": 1.291,
        "agreement": 2.829,
        "size": 0.71,
        "repeated": -2.556,
        "inside": -0.872,
        "holds": -1.424,
    },
    0.13,
)
UNLOOKED = Logistic(
    {
        "found": 1.037,
        "size": 0.802,
        "fills": -2.931,
        "repeated": -1.156,
        "inside": -0.731,
        "holds": -2.104,
    },
    1.027,
)


@dataclass(eq=False)
class Candidates:
    """What may be people in one image, the surest boxes first.

    boxes: xyxy (N, 4), tightened where the landmarks agree with them. signals: what the scores are made of, (N,) each,
    named as in `LOOKED`. looked: bool (N,), which ones the landmark network looked at. seen: what it saw of those,
    in their order.
    """

    boxes: Array
    signals: dict[str, Array]
    looked: NDArray[np.bool_]
    seen: Landmarks

    def __len__(self) -> int:
        return len(self.boxes)


def extents(people: Landmarks, width: int, height: int) -> Tensor:
    """Return the boxes (N, 4) that hold each person's landmarks and mask, cut to the image."""
    body = people.points[:, BODY]
    drawn, some = regions.extents(people.masks > 0.5, people.regions)
    ends = np.where(some[:, None, None], drawn.reshape(-1, 2, 2), body[:, :1])
    points = np.concatenate([body, ends], axis=1)
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    return torch.from_numpy(np.clip(boxes, 0, [width, height, width, height]).astype(np.float32))


def shape_signals(boxes: Array, width: int, height: int) -> dict[str, Array]:
    """Return what the ``boxes`` (N, 4) say by themselves, each (N,).

    size: logarithm of the box's edge, as the square root of its share of the image. fills: how much of the image
    beyond one half is in the box, from 0 to 1.
    """
    share = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).prod(axis=1) / np.float32(width * height)
    values = {"size": np.log(np.sqrt(share) + 1e-3), "fills": np.clip(2 * share - 1, 0, 1)}
    return {name: value.astype(np.float32) for name, value in values.items()}


def nesting(boxes: Array, scores: Array) -> dict[str, Array]:
    """Return what ``boxes`` (N, 4) with ``scores`` (N,) say of each other, each (N,) in [0, 1].

    inside: the greatest share of a box that lies within a surer one, as parts of people do. holds: the best score of
    a clearly smaller box that lies within it, as people do within boxes of several people.
    """
    low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-3)
    within = np.clip(high - low, 0, None).prod(axis=2) / areas[:, None]
    surer = scores > scores[:, None]
    held = (within.T > HELD) & (areas[:, None] > LARGER * areas)
    values = {"inside": (within * surer).max(axis=1, initial=0), "holds": (held * scores).max(axis=1, initial=0)}
    return {name: value.astype(np.float32) for name, value in values.items()}


def inside(people: Landmarks, picture: ImagePyramid) -> NDArray[np.bool_]:
    """Return bool (N, 17): which of COCO's keypoints lie in the image."""
    places = people.points[:, COCO_LANDMARKS]
    return np.asarray(((places >= 0) & (places < [picture.width, picture.height])).all(axis=2), dtype=np.bool_)


def painted(boxes: Array, looked: NDArray[np.bool_], seen: Landmarks, picture: ImagePyramid) -> Array:
    """Return how much (N,) of each candidate is painted out: a share of its box, or of its keypoints in the image.

    boxes: (N, 4). looked: (N,), which of them have keypoints. seen: those keypoints.

    The silhouette of a painted-out person looks like one to both networks. Photos hardly have pixels that are all
    zero, so such pixels tell them apart.
    """
    black = cv2.inRange(picture.levels[0], (0, 0, 0), (0, 0, 0)) & 1
    total = cv2.integral(black)
    left, top, right, bottom = np.round(boxes).astype(np.int64).T
    pixels = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    shares = (pixels / np.maximum((right - left) * (bottom - top), 1)).astype(np.float32)
    within = inside(seen, picture)
    places = np.floor(seen.points[:, COCO_LANDMARKS]).astype(np.int64)
    x, y = np.clip(places, 0, [picture.width - 1, picture.height - 1]).transpose(2, 0, 1)
    shares[looked] = (black[y, x] & within).sum(axis=1) / np.maximum(within.sum(axis=1), 1)
    return np.asarray(shares, dtype=np.float32)


def likeness(candidates: Candidates, width: int, height: int) -> Array:
    """Return (N, N) in [0, 1]: how alike any two candidates are.

    That is the IoU of their boxes; of two that were both looked at, the mean of that and of how alike their poses
    and their masks are, where this is less: boxes of entangled people overlap more than the people do.
    """
    boxes = torch.from_numpy(candidates.boxes)
    alike = iou(boxes, boxes).numpy()
    rows = np.flatnonzero(candidates.looked)
    if len(rows) > 1:
        seen = candidates.seen
        keypoints = torch.from_numpy(seen.points[:, COCO_LANDMARKS])
        poses = oks(keypoints, keypoints, area(boxes[rows]).clamp(min=1), torch.tensor(COCO_KEYPOINTS.sigmas)).numpy()
        scale = CANVAS / max(width, height, CANVAS)
        canvas = max(1, round(width * scale)), max(1, round(height * scale))
        masks = [regions.paste(m, r, *canvas, scale).ravel() for m, r in zip(seen.masks, seen.regions, strict=True)]
        flat = np.stack(masks).astype(np.float32)
        shared, sizes = flat @ flat.T, flat.sum(axis=1)
        overlap = shared / np.maximum(sizes[:, None] + sizes - shared, 1)
        block = np.ix_(rows, rows)
        alike[block] = np.minimum(alike[block], (alike[block] + np.minimum(poses, poses.T) + overlap) / 3)
    return np.asarray(alike, dtype=np.float32)


@DETECTORS.register_module()
class LiteDetector:
    """Finds the people of ordinary photos; distant and entangled ones are often missed.

    Args:
        weights: of the network that finds boxes, a path or a name that ``bmp.checkpoints.sources`` knows.
        landmark_weights: of the landmark network, likewise.
        threshold: score, that is probability, from which a find is a person, in [0, 1].
        max_looks: how many boxes of an image the landmark network looks at, the surest ones.
        num_threads: of each network.

    Raises:
        UserError: for a value out of range, or weights that cannot be had.
        ImportError: where LiteRT is not installed.
    """

    def __init__(
        self,
        weights: str = ssd.WEIGHTS,
        landmark_weights: str = landmarks.WEIGHTS,
        threshold: float = 0.05,
        max_looks: int = 20,
        num_threads: int = 2,
    ) -> None:
        if not 0 <= threshold <= 1 or max_looks < 0:
            raise UserError(
                "LiteDetector: expected threshold in [0, 1] and max_looks of at least 0, "
                f"got {threshold} and {max_looks}; the defaults are 0.05 and 20"
            )
        self.threshold = threshold
        self.max_looks = max_looks
        self.boxes = ssd.BoxNetwork(resolve(weights), num_threads)
        self._landmarks = landmarks.load(resolve(landmark_weights), num_threads)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Return the people of each image, best first, without masks, on the CPU."""
        return [self._detect(ImagePyramid.of(image)) for image in images]

    def candidates(self, picture: ImagePyramid) -> Candidates:
        """Return what may be people, with the signals that tell whether they are."""
        boxes, scores = (rows[:CANDIDATES] for rows in self.boxes(picture, FOUND))
        looked = (scores >= LOOKED_AT) & (np.arange(len(scores)) < self.max_looks)
        first = self._landmarks(picture, regions.from_boxes(boxes[looked], BOX_SCALE))
        seen = landmarks.look_again(self._landmarks, picture, first)
        drawn = extents(seen, picture.width, picture.height)
        agreement = np.zeros(len(boxes), dtype=np.float32)
        agreement[looked] = iou(torch.from_numpy(boxes[looked]), drawn).diagonal().numpy()
        signals = {"found": logit(scores, 0.02)} | shape_signals(boxes, picture.width, picture.height)
        # Whatever the network sees in noise, a box of the whole image agrees with it once it is cut to the image.
        signals["agreement"] = agreement * (1 - signals["fills"])
        within = inside(seen, picture)
        heat = (seen.heat[:, COCO_LANDMARKS] * within).sum(axis=1) / np.maximum(within.sum(axis=1), 1)
        signals["painted"] = painted(boxes, looked, seen, picture)
        for name, values in (("flags", first.flags * seen.flags), ("heat", heat)):
            signals[name] = np.zeros(len(boxes), dtype=np.float32)
            signals[name][looked] = values
        tightened = boxes.copy()
        tightened[looked] = (boxes[looked] + drawn.numpy()) / 2
        boxes = np.where(agreement[:, None] > TRUSTED, tightened, boxes)
        alike = iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
        surer = scores > scores[:, None]
        signals["repeated"] = (alike * surer).max(axis=1, initial=0)
        signals |= nesting(boxes, scores)
        return Candidates(boxes, signals, looked, seen)

    def _detect(self, picture: ImagePyramid) -> Detections:
        found = self.candidates(picture)
        scores = np.where(found.looked, LOOKED(found.signals), UNLOOKED(found.signals))
        good = (scores >= self.threshold) & (found.signals["painted"] < PAINTED)
        alike = likeness(found, picture.width, picture.height)
        kept: list[int] = []
        for row in np.argsort(-scores, kind="stable"):
            if good[row] and not (alike[row, kept] > SAME).any():
                kept.append(int(row))
        return Detections(torch.from_numpy(found.boxes[kept].reshape(-1, 4)), torch.from_numpy(scores[kept]))
