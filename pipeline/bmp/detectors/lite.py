"""A person detector of two small networks that run anywhere; knows nothing of the pose estimator or the loop.

One network finds faces and bodies in tiles of the image; the landmark network then looks at each find twice. Only
what both networks and both looks agree on counts, and a person's box is what the landmarks and their mask cover.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmp.checkpoints.sources import resolve
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.lite import landmarks, litert, regions
from bmp.models.lite.landmarks import BODY, COCO, Landmarks
from bmp.models.lite.regions import Array, Picture
from bmp.ops.boxes import area, iou
from bmp.ops.oks import oks
from bmp.registry import DETECTORS
from bmp.structures import Detections, Image

SIZE = 224
ROW_THRESHOLD = 0.3  # of a row of the first network; the second judges what passes
MERGE_IOU = 0.4
AGREEMENT = 0.05  # shift of the keypoints between the two looks, as a fraction of the region, that costs a factor e
HEAT = 0.4  # mean height of the heat maps at a person's keypoints; what merely resembles people has less
SAME_POSE = 0.5  # OKS from which two people are one
SAME_MASK = 0.6  # share of a mask within a stronger person's from which two people are one
CANVAS = 256  # longer edge in pixels on which masks are compared


def anchors() -> Array:
    """Return the places (2254, 2) in fractions of the tile that the rows of the network's output start from."""
    grids = []
    for cells, copies in ((28, 2), (14, 2), (7, 6)):
        middles = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        x, y = np.meshgrid(middles, middles)
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1).repeat(copies, axis=0))
    return np.concatenate(grids)


def tiles(width: int, height: int) -> Array:
    """Return regions (T, 4), ten at most: the whole image, and windows of half its longer edge that overlap by half."""
    whole = max(width, height)
    half = whole / 2

    def middles(edge: int) -> list[float]:
        count = int(np.ceil(max(edge - half, 0) / (half / 2))) + 1
        return [float(x) for x in np.linspace(half / 2, edge - half / 2, count)] if count > 1 else [edge / 2]

    windows = [(x, y, half, 0) for y in middles(height) for x in middles(width)]
    return np.array([(width / 2, height / 2, whole, 0), *windows], dtype=np.float32)


def decode(rows: Array, logits: Array, mirrored: bool) -> tuple[Array, Array]:
    """Read the output for one tile.

    Args:
        rows: (2254, 12), in pixels of the tile: offset of the centre from the anchor, size, and offsets of four
            points from it, of which the middle of the hips and the circle around the body matter here.
        logits: (2254, 1).
        mirrored: whether the network saw the tile mirrored.

    Returns:
        Scores (n,) of the rows above the threshold, and (n, 4, 2), in fractions of the tile: the box's top left and
        bottom right corners, the hips, the point on the circle.
    """
    scores = landmarks.sigmoid(logits[:, 0])
    good = scores > ROW_THRESHOLD
    places = (rows[good, :8] / np.float32(SIZE)).reshape(-1, 4, 2)
    centres, half, points = places[:, :1], np.abs(places[:, 1:2]) / 2, places[:, 2:]
    places = np.concatenate([centres - half, centres + half, points], axis=1) + anchors()[good, None]
    if mirrored:
        places = np.stack([1 - places[..., 0], places[..., 1]], axis=2)
        places[:, :2, 0] = places[:, 1::-1, 0]
    return scores[good], places


def merge(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Unite rows whose boxes overlap: the best row's score, and the score-weighted mean of all of them.

    scores: (N,). places: (N, 4, 2), of which the first two are the corners of a box. Returns (M,) and (M, 4, 2),
    best first.
    """
    order = scores.argsort(descending=True, stable=True)
    scores, places = scores[order], places[order]
    close = iou(places[:, :2].flatten(1), places[:, :2].flatten(1)) > MERGE_IOU
    free = torch.ones(len(scores), dtype=torch.bool)
    best, means = [], []
    for row in range(len(scores)):
        if free[row]:
            group = close[row] & free
            group[row] = True
            free &= ~group
            weights = scores[group] / scores[group].sum()
            best.append(scores[row])
            means.append((weights[:, None, None] * places[group]).sum(dim=0))
    return (torch.stack(best), torch.stack(means)) if best else (scores, places)


def extents(people: Landmarks, width: int, height: int) -> Tensor:
    """Return the boxes (N, 4) that hold each person's landmarks and mask, cut to the image."""
    mask = people.masks > 0.5
    inside = np.expand_dims(mask.any(axis=2), 2)
    rows = np.broadcast_to(np.arange(landmarks.SIZE), mask.shape[:2])
    left = np.stack([mask.argmax(axis=2), rows], axis=2)
    right = np.stack([landmarks.SIZE - mask[..., ::-1].argmax(axis=2), rows + 1], axis=2)
    body = people.points[:, BODY]
    # the ends of a mask's rows hold its whole outline; rows without any are a point of the body instead
    ends = [
        np.where(inside, regions.to_image((end / landmarks.SIZE).astype(np.float32), people.regions), body[:, :1])
        for end in (left, right)
    ]
    points = np.concatenate([body, *ends], axis=1)
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    return torch.from_numpy(np.clip(boxes, 0, [width, height, width, height]).astype(np.float32))


def credible(people: Landmarks, picture: Picture) -> NDArray[np.bool_]:
    """Return which of ``people`` (N,) have keypoints that can be made out, most of them not on painted-out pixels.

    The silhouette of a painted-out person looks like one to both networks. Photos hardly have pixels that are all
    zero, so keypoints on such pixels tell them apart. Keypoints outside the image do not count.
    """
    places = np.floor(people.points[:, COCO]).astype(np.int64)
    inside = ((places >= 0) & (places < [picture.width, picture.height])).all(axis=2)
    x, y = np.clip(places, 0, [picture.width - 1, picture.height - 1]).transpose(2, 0, 1)
    painted = (picture.levels[0][y, x] == 0).all(axis=2) & inside
    count = inside.sum(axis=1)
    seen = (people.heat[:, COCO] * inside).sum(axis=1) > HEAT * count
    return np.asarray(seen & (2 * painted.sum(axis=1) < count), dtype=np.bool_)


def distinct(people: Landmarks, boxes: Tensor, width: int, height: int) -> list[int]:
    """Return the rows of ``people``, who come best first, without those who are a better one's duplicate or part."""
    scale = CANVAS / max(width, height, CANVAS)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    masks = np.stack([regions.paste(m, r, *size, scale) for m, r in zip(people.masks, people.regions, strict=True)])
    flat = torch.from_numpy(masks).flatten(1).float()
    covered = flat @ flat.T / flat.sum(dim=1, keepdim=True).clamp(min=1)
    keypoints = torch.from_numpy(people.points[:, COCO])
    alike = oks(keypoints, keypoints, area(boxes), torch.tensor(COCO_KEYPOINTS.sigmas))
    same = (covered > SAME_MASK) | (alike.T > SAME_POSE)
    kept: list[int] = []
    for row in range(len(people)):
        if not same[row, kept].any():
            kept.append(row)
    return kept


@DETECTORS.register_module()
class LiteDetector:
    """Finds a few separable people; entangled or distant ones are often missed.

    Scores: that of the first network, times the flag of both looks of the landmark network, times their agreement,
    times the mean visibility of the keypoints.

    Args:
        weights: of the network that finds faces and bodies, a path or a name that ``bmp.checkpoints.sources`` knows.
        landmark_weights: of the landmark network, likewise.
        threshold: score from which a find is a person, in [0, 1].
        max_candidates: how many finds of an image the landmark network looks at, the best ones.
        num_threads: of each network.

    Raises:
        UserError: for a value out of range, or weights that cannot be had.
        ImportError: where LiteRT is not installed.
    """

    def __init__(
        self,
        weights: str = "mediapipe/pose_detection.tflite",
        landmark_weights: str = landmarks.WEIGHTS,
        threshold: float = 0.1,
        max_candidates: int = 40,
        num_threads: int = 2,
    ) -> None:
        if not 0 <= threshold <= 1 or max_candidates < 1:
            raise UserError(
                "LiteDetector: expected threshold in [0, 1] and max_candidates of at least 1, "
                f"got {threshold} and {max_candidates}; the defaults are 0.1 and 40"
            )
        self.threshold = threshold
        self.max_candidates = max_candidates
        self._finder = litert.load(resolve(weights), num_threads)
        self._landmarks = landmarks.load(resolve(landmark_weights), num_threads)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Return the people of each image, best first, without masks, on the CPU."""
        return [self._detect(Picture.of(image)) for image in images]

    def _detect(self, picture: Picture) -> Detections:
        scores, people = self._judge(picture, *self._find(picture))
        boxes = extents(people, picture.width, picture.height)
        order = scores.argsort(descending=True, stable=True)
        good = (scores > self.threshold) & (area(boxes) > 0) & torch.from_numpy(credible(people, picture))
        order = order[good[order]]
        scores, boxes = scores[order], boxes[order]
        if not len(order):
            return Detections.empty()
        kept = distinct(people[order.numpy()], boxes, picture.width, picture.height)
        return Detections(boxes[kept], scores[kept])

    def _find(self, picture: Picture) -> tuple[Array, Array]:
        """Return the scores (M,) and regions (M, 4) of what may be people."""
        scores, places = [], []
        for tile in tiles(picture.width, picture.height):
            crop = picture.crop(tile, SIZE).astype(np.float32) / np.float32(127.5) - np.float32(1)
            for mirrored in (False, True):
                rows, logits = self._finder(np.ascontiguousarray(crop[:, ::-1]) if mirrored else crop)
                found, where = decode(rows, logits, mirrored)
                scores.append(found)
                places.append(regions.to_image(where, np.broadcast_to(tile, (len(where), 4))))
        best, merged = merge(torch.from_numpy(np.concatenate(scores)), torch.from_numpy(np.concatenate(places)))
        points = merged[: self.max_candidates].numpy()
        wanted = regions.from_points(points[:, 2], points[:, 3], landmarks.REGION_SCALE)
        return best[: self.max_candidates].numpy(), wanted

    def _judge(self, picture: Picture, scores: Array, wanted: Array) -> tuple[Tensor, Landmarks]:
        """Look at each region twice; return the composite scores (M,) and what the second look saw."""
        first = self._landmarks(picture, wanted)
        # every further factor is 1 at most: whoever is below the threshold by now stays there
        hopeful = np.flatnonzero(scores * first.flags > self.threshold)
        scores, first = (scores * first.flags)[hopeful], first[hopeful]
        second = self._landmarks(picture, first.next_regions())
        shift = np.linalg.norm(second.points[:, COCO] - first.points[:, COCO], axis=2).mean(axis=1)
        agreement = np.exp(-((shift / second.regions[:, 2] / AGREEMENT) ** 2))
        scores = scores * second.flags * agreement * second.visibility[:, COCO].mean(axis=1)
        return torch.from_numpy(scores.astype(np.float32).clip(0, 1)), second
