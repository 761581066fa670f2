"""What is to be followed: an object by its mask, by points or by a box in a frame. Knows no tracker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.stages import ImageView, PromptableSegmenter
from bmp.structures import Image, Prompts


@dataclass(frozen=True, eq=False)
class Query:
    """An object to be followed, as it is in a frame.

    Attributes:
        id: from 1, another one for each object.
        frame: the number of the frame.
        mask: bool (H, W), of the frame's size; None where points or a box say what is meant.
        points: float32 (n, 2), x and y in pixels, which are followed before all others; None for none.
        labels: int8 (n,), 1 for points on the object and 0 for those beside it; None if all are on it.
        box: float32 (4,), xyxy edges around the object, where there is no mask; None for none.

    Raises:
        UserError: for an object without mask, points and box, one with two different things that say where it is, and
            values that make no sense.
    """

    id: int
    frame: int = 0
    mask: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None
    box: Tensor | None = None

    def __post_init__(self) -> None:
        if self.id < 1 or self.frame < 0:
            raise UserError(f"object {self.id}: expected an id from 1 and a frame from 0, got frame {self.frame}")
        if self.mask is None and self.points is None and self.box is None:
            raise UserError(f"object {self.id}: expected a mask, points or a box, got none of them")
        if self.mask is not None and self.box is not None:
            raise UserError(f"object {self.id}: expected a mask or a box, got both; leave one out")
        if self.mask is not None and (self.mask.dtype != torch.bool or self.mask.ndim != 2):
            raise UserError(
                f"object {self.id}: expected a mask bool (H, W), got {self.mask.dtype} {tuple(self.mask.shape)}"
            )
        if self.mask is not None and not bool(self.mask.any()):
            raise UserError(f"object {self.id}: its mask is empty; draw it, or leave the object out")
        if self.points is not None and (self.points.ndim != 2 or self.points.shape[1:] != (2,)):
            raise UserError(f"object {self.id}: expected points (n, 2), got {tuple(self.points.shape)}")
        if self.labels is not None and (self.points is None or len(self.labels) != len(self.points)):
            raise UserError(f"object {self.id}: expected as many labels as points, got {len(self.labels)}")
        if self.mask is None and self.box is None and not bool((self.point_labels == 1).any()):
            raise UserError(f"object {self.id}: expected a point on the object, got only points beside it")
        if self.box is not None and not bool((self.box[:2] < self.box[2:]).all()):
            raise UserError(
                f"object {self.id}: expected a box x1,y1,x2,y2 with x1 < x2 and y1 < y2, got {_words(self.box)}"
            )

    @property
    def point_labels(self) -> Tensor:
        """What the points are, int8 (n,)."""
        count = 0 if self.points is None else len(self.points)
        return torch.ones(count, dtype=torch.int8) if self.labels is None else self.labels.to(torch.int8)

    @property
    def point_places(self) -> Tensor:
        """Where the points are, float32 (n, 2)."""
        return torch.zeros(0, 2) if self.points is None else self.points.to(torch.float32)


def mask_of(
    query: Query, image: Image, view: Callable[[], ImageView], segmenter: PromptableSegmenter
) -> tuple[Tensor, float]:
    """Return the mask of an object in its frame, bool (H, W) on the CPU, and how sure it is: 1 for one that was given.

    Points and boxes without a mask become one by a single question to the segmenter; ``view`` returns its view
    of the frame.

    Raises:
        UserError: for a mask of another size than the frame, points and boxes outside of it, and where the segmenter
            finds nothing.
    """
    size = f"{image.width}x{image.height}"
    if query.mask is not None and query.mask.shape != (image.height, image.width):
        height, width = query.mask.shape
        raise UserError(
            f"object {query.id}: its mask has {width}x{height} pixels, frame {query.frame} has {size}; give a mask of "
            "the video's own size"
        )
    points, labels, high = query.point_places, query.point_labels, torch.tensor([image.width, image.height])
    outside = ((points < 0) | (points >= high)).any(dim=1)
    if bool(outside.any()):
        raise UserError(f"object {query.id}: its point {_words(points[outside][0])} is outside of the frame, {size}")
    if query.mask is not None:
        return query.mask.cpu(), 1.0
    boxes = None if query.box is None else query.box.to(torch.float32)[None].cpu()
    if boxes is not None and bool(((boxes[0, :2] >= high) | (boxes[0, 2:] <= 0)).any()):
        raise UserError(f"object {query.id}: its box {_words(boxes[0])} is outside of the frame, {size}")
    prompts = Prompts(points[None], labels[None], torch.full((1, len(points)), -1), boxes)
    seen = view()
    ((logits, scores),) = segmenter.logits([seen], [prompts])
    mask = segmenter.bits(seen, logits)[0].cpu()
    if not bool(mask.any()):
        raise UserError(f"object {query.id}: the segmenter finds nothing there in frame {query.frame}; give its mask")
    return mask, float(scores[0])


def _words(numbers: Tensor) -> str:
    return ",".join(f"{number:g}" for number in numbers.tolist())
