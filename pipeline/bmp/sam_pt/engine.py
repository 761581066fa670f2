"""The run of SAM-PT over a video, a frame at a time; see the package. Knows protocols only."""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.ops.masks import RunLengths, exclusive, from_rle, to_rle
from bmp.ops.point_motion import agreeing, within_border
from bmp.ops.query_points import Method, object_points
from bmp.sam_pt.queries import Query, mask_of
from bmp.sam_pt.reinitialisation import Reinitialisation
from bmp.segmenters.prompted import promptable
from bmp.segmenters.sam_pt import PromptRules, prompted_masks
from bmp.stages import ImageView, PointTracker, PromptableSegmenter, Segmenter
from bmp.structures import Frame, Image, Record, column, optional_column

_CERTAIN = 1e8  # logit of a mask that was given
_CHUNK = 16  # frames that are held while a video is read backwards
_ALIKE, _SPREAD = 0.01, 3.0  # similarity of patches that a point needs, and what makes it fall off


class Film(Protocol):
    """A video of which any part can be read, as often as need be."""

    def __call__(self, start: int, end: int | None) -> Iterable[Frame]:
        """Return the frames with numbers from ``start`` up to ``end``, which is not among them; None for the rest."""
        ...


@dataclass(frozen=True, eq=False)
class TrackedObjects(Record):
    """The points by which objects are followed, as they are in one frame.

    ids: int64 (O,). points: float32 (O, P, 2), x and y in pixels. labels: int8 (O, P), 1 on the object, 0 beside it, -1
    for no point. seen: bool (O, P). patches: float32 (O, P, 27), what points looked like when they were chosen.
    """

    ids: Tensor = column("O", dtype=torch.int64)
    points: Tensor = column("O", "P", 2)
    labels: Tensor = column("O", "P", dtype=torch.int8)
    seen: Tensor = column("O", "P", dtype=torch.bool)
    patches: Tensor | None = optional_column("O", "P", 27)


@dataclass(frozen=True, eq=False)
class SegmentedFrame:
    """The objects of a frame; those that have not begun yet are not among them.

    frame: the picture. objects: their points, by id. bits: bool (O, H, W), their masks. scores: float32 (O,), predicted
    IoU, 1 for a mask that was given. asked: bool (O,), whether there was anything to ask the segmenter with; the score
    of the others means nothing.
    """

    frame: Frame
    objects: TrackedObjects
    bits: Tensor
    scores: Tensor
    asked: Tensor

    def labels(self) -> Tensor:
        """Return the id of the object that each pixel belongs to: int64 (H, W), 0 for none, the higher of several."""
        labels = torch.zeros(self.bits.shape[1:], dtype=torch.int64)
        for number, bits in zip(self.objects.ids.tolist(), self.bits.cpu(), strict=True):
            labels[bits] = number
        return labels


class SAMPT:
    """Follows objects through a video and draws their masks in every frame.

    Points of each object's first mask are followed by ``tracker``. In every frame those that can be seen ask
    ``segmenter`` for the mask, each frame for itself. Without ``reinitialisation`` frames stream: one is held, and as
    many as the tracker is late.

    What the public code does otherwise, by mistake, is not repeated: negative points never ask alone (an object of
    which no positive one is seen has an empty mask); an object without a mask is not begun anew, but keeps its points;
    a frame without points has no score, where there it makes the object's mean minus infinity; and neither all frames
    nor all logits are held in memory, but run lengths of what was found backwards.

    Args:
        tracker: follows the points.
        segmenter: answers them; one that is promptable, or that asks one.
        positives: points on each object.
        negatives: points beside it.
        positive_method: how the former are chosen; see ``bmp.ops.query_points``.
        negative_method: how the latter are.
        refinements: how many times an answer is asked to be corrected, with its own box.
        others: whether points on other objects count as negative ones.
        min_score: predicted IoU below which a mask is given up.
        similarity: whether a point has to look as it did when it was chosen, in Lab colours; one that once did not is
            lost.
        agreement: whether the points of an object have to move together; for a tracker that judges each by itself.
        reinitialisation: when points are drawn anew; None for never.
        exclusive: whether each pixel belongs to one object at most: that of the highest logit, if it is above 0.
        seed: of the choice of points; the same video and seed give the same masks.

    Raises:
        UserError: for numbers that make no sense, and a segmenter that cannot be asked by points.
    """

    def __init__(
        self,
        tracker: PointTracker,
        segmenter: Segmenter | PromptableSegmenter,
        *,
        positives: int = 16,
        negatives: int = 1,
        positive_method: Method = "k-medoids",
        negative_method: Method = "mixed",
        refinements: int = 12,
        others: bool = True,
        min_score: float = 0.7,
        similarity: bool = False,
        agreement: bool = True,
        reinitialisation: Reinitialisation | None = None,
        exclusive: bool = True,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("positives", positives, 1), ("negatives", negatives, 0), ("seed", seed, 0)):
            if value < least:
                raise UserError(f"{name}: expected at least {least}, got {value}")
        self.tracker = tracker
        self.segmenter: PromptableSegmenter = promptable(segmenter)[0]
        self.positives = positives
        self.negatives = negatives
        self.positive_method: Method = positive_method
        self.negative_method: Method = negative_method
        self.rules = PromptRules(negatives > 0, others, refinements, min_score)
        self.similarity = similarity
        self.agreement = agreement
        self.reinitialisation = reinitialisation
        self.exclusive = exclusive
        self.seed = seed

    @property
    def streams(self) -> bool:
        """Whether a run can go on from the points of its last frame: ``after`` of ``run``."""
        return self.reinitialisation is None and self.tracker.delay == 0 and not self.similarity

    def run(
        self,
        film: Film,
        queries: Sequence[Query],
        *,
        start: int = 0,
        end: int | None = None,
        backward: bool = False,
        after: tuple[Frame, TrackedObjects] | None = None,
    ) -> Iterator[SegmentedFrame]:
        """Follow objects from their frames on, and yield every frame from ``start`` on as soon as it is done.

        Args:
            film: the video. Read once, and what lies before the last query once more for ``backward``.
            queries: the objects.
            start: the first frame.
            end: the first frame that is no longer wanted; None for none.
            backward: whether objects are followed from their frames towards the beginning as well. Else they have no
                mask before.
            after: the last frame of an earlier run with the same objects, and its points, to go on from there; the
                first frame is then the next one.

        Raises:
            UserError: for a query that does not fit the video; one whose frame does not come, at the end.
        """
        _expect_sound(queries, start, end)
        if after is not None and (backward or not self.streams):
            raise UserError(
                "going on: works forwards, without reinitialisation, without similarity, and with a tracker that "
                "answers at once, such as LucasKanade"
            )
        run = _Run(self, queries)
        last = max(query.frame for query in queries)
        behind = backwards(film, start, last + 1) if backward and last > start else ()
        ahead = film(start if after is None else after[0].index + 1, end)
        if self.reinitialisation is None:
            yield from run.streamed(ahead, behind, after)
        else:
            yield from run.reinitialised(ahead, behind, self.reinitialisation)
        run.expect_all_begun()

    def moved(self, objects: TrackedObjects, found: Tensor, seen: Tensor, image: Image) -> TrackedObjects:
        """Return objects with their points in the next frame, the picture ``image``, and which of them count as seen.

        found: float32 (O * P, 2), where the tracker says that the points of all objects are, object by object. seen:
        bool (O * P,), those of which it is sure.
        """
        labels = objects.labels
        points, seen = found.reshape(objects.points.shape), seen.reshape(objects.seen.shape)
        seen = seen & (labels >= 0) & within_border(points, image.height, image.width)
        if not self.tracker.recovers:
            seen &= objects.seen
        if objects.patches is not None and len(objects):
            away = (_patches(image, points.reshape(-1, 2)).reshape(objects.patches.shape) - objects.patches).norm(dim=2)
            unlike = torch.exp(-away / (2 * _SPREAD**2)) <= _ALIKE
            labels, seen = torch.where(unlike, -1, labels).to(torch.int8), seen & ~unlike
        if self.agreement:
            own = seen & (labels == 1)
            owners = torch.arange(len(objects))[:, None].expand(own.shape)
            rows = points[..., 1]
            highest = torch.where(own, rows, math.inf).amin(dim=1)
            lowest = torch.where(own, rows, -math.inf).amax(dim=1)
            agreed = agreeing(
                objects.points[own],
                points[own],
                torch.ones(int(own.sum()), dtype=torch.bool),
                owners[own],
                side=max(image.height, image.width),
                heights=(lowest - highest).clamp(min=0),
            )
            seen = seen.index_put((own,), agreed)
        return replace(objects, points=points, labels=labels, seen=seen)


def backwards(film: Film, start: int, end: int) -> Iterator[Frame]:
    """Yield the frames of a film from ``end`` (not among them) back to ``start``, of which a few are held."""
    for first in reversed(range(start, end, _CHUNK)):
        yield from reversed(list(film(first, min(first + _CHUNK, end))))


def non_overlapping(logits: Iterable[Tensor], height: int, width: int) -> Tensor:
    """Return which of the objects each pixel belongs to: int64 (H, W), 0 for none, the first object is 1.

    logits: float (H, W) of each object. A pixel belongs to the highest one if that is above 0, the first of equals.
    """
    labels = torch.zeros(height, width, dtype=torch.int64)
    best = torch.zeros(height, width)
    for number, own in enumerate(logits, 1):
        higher = own > best
        labels[higher], best[higher] = number, own[higher]
    return labels


def _expect_sound(queries: Sequence[Query], start: int, end: int | None) -> None:
    if not queries:
        raise UserError("objects: expected at least one, got none; say what is to be followed")
    if len({query.id for query in queries}) < len(queries):
        raise UserError("objects: expected an id of its own for each; two have the same")
    for query in queries:
        if query.frame < start or (end is not None and query.frame >= end):
            raise UserError(f"object {query.id}: frame {query.frame} is not in the part of the video that is read")


class _Opened:
    """A frame that is encoded when it is first asked about, and only then."""

    def __init__(self, frame: Frame, segmenter: PromptableSegmenter) -> None:
        self.frame, self._segmenter = frame, segmenter

    @functools.cached_property
    def view(self) -> ImageView:
        return self._segmenter.open([self.frame.image])[0]


@dataclass(frozen=True, eq=False)
class _Found:
    """An object in a frame: its points, one row, and what the segmenter said of it.

    mask: bool (H, W) where it was given. logits: float32 (h, w) where the segmenter was asked. score: predicted IoU.
    """

    objects: TrackedObjects
    score: float = 0.0
    mask: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Kept:
    """An object in a frame that was found backwards."""

    objects: TrackedObjects
    rle: RunLengths
    score: float
    asked: bool


class _Run:
    """One run over one video: what is known of its objects so far."""

    def __init__(self, settings: SAMPT, queries: Sequence[Query]) -> None:
        self._settings, self._segmenter = settings, settings.segmenter
        self._queries = sorted(queries, key=lambda query: query.id)
        self._frames = {query.id: query.frame for query in queries}
        self._size = max(settings.positives + settings.negatives, *(len(query.point_places) for query in queries))
        self._begun: dict[int, _Found] = {}

    def streamed(
        self, ahead: Iterable[Frame], behind: Iterable[Frame], after: tuple[Frame, TrackedObjects] | None
    ) -> Iterator[SegmentedFrame]:
        """Follow points from frame to frame, and ask about each frame once."""
        before: dict[int, TrackedObjects] = {}
        for opened, objects in self._followed(map(self._open, behind), self._beginning):
            earlier = [self._frames[number] > opened.frame.index for number in objects.ids.tolist()]
            if any(earlier):
                before[opened.frame.index] = objects[torch.tensor(earlier)]
        begun = None
        if after is not None:
            begun = self._open(after[0]), after[1]
            self._begun = {number: _Found(after[1][[row]]) for row, number in enumerate(after[1].ids.tolist())}
        for opened, objects in self._followed(map(self._open, ahead), self._beginning, begun):
            everything = TrackedObjects.concat([objects, before.pop(opened.frame.index, objects[:0])])
            yield self._drawn(opened, self._answers(opened, everything))

    def reinitialised(
        self, ahead: Iterable[Frame], behind: Iterable[Frame], rule: Reinitialisation
    ) -> Iterator[SegmentedFrame]:
        """Go through windows, and yield what no later window changes."""
        before: dict[int, list[_Kept]] = {}
        for opened, found in self._windows(map(self._open, behind), rule):
            earlier = {number: one for number, one in found.items() if self._frames[number] > opened.frame.index}
            drawn = self._drawn(opened, earlier)
            before[opened.frame.index] = [
                _Kept(drawn.objects[[row]], rle, float(drawn.scores[row]), bool(drawn.asked[row]))
                for row, rle in enumerate(to_rle(drawn.bits))
            ]
        for opened, found in self._windows(map(self._open, ahead), rule):
            yield self._drawn(opened, found, before.pop(opened.frame.index, []))

    def expect_all_begun(self) -> None:
        """Complain about objects whose frame did not come."""
        missing = [query for query in self._queries if query.id not in self._begun]
        if missing:
            raise UserError(
                f"object {missing[0].id}: frame {missing[0].frame} did not come; the video is shorter, or that frame "
                "cannot be read or is left out"
            )

    def _open(self, frame: Frame) -> _Opened:
        return _Opened(frame, self._segmenter)

    def _nobody(self) -> TrackedObjects:
        size = self._size
        return TrackedObjects(
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(0, size, 2),
            torch.zeros(0, size, dtype=torch.int8),
            torch.zeros(0, size, dtype=torch.bool),
            torch.zeros(0, size, 27) if self._settings.similarity else None,
        )

    def _beginning(self, opened: _Opened) -> TrackedObjects:
        """Return the objects that begin in a frame."""
        rows = [self._nobody()]
        for query in self._queries:
            if query.frame == opened.frame.index:
                if query.id not in self._begun:
                    mask, score = mask_of(query, opened.frame.image, lambda: opened.view, self._segmenter)
                    points, labels = query.point_places, query.point_labels
                    objects = self._chosen(query.id, opened.frame, mask, points, labels)
                    self._begun[query.id] = _Found(objects, score, mask)
                rows.append(self._begun[query.id].objects)
        return TrackedObjects.concat(rows)

    def _chosen(self, number: int, frame: Frame, mask: Tensor, points: Tensor, labels: Tensor) -> TrackedObjects:
        """Return an object with these points, and points of its mask for those that are missing."""
        settings = self._settings
        more, beside = object_points(
            frame.image.pixels,
            mask,
            np.random.default_rng([settings.seed, number, frame.index]),
            positives=max(0, settings.positives - int((labels == 1).sum())),
            negatives=max(0, settings.negatives - int((labels == 0).sum())),
            positive_method=settings.positive_method,
            negative_method=settings.negative_method,
        )
        if bool(mask.all()):  # nothing is beside it
            beside = torch.where(beside == 0, -1, beside)
        places = torch.zeros(self._size, 2)
        kinds = torch.full((self._size,), -1, dtype=torch.int8)
        count = min(self._size, len(points) + len(more))
        places[:count] = torch.cat([points, more])[:count]
        kinds[:count] = torch.cat([labels, beside])[:count]
        patches = _patches(frame.image, places)[None] if settings.similarity else None
        return TrackedObjects(torch.tensor([number]), places[None], kinds[None], kinds[None] >= 0, patches)

    def _followed(
        self,
        frames: Iterable[_Opened],
        join: Callable[[_Opened], TrackedObjects],
        begun: tuple[_Opened, TrackedObjects] | None = None,
    ) -> Iterator[tuple[_Opened, TrackedObjects]]:
        """Follow points through frames, and yield each frame with its objects.

        join: returns the objects that begin in a frame. begun: the frame before the first, with its objects.
        """
        rest, tracker = iter(frames), self._settings.tracker
        current = next(rest, None) if begun is None else begun[0]
        if current is None:
            return
        objects = join(current) if begun is None else begun[1]
        if begun is None:
            yield current, objects
        previous = current.frame.image
        state, waiting, steps = tracker.start(previous), deque[_Opened](), 0
        for newest in itertools.chain(rest, itertools.repeat(None, tracker.delay)):
            image = previous if newest is None else newest.frame.image
            if newest is not None:
                waiting.append(newest)
            found, seen, _ = tracker.step(state, previous, image, objects.points.reshape(-1, 2))
            previous, steps = image, steps + 1
            if steps > tracker.delay:
                current = waiting.popleft()
                moved = self._settings.moved(objects, found, seen, current.frame.image)
                objects = TrackedObjects.concat([moved, join(current)])
                yield current, objects

    def _answers(self, opened: _Opened, objects: TrackedObjects) -> dict[int, _Found]:
        """Ask about the objects of a frame; those that begin in it are known."""
        found = {
            number: self._begun[number] if self._frames[number] == opened.frame.index else _Found(objects[[row]])
            for row, number in enumerate(objects.ids.tolist())
        }
        labels = torch.where(objects.seen, objects.labels, -1).to(torch.int8)
        if not any(one.mask is None for one in found.values()) or not bool((labels == 1).any()):
            return found
        answer = prompted_masks(self._segmenter, opened.view, objects.points, labels, self._settings.rules)
        for row, (number, one) in enumerate(found.items()):
            if one.mask is None and bool(answer.asked[row]):
                found[number] = replace(one, score=float(answer.scores[row]), logits=answer.logits[row])
        return found

    def _drawn(self, opened: _Opened, found: Mapping[int, _Found], kept: Sequence[_Kept] = ()) -> SegmentedFrame:
        """Return the masks of a frame's objects, of those as well that were found backwards."""
        image, ones = opened.frame.image, [found[number] for number in sorted(found)]
        if self._settings.exclusive:
            owners = non_overlapping((self._full(opened, one) for one in ones), image.height, image.width)
            bits = owners == torch.arange(1, len(ones) + 1)[:, None, None]
        else:
            bits = torch.zeros(len(ones), image.height, image.width, dtype=torch.bool)
            for row, one in enumerate(ones):
                bits[row] = self._full(opened, one) > 0
        scores = torch.tensor([one.score for one in ones] + [one.score for one in kept])
        asked = [one.mask is not None or one.logits is not None for one in ones] + [one.asked for one in kept]
        objects = TrackedObjects.concat(
            [self._nobody(), *(one.objects for one in ones), *(one.objects for one in kept)]
        )
        if kept:
            bits = torch.cat([bits, from_rle([one.rle for one in kept], image.height, image.width)])
            # Of what was found backwards there are masks alone: scores decide, as logits do elsewhere.
            bits = exclusive(bits, scores) if self._settings.exclusive else bits
        order = objects.ids.argsort()
        return SegmentedFrame(opened.frame, objects[order], bits[order], scores[order], torch.tensor(asked)[order])

    def _full(self, opened: _Opened, one: _Found) -> Tensor:
        """Return the logits of an object in all pixels of a frame: float (H, W) on the CPU."""
        if one.mask is not None:
            return torch.where(one.mask, _CERTAIN, -_CERTAIN)
        if one.logits is None:
            return torch.full((opened.frame.image.height, opened.frame.image.width), -_CERTAIN)
        return self._segmenter.enlarge(opened.view, one.logits[None])[0].cpu()

    def _windows(
        self, frames: Iterator[_Opened], rule: Reinitialisation
    ) -> Iterator[tuple[_Opened, dict[int, _Found]]]:
        """Follow objects through windows, each from a mask of the one before, and yield each frame when it is certain.

        Up to two windows of frames are held, with their embeddings, so that none is encoded twice.
        """
        held, first = deque[tuple[_Opened, dict[int, _Found]]](), 0
        starts: dict[int, tuple[int, TrackedObjects]] = {}

        def read(end: int) -> None:
            """Hold the frames before number ``end``, counted from the first one read."""
            while first + len(held) < end and (opened := next(frames, None)) is not None:
                new = self._beginning(opened)
                numbers = new.ids.tolist()
                starts.update({number: (first + len(held), new[[row]]) for row, number in enumerate(numbers)})
                held.append((opened, {number: self._begun[number] for number in numbers}))

        while True:
            read(first + 1)
            if not held:
                return
            start = min((position for position, _ in starts.values()), default=math.inf)
            if first < start:
                yield held.popleft()
                first += 1
                continue
            read(first + rule.horizon + 1)
            window = [opened for opened, _ in itertools.islice(held, rule.horizon)]
            batch = sorted(number for number, (position, _) in starts.items() if position == start)
            objects = TrackedObjects.concat([starts.pop(number)[1] for number in batch])
            areas = torch.zeros(len(batch), rule.horizon)
            for offset, (opened, moved) in enumerate(self._followed(window, _once(objects))):
                found = self._answers(opened, moved) if offset else held[0][1]
                held[offset][1].update(found)
                areas[:, offset] = torch.tensor([float(self._mask(opened, found[number]).sum()) for number in batch])
            if len(held) <= rule.horizon:  # the window has reached the end
                continue
            others = [position - first for position, _ in starts.values() if position < first + rule.horizon]
            for number, offset in zip(batch, rule.next_starts(areas, others), strict=True):
                starts[number] = first + offset, self._again(*held[offset], number)

    def _mask(self, opened: _Opened, one: _Found) -> Tensor:
        """Return an object's mask, bool (H, W), as it was found, over others as well."""
        return self._full(opened, one) > 0

    def _again(self, opened: _Opened, found: Mapping[int, _Found], number: int) -> TrackedObjects:
        """Return an object with new points from its mask in a frame; one without a mask keeps those it has."""
        one = found[number]
        mask = self._mask(opened, one)
        if not bool(mask.any()):
            return one.objects
        none = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int8)
        return self._chosen(number, opened.frame, mask, *none)


def _once(objects: TrackedObjects) -> Callable[[_Opened], TrackedObjects]:
    """Return a function that returns the objects at its first call, and nobody later."""
    calls = itertools.chain([objects], itertools.repeat(objects[:0]))
    return lambda _: next(calls)


def _patches(image: Image, points: Tensor) -> Tensor:
    """Return the 3 x 3 pixels around points (M, 2) in Lab colours: float32 (M, 27)."""
    lab = cv2.cvtColor(image.pixels.cpu().numpy().astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    near = torch.arange(-1, 2)
    columns = (points[:, 0].round().long()[:, None, None] + near).clamp(0, image.width - 1)
    rows = (points[:, 1].round().long()[:, None, None] + near[:, None]).clamp(0, image.height - 1)
    return torch.from_numpy(lab)[rows, columns].reshape(len(points), 27)
