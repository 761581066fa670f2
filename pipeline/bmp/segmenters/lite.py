"""A segmenter that runs anywhere: the landmark network's masks of a person, and the shape that people in boxes have.

Knows no prompts, and nothing of who made the poses.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from bmp.checkpoints.sources import resolve
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, conversion
from bmp.models.lite import landmarks, regions
from bmp.models.lite.landmarks import Landmarks
from bmp.models.lite.logistic import Logistic, logit
from bmp.models.lite.regions import Array, ImagePyramid
from bmp.ops.boxes import iou
from bmp.registry import SEGMENTERS
from bmp.structures import Detections, Image, Masks, Poses
from bmp.structures.mask_windows import MaskWindows

BOX_SCALE = 1.25
# Radius of the circle that encloses a body, over the root mean square distance of its keypoints from the hips.
REACH = 1.7
DIFFERENCE = 0.15  # from the second look up to which the pose tells nowhere else to look
GRID = 64  # cells along each edge of a box, of which it is told whether they are the person's
OWN = 0.35  # probability from which they are
RANK = 0.5  # power of a person's score by which claims to the same pixel are weighed
FAINT = 0.007  # probabilities of the network's masks nearer to 0 or 1 say no more than this does
SHOULDERS = [COCO_KEYPOINTS.names.index(f"{side}_shoulder") for side in ("left", "right")]
HIPS = [COCO_KEYPOINTS.names.index(f"{side}_hip") for side in ("left", "right")]

# Fitted by benchmarks/fit_lite.py.
CELLS = Logistic(
    {
        "across^2": -3.059,
        "across^4": -0.687,
        "down": 0.16,
        "down^2": -1.484,
        "down^4": -0.99,
        "across^2 down": 0.614,
        "across^2 down^2": -0.342,
        "second": -0.099,
        "posed": -0.136,
        "fit": -0.638,
        "across^2 fit": 1.912,
        "across^4 fit": 0.661,
        "down fit": -0.735,
        "down^2 fit": 0.207,
        "down^4 fit": 1.427,
        "across^2 down fit": 0.441,
        "across^2 down^2 fit": 1.231,
        "second fit": 0.381,
        "posed fit": 0.403,
    },
    1.214,
)


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


def fit(seen: Landmarks, boxes: Array, width: int, height: int) -> Array:
    """Return the IoU (N,) of ``boxes`` (N, 4) and the extents of the masks ``seen``, cut to the image."""
    extents, some = regions.extents(seen.masks > 0.5, seen.regions)
    drawn = np.clip(extents, 0, np.array([width, height] * 2, dtype=np.float32))
    overlap = iou(torch.from_numpy(drawn), torch.from_numpy(boxes)).diagonal().numpy()
    return np.asarray(overlap * some, dtype=np.float32)


def cell_signals(second: Array, posed: Array, second_fit: float, posed_fit: float) -> dict[str, Array]:
    """Return what tells whether the cells of a box are the person's, (n, n) each.

    second, posed: (n, n), the probabilities of two looks. second_fit, posed_fit: IoU of their masks' extents and the
    box: a mask that does not fit is somebody else's. The powers of the place in the box, from -1 to 1 each way, are
    the shape that people have.
    """
    place = ((np.arange(len(posed)) + 0.5) / len(posed) * 2 - 1).astype(np.float32)
    across, down = (np.asarray(values, dtype=np.float32) for values in np.meshgrid(place, place))
    shape: dict[str, Array] = {
        "across^2": across**2,
        "across^4": across**4,
        "down": down,
        "down^2": down**2,
        "down^4": down**4,
        "across^2 down": across**2 * down,
        "across^2 down^2": across**2 * down**2,
    }
    looks = {"second": logit(second, FAINT), "posed": logit(posed, FAINT)}
    return {
        **shape,
        **looks,
        "fit": np.full_like(across, posed_fit),
        **{f"{name} fit": values * np.float32(posed_fit) for name, values in shape.items()},
        "second fit": looks["second"] * np.float32(second_fit),
        "posed fit": looks["posed"] * np.float32(posed_fit),
    }


def shared_out(claims: Array, weights: Array, boxes: Array, width: int, height: int) -> MaskWindows:
    """Give each pixel of an image to one person at most: to whom it is likeliest to belong.

    Args:
        claims: (N, n, n), the probability that a cell of a person's box is the person's.
        weights: (N,), what people's claims are multiplied by before they are compared.
        boxes: (N, 4).
        width: of the image.
        height: of the image.

    Returns:
        disjoint masks in the windows of the boxes; true only where a claim is `OWN` or more.
    """
    best = np.zeros((height, width), dtype=np.float32)
    owner = np.full((height, width), -1, dtype=np.int32)
    low = np.clip(np.floor(boxes[:, :2]), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(boxes[:, 2:]), 0, (width, height)).astype(int)
    windows = [(slice(y1, y2), slice(x1, x2)) for (x1, y1), (x2, y2) in zip(low, high, strict=True)]
    filled = [row for row in range(len(boxes)) if (high[row] > low[row]).all()]
    for row in filled:
        cells = len(claims[row]) / np.maximum(boxes[row, 2:] - boxes[row, :2], 1e-3)
        # From pixel numbers of the window to those of the cells.
        matrix = np.column_stack([np.diag(cells), (low[row] + 0.5 - boxes[row, :2]) * cells - 0.5])
        extent = tuple(int(edge) for edge in high[row] - low[row])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        claim = cv2.warpAffine(claims[row], matrix, extent, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        weighed = claim * weights[row]
        wins = (claim >= OWN) & (weighed > best[windows[row]])
        best[windows[row]][wins] = weighed[wins]
        owner[windows[row]][wins] = row
    patches = [torch.zeros(0, 0, dtype=torch.bool)] * len(boxes)
    corners = [(0, 0)] * len(boxes)
    for row in filled:
        patches[row] = torch.from_numpy(owner[windows[row]] == row)
        corners[row] = (int(low[row, 0]), int(low[row, 1]))
    return MaskWindows(height, width, tuple(corners), tuple(patches), torch.device("cpu"))


def expected_iou(claims: Array) -> Array:
    """Return the IoU (N,) that masks of all cells from `OWN` on are expected to have, if ``claims`` (N, n, n) hold.

    It is the expected intersection over the expected union: of a person whom the box holds, before others take a part.
    """
    own = claims >= OWN
    union = (own + claims * ~own).sum(axis=(1, 2))
    return np.asarray((claims * own).sum(axis=(1, 2)) / np.maximum(union, 1e-6), dtype=np.float32)


def claims(signals: Sequence[dict[str, Array]]) -> Array:
    """Return the probability (N, n, n) that the cells of each box are the person's, given that the box is right."""
    return np.stack([CELLS(each) for each in signals]) if signals else np.zeros((0, GRID, GRID), np.float32)


def to_masks(claims: Array, people: Detections, width: int, height: int) -> Masks:
    """Return disjoint masks of ``people``, made of their ``claims`` (N, n, n) to the cells of their boxes."""
    weights = people.scores.cpu().numpy().clip(1e-3) ** np.float32(RANK)
    bits = shared_out(claims, weights, people.boxes.cpu().numpy(), width, height)
    return Masks(bits, torch.from_numpy(expected_iou(claims)))


@SEGMENTERS.register_module()
class LiteSegmenter:
    """Masks of the landmark network and the shape that people in boxes have, joined by a logistic model.

    The network's masks come from two looks: one that it chose itself after a look at the box, and one where the pose
    says that the person is. How much each counts depends on how well its extent fits the box: where the network has
    seen somebody else or nobody, the shape alone remains. Pixels that several people of a call claim go to whose
    they are likeliest, people's own scores considered, so that these masks do not overlap. Nothing lies outside the
    box. The scores are the expected IoU.

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
        return to_masks(claims(self.signals(picture, boxes, keypoints, scores)), people, picture.width, picture.height)

    def signals(self, picture: ImagePyramid, boxes: Array, keypoints: Array, scores: Array) -> list[dict[str, Array]]:
        """Return what tells which cells of a box are the person's, a dict of (n, n) for each person.

        boxes: (N, 4). keypoints: (N, 17, 2). scores: (N, 17).
        """
        first = self._landmarks(picture, regions.from_boxes(boxes, BOX_SCALE))
        second = landmarks.look_again(self._landmarks, picture, first)
        where = look_where(keypoints, scores, boxes)
        new = np.flatnonzero(~regions.alike(where, second.regions, DIFFERENCE))
        posed = second.replaced(new, self._landmarks(picture, where[new]))
        second_fits, posed_fits = (fit(seen, boxes, picture.width, picture.height) for seen in (second, posed))

        def over(seen: Landmarks, row: int) -> Array:
            return regions.over_box(seen.masks[row], seen.regions[row], boxes[row], GRID)

        return [
            cell_signals(over(second, row), over(posed, row), float(second_fits[row]), float(posed_fits[row]))
            for row in range(len(boxes))
        ]
