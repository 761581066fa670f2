"""The model as a library user meets it: call it with pictures, get people. Knows no config and no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmp.io import images
from bmp.label_sets import KeypointSet
from bmp.loop import Loop, RoundTrace
from bmp.structures import Detections, Image, Instances

if TYPE_CHECKING:
    import PIL.Image

    Picture = str | Path | PIL.Image.Image | NDArray[np.uint8] | Tensor | Image


@dataclass(frozen=True, eq=False)
class People:
    """Everybody found in one image; row i of every property is the same person.

    image: the picture they are in. instances: the records of all stages. keypoint_set: what the K keypoints mean.
    trace: what happened round by round, empty unless it was asked for.
    """

    image: Image
    instances: Instances
    keypoint_set: KeypointSet
    trace: list[RoundTrace] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.instances)

    def __repr__(self) -> str:
        return f"People({len(self)} in {self.image.width}x{self.image.height} pixels)"

    @property
    def boxes(self) -> Tensor:
        """Float32 (N, 4), xyxy in pixels."""
        return self.instances.detections.boxes

    @property
    def scores(self) -> Tensor:
        """Float32 (N,) in [0, 1], the detector's."""
        return self.instances.detections.scores

    @property
    def masks(self) -> Tensor:
        """Bool (N, H, W); no pixel belongs to two people."""
        return self.instances.masks.bits

    @property
    def mask_scores(self) -> Tensor:
        """Float32 (N,) in [0, 1], predicted IoU."""
        return self.instances.masks.scores

    @property
    def keypoints(self) -> Tensor:
        """Float32 (N, K, 2), x and y in pixels."""
        return self.instances.poses.keypoints

    @property
    def keypoint_scores(self) -> Tensor:
        """Float32 (N, K) in [0, 1]."""
        return self.instances.poses.scores

    @property
    def visibility(self) -> Tensor:
        """Float32 (N, K) in [0, 1], the probability that a keypoint can be seen."""
        return self.instances.poses.visibility

    @property
    def presence(self) -> Tensor:
        """Float32 (N, K) in [0, 1], the probability that a keypoint is in the estimator's window."""
        return self.instances.poses.presence

    @property
    def round(self) -> Tensor:
        """Int64 (N,), the round in which each person was found, from 1."""
        return self.instances.round

    def plot(self) -> PIL.Image.Image:
        """Draw masks, skeletons and boxes over the picture."""
        from bmp.visualize import overlay

        return overlay(self.image, self.instances, self.keypoint_set)

    def plot_trace(self) -> PIL.Image.Image:
        """Draw a contact sheet of what happened round by round; needs people that were found with ``trace=True``."""
        from bmp.visualize import contact_sheet

        return contact_sheet(self.trace, self.image, self.keypoint_set)

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Return COCO annotations: bbox xywh, RLE segmentation, keypoints, score; ready for ``json.dump``."""
        from bmp.io.annotations import to_annotations

        return to_annotations(self.instances, image_id, self.keypoint_set, first_id)


class BMP(Loop):
    """The loop, called with any kind of picture. Built from parts (see ``Loop``) or by ``bmp.load``."""

    @overload
    def __call__(self, image: Picture, *, boxes: Any = None, batch_size: int = 4, trace: bool = False) -> People: ...

    @overload
    def __call__(
        self, image: list[Any] | tuple[Any, ...], *, boxes: Any = None, batch_size: int = 4, trace: bool = False
    ) -> list[People]: ...

    def __call__(
        self,
        image: Picture | list[Any] | tuple[Any, ...],
        *,
        boxes: Any = None,
        batch_size: int = 4,
        trace: bool = False,
    ) -> People | list[People]:
        """Find the people of one picture, or of a list of pictures.

        Args:
            image: a path, a PIL image, a uint8 RGB array (H, W, 3), or a list of these.
            boxes: (N, 4) xyxy boxes in pixels to start from in place of the detector; for a list, one such a picture.
            batch_size: how many pictures of a list go through the networks together.
            trace: keep what every stage of every round got and gave.

        Raises:
            ImageError: a picture cannot be read.
        """
        if not isinstance(image, list | tuple):
            return self([image], boxes=None if boxes is None else [boxes], trace=trace)[0]
        everybody: list[People] = []
        for start in range(0, len(image), batch_size):
            batch = [images.load(picture) for picture in image[start : start + batch_size]]
            given = None if boxes is None else [_given(rows) for rows in boxes[start : start + batch_size]]
            results = sorted(self.run(batch, given, trace), key=lambda result: result.index)
            everybody += [People(batch[r.index], r.people, self.pose.keypoints, r.trace) for r in results]
        return everybody


def _given(boxes: Any) -> Detections:
    """Boxes from the user count as certain."""
    rows = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(rows, torch.ones(len(rows)))
