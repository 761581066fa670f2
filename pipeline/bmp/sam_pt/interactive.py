"""Simulated clicks: masks are corrected by points on the way, and each correction is followed onwards.

The interactive protocol of SAM-PT (arXiv 2307.01197). It knows the ground truth, which stands for the person who
clicks; it knows no data set and no metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bmp.errors import UserError
from bmp.sam_pt.engine import SAMPT, SegmentedFrame, TrackedObjects
from bmp.segmenters.sam_pt import PromptedMasks, prompted_masks
from bmp.stages import ImageView
from bmp.structures import Frame


@dataclass(frozen=True)
class Clicks:
    """How much is clicked.

    enough: IoU from which a mask is left as it is. per_frame: corrections of an object in a frame, at the most. total:
    of an object in the whole video.

    Raises:
        UserError: for an IoU that is none, and counts below 1.
    """

    enough: float = 0.95
    per_frame: int = 4
    total: int = 300

    def __post_init__(self) -> None:
        if not 0 < self.enough <= 1:
            raise UserError(f"Clicks: enough: expected an IoU above 0 and up to 1, got {self.enough}")
        for name in ("per_frame", "total"):
            if getattr(self, name) < 1:
                raise UserError(f"Clicks: {name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class ClickedFrame:
    """A frame when all clicks in it are done.

    segmented: objects in the order of their ids; masks may overlap. clicks: int64 (O,), corrections in this frame.
    """

    segmented: SegmentedFrame
    clicks: Tensor


def interact(
    model: SAMPT, frames: Iterable[tuple[Frame, Mapping[int, Tensor] | None]], clicks: Clicks | None = None
) -> Iterator[ClickedFrame]:
    """Follow objects through frames as somebody corrects their masks, and yield each frame as soon as it is done.

    An object begins where it is first labelled, without a point. In each labelled frame, as long as its mask is not
    good enough and clicks are left, a negative point on it is removed; else a positive one beside it; else a point is
    added in the middle of the largest region that is wrong. What is clicked is followed into the next frames.

    Args:
        model: its tracker, segmenter, number of refinements and limit of scores are used; each object is asked about
            by itself, and no other points are chosen.
        frames: each with the true masks by id, bool (H, W); None for a frame that nobody has labelled. Somebody who
            was labelled before and is not among them has an empty mask.
        clicks: how much is clicked; None for ``Clicks()``.

    Raises:
        UserError: for a tracker that answers late.
    """
    clicks, tracker = clicks or Clicks(), model.tracker
    if tracker.delay:
        raise UserError("clicks: this tracker answers late; choose one that answers at once, such as LucasKanade")
    objects, spent = _nobody(), dict[int, int]()
    state, previous = None, None
    for frame, truth in frames:
        image = frame.image
        if previous is None:
            state = tracker.start(image)
        else:
            found, seen, _ = tracker.step(state, previous, image, objects.points.reshape(-1, 2))
            objects = model.moved(objects, found, seen, image)
        previous = image
        known = objects.ids.tolist()
        objects = _joined([objects, *(_begun(number) for number in sorted(truth or ()) if number not in known)])
        objects = objects[objects.ids.argsort()]
        asking = _Asking(model, model.segmenter.open([image])[0], image.height, image.width)
        rows, bits, scores, asked, made = [], [], [], [], []
        for row, number in enumerate(objects.ids.tolist()):
            one = objects[[row]]
            mask, answer = asking.about(one)
            count = 0
            wanted = None if truth is None else truth.get(number, torch.zeros_like(mask))
            while (
                wanted is not None
                and count < clicks.per_frame
                and spent.get(number, 0) < clicks.total
                and _iou(mask, wanted) < clicks.enough
            ):
                one, count, spent[number] = corrected(one, mask, wanted), count + 1, spent.get(number, 0) + 1
                mask, answer = asking.about(one)
            rows.append(one)
            bits.append(mask)
            scores.append(float(answer.scores[0]))
            asked.append(bool(answer.asked[0]))
            made.append(count)
        objects = _joined([_nobody(), *rows])
        masks = torch.stack(bits) if bits else torch.zeros(0, image.height, image.width, dtype=torch.bool)
        segmented = SegmentedFrame(frame, objects, masks, torch.tensor(scores), torch.tensor(asked, dtype=torch.bool))
        yield ClickedFrame(segmented, torch.tensor(made, dtype=torch.int64))


def corrected(one: TrackedObjects, mask: Tensor, truth: Tensor) -> TrackedObjects:
    """Return an object, one row, with one correction: a point less that is wrong, or else a point more.

    Args:
        one: points that count are seen.
        mask: bool (H, W), found with them, and not the same as ``truth``.
        truth: bool (H, W).
    """
    height, width = truth.shape
    columns, lines = one.points[0].round().long().unbind(dim=1)
    inside = truth[lines.clamp(0, height - 1), columns.clamp(0, width - 1)].cpu()
    for label, misplaced in ((0, inside), (1, ~inside)):
        wrong = (one.seen[0] & (one.labels[0] == label) & misplaced).nonzero()[:, 0]
        if len(wrong):
            labels, seen = one.labels.clone(), one.seen.clone()
            labels[0, wrong[0]], seen[0, wrong[0]] = -1, False
            return replace(one, labels=labels, seen=seen)
    missing, surplus = _largest(truth & ~mask), _largest(mask & ~truth)
    positive = int(missing.sum()) >= int(surplus.sum())
    place = _middle(missing if positive else surplus)
    return TrackedObjects(
        one.ids,
        torch.cat([one.points, place[None, None]], dim=1),
        F.pad(one.labels, (0, 1), value=int(positive)),
        F.pad(one.seen, (0, 1), value=True),
    )


class _Asking:
    """Asks the segmenter about one object of a frame at a time."""

    def __init__(self, model: SAMPT, view: ImageView, height: int, width: int) -> None:
        self._segmenter, self._view, self._size = model.segmenter, view, (height, width)
        self._rules = replace(model.rules, negatives=True, others=False)

    def about(self, one: TrackedObjects) -> tuple[Tensor, PromptedMasks]:
        """Return the mask bool (H, W) on the CPU, and the answer."""
        labels = torch.where(one.seen, one.labels, -1).to(torch.int8)
        answer = prompted_masks(self._segmenter, self._view, one.points, labels, self._rules)
        if not bool(answer.asked[0]):
            return torch.zeros(self._size, dtype=torch.bool), answer
        return self._segmenter.enlarge(self._view, answer.logits)[0].cpu() > 0, answer


def _nobody() -> TrackedObjects:
    none = torch.zeros(0, 1)
    return TrackedObjects(none[:, 0].long(), none[..., None].repeat(1, 1, 2), none.to(torch.int8), none.bool())


def _begun(number: int) -> TrackedObjects:
    """Return an object without a point."""
    return TrackedObjects(
        torch.tensor([number]),
        torch.zeros(1, 1, 2),
        torch.full((1, 1), -1, dtype=torch.int8),
        torch.zeros(1, 1, dtype=torch.bool),
    )


def _joined(parts: list[TrackedObjects]) -> TrackedObjects:
    """Stack objects with different numbers of points; what was removed makes room."""
    packed = [_packed(part) for part in parts]
    most = max(part.labels.shape[1] for part in packed)
    return TrackedObjects.concat(
        [
            TrackedObjects(
                part.ids,
                F.pad(part.points, (0, 0, 0, most - part.labels.shape[1])),
                F.pad(part.labels, (0, most - part.labels.shape[1]), value=-1),
                F.pad(part.seen, (0, most - part.seen.shape[1])),
            )
            for part in packed
        ]
    )


def _packed(objects: TrackedObjects) -> TrackedObjects:
    """Leave out the columns in which nobody has a point; one at least stays."""
    kept = (objects.labels >= 0).any(dim=0)
    kept[0] |= not bool(kept.any())
    return TrackedObjects(objects.ids, objects.points[:, kept], objects.labels[:, kept], objects.seen[:, kept])


def _iou(first: Tensor, second: Tensor) -> float:
    """Return the IoU of two masks, 1 where both are empty."""
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 1.0


def _largest(region: Tensor) -> Tensor:
    """Return the largest part of a region bool (H, W) that hangs together, the first of equals."""
    count, numbers, parts, _ = cv2.connectedComponentsWithStats(region.cpu().numpy().view(np.uint8), connectivity=8)
    if count < 2:
        return torch.zeros_like(region)
    return torch.from_numpy(numbers == 1 + int(parts[1:, cv2.CC_STAT_AREA].argmax()))


def _middle(region: Tensor) -> Tensor:
    """Return the pixel of a region that is farthest from its edge, which the frame's edge is as well: x and y, (2,)."""
    bits = np.pad(region.cpu().numpy().view(np.uint8), 1)
    depths = cv2.distanceTransform(bits, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depths.argmax()), depths.shape)
    return torch.tensor([float(column), float(row)])
