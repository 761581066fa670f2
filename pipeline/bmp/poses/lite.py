"""A pose estimator that runs anywhere: the landmark network, looking twice; knows nothing of the other stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bmp.checkpoints.sources import resolve
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.lite import landmarks, regions
from bmp.models.lite.landmarks import COCO_LANDMARKS, Landmarks
from bmp.models.lite.regions import Array, ImagePyramid
from bmp.registry import POSES
from bmp.structures import Detections, Image, Poses

BOX_SCALE = 1.25
GROWTH = np.float32(1.5) ** np.arange(3, dtype=np.float32)  # heights of a person cut off by the image, over the box's
TALL = 3.0  # height over width from which a box holds a whole person, wherever it ends
EDGE = 0.03  # part of its height by which a box may miss the image's edge and still end there


@POSES.register_module()
class LitePoseEstimator:
    """COCO's 17 keypoints out of the network's 33 landmarks.

    The first look is at the box, upright; its landmarks say where and how turned the second one is, if they are a
    person's at all. For a box that ends at the lower edge of the image there are several first looks, since people who
    are cut off there go on below it; the surest counts. The masks of the detections are not used. A keypoint's score
    is the height of its heat map, times the network's flag that there is a person at all.

    Args:
        weights: of the landmark network, a path or a name that ``bmp.checkpoints.sources`` knows.
        num_threads: of the network.

    Raises:
        UserError: for a value out of range, or weights that cannot be had.
        ImportError: where LiteRT is not installed.
    """

    keypoints = COCO_KEYPOINTS

    def __init__(self, weights: str = landmarks.WEIGHTS, num_threads: int = 2) -> None:
        self._landmarks = landmarks.load(resolve(weights), num_threads)

    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        """Return poses row by row for ``people``, in pixels of the images, on the CPU."""
        return [self._estimate(image, who) for image, who in zip(images, people, strict=True)]

    def _estimate(self, image: Image, people: Detections) -> Poses:
        if not len(people):
            return Poses.empty(len(self.keypoints))
        picture = ImagePyramid.of(image)
        first = self._first_look(picture, people.boxes.cpu().numpy())
        seen = landmarks.look_again(self._landmarks, picture, first)
        columns = seen.points, seen.heat * seen.flags[:, None], seen.visibility, seen.presence
        return Poses(*(torch.from_numpy(column[:, COCO_LANDMARKS]) for column in columns))

    def _first_look(self, picture: ImagePyramid, boxes: Array) -> Landmarks:
        """Look at each box upright; at one that ends with the image also as if the person went on below it."""
        tall = boxes[:, 3] - boxes[:, 1]
        cut = (boxes[:, 3] > picture.height - EDGE * tall) & (tall <= TALL * (boxes[:, 2] - boxes[:, 0]))
        person, factor = np.nonzero(cut[:, None] | (GROWTH == 1))
        grown = boxes[person]
        grown[:, 3] += (GROWTH[factor] - 1) * tall[person]
        seen = self._landmarks(picture, regions.from_boxes(grown, BOX_SCALE))
        sureness = np.zeros((len(boxes), len(GROWTH)), dtype=np.float32)
        sureness[person, factor] = seen.flags * seen.heat[:, COCO_LANDMARKS].mean(axis=1)
        return seen[np.flatnonzero(sureness.argmax(axis=1)[person] == factor)]
