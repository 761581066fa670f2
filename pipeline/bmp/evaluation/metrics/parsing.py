"""How well body parts are told: mIoU of maps, and AP^p, PCP and AP^r of people. Knows no data set and no network.

Definitions are those of the public evaluation of Parsing R-CNN. A map has a label a pixel; ``IGNORED`` does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
"""The label of pixels that do not count."""
THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))
"""IoU that an answer has to exceed."""
LOWEST = 0.001
"""Answers with a lower score are left out, as in the published evaluation."""

Map = NDArray[np.uint8]
Shares = NDArray[np.float64]


def confusion(ground_truth: Map, found: Map, labels: int) -> NDArray[np.int64]:
    """Count pixels by their label in the ground truth (rows) and in the answer (columns): (labels, labels)."""
    counted = (ground_truth != IGNORED) & (found != IGNORED)
    codes = ground_truth[counted].astype(np.int64) * labels + found[counted]
    return np.bincount(codes, minlength=labels**2).reshape(labels, labels)


def ious(counts: NDArray[np.int64]) -> Shares:
    """Return the IoU of each label from a confusion matrix, (labels,); NaN for one that is in neither map."""
    hits = np.diag(counts)
    joined = counts.sum(axis=1) + counts.sum(axis=0) - hits
    return np.asarray(np.divide(hits, joined, out=np.full(len(counts), np.nan), where=joined > 0))


@dataclass(frozen=True)
class MapNumbers:
    """How well maps agree, shares in [0, 1]; None where no pixel counts.

    miou: mean IoU over the labels that occur in ground truth or answers (Parsing R-CNN). miou_absent_as_zero: over all
    labels, absent ones as 0 (QANet). mean_accuracy: mean share of a label's pixels that have it in the answer.
    pixel_accuracy: share of all pixels. iou: by label, None for one that is in neither.
    """

    miou: float | None
    miou_absent_as_zero: float | None
    mean_accuracy: float | None
    pixel_accuracy: float | None
    iou: tuple[float | None, ...]


def map_numbers(counts: NDArray[np.int64]) -> MapNumbers:
    """Return the numbers of a confusion matrix, summed over all images."""
    if not counts.sum():
        return MapNumbers(None, None, None, None, (None,) * len(counts))
    by_label, rows = ious(counts), counts.sum(axis=1)
    known = np.diag(counts)[rows > 0] / rows[rows > 0]
    return MapNumbers(
        float(np.nanmean(by_label)),
        float(np.nan_to_num(by_label).mean()),
        float(known.mean()),
        float(np.trace(counts) / counts.sum()),
        tuple(None if np.isnan(value) else float(value) for value in by_label),
    )


@dataclass(frozen=True)
class PeopleNumbers:
    """How well the parts of people are told, shares in [0, 1] by ``THRESHOLDS``; None where nobody is labelled.

    ap: AP^p. pcp: share of the parts of labelled people that are told. ap_r: AP^r, the mean over labels, None where
    no part is labelled.
    """

    ap: tuple[float, ...] | None
    pcp: tuple[float, ...] | None
    ap_r: tuple[float, ...] | None

    @property
    def ap_vol(self) -> float | None:
        """AP^p, the mean over the thresholds."""
        return None if self.ap is None else float(np.mean(self.ap))

    @property
    def ap_50(self) -> float | None:
        """AP^p at 0.5."""
        return None if self.ap is None else self.ap[4]

    @property
    def pcp_50(self) -> float | None:
        """PCP at 0.5."""
        return None if self.pcp is None else self.pcp[4]

    @property
    def ap_r_vol(self) -> float | None:
        """AP^r, the mean over the thresholds."""
        return None if self.ap_r is None else float(np.mean(self.ap_r))


@dataclass(frozen=True, eq=False)
class _Placed:
    """A map of a person, the window outside which it is 0, and the pixels of each label without those ignored."""

    labels: Map
    rows: slice
    columns: slice
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Map, count: int) -> _Placed:
        there = labels > 0
        rows, columns = (_extent(np.asarray(there.any(axis=axis))) for axis in (1, 0))
        sizes = np.bincount(labels[rows, columns].ravel(), minlength=256)[:count]
        sizes[0] = labels.size - sizes[1:].sum() - int((labels[rows, columns] == IGNORED).sum())
        return cls(labels, rows, columns, sizes)


def _extent(there: NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(there)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _confusion_of(person: _Placed, answer: _Placed) -> NDArray[np.int64]:
    """Count as ``confusion`` does, from the pixels that both windows share: elsewhere one of the two maps is 0."""
    window = tuple(
        slice(start := max(one.start, other.start), max(start, min(one.stop, other.stop)))
        for one, other in ((person.rows, answer.rows), (person.columns, answer.columns))
    )
    truth, found, count = person.labels[window], answer.labels[window], len(person.sizes)
    counts = confusion(truth, found, count)
    # What is ignored in one map does not count in the other.
    lost = np.bincount(found[truth == IGNORED], minlength=256)[:count]
    dropped = np.bincount(truth[found == IGNORED], minlength=256)[:count]
    counts[1:, 0] += (person.sizes - dropped - counts.sum(axis=1))[1:]
    counts[0, 1:] += (answer.sizes - lost - counts.sum(axis=0))[1:]
    ignored = int(((truth == IGNORED) & (found == IGNORED)).sum())
    total = person.labels.size - _ignored(person) - _ignored(answer) + ignored
    counts[0, 0] += total - counts.sum()
    return counts


def _ignored(placed: _Placed) -> int:
    return placed.labels.size - int(placed.sizes.sum())


@dataclass(eq=False)
class _Answer:
    """A person who was found: the score, the IoU and the row of the labelled person most like it, IoU by label."""

    score: float
    overlap: float
    person: int
    by_label: Shares


@dataclass(eq=False)
class PeopleParsing:
    """Collects people image by image.

    Args:
        labels: how many, background included.
    """

    labels: int
    _answers: list[_Answer] = field(default_factory=list, init=False)
    _parts: list[int] = field(default_factory=list, init=False)
    _regions: list[tuple[int, float, float]] = field(default_factory=list, init=False)
    _region_counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._region_counts = np.zeros(self.labels, np.int64)

    def add(
        self,
        ground_truth: Sequence[Map],
        found: Sequence[Map],
        scores: Sequence[float],
        part_scores: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Add an image.

        Args:
            ground_truth: a map of the whole image for each labelled person, 0 outside the person.
            found: likewise for each answer.
            scores: of the answers, by which they are ranked.
            part_scores: of each answer's labels, by which AP^r ranks; the answer's own if None.
        """
        first = len(self._parts)
        people = [_Placed.of(each, self.labels) for each in ground_truth]
        sizes = [person.sizes for person in people]
        self._parts += [int((size[1:] > 0).sum()) for size in sizes]
        for size in sizes:
            self._region_counts += size > 0
        for row, (answer, score) in enumerate(zip(found, scores, strict=True)):
            if score < LOWEST:
                continue
            placed = _Placed.of(answer, self.labels)
            pairs = [ious(_confusion_of(person, placed)) for person in people]
            means = [float(np.nanmean(pair)) for pair in pairs]
            best = int(np.argmax(means)) if means else -1
            if means:
                self._answers.append(_Answer(score, means[best], first + best, pairs[best]))
            else:
                self._answers.append(_Answer(score, -1.0, -1, np.full(self.labels, np.nan)))
            for label in np.unique(answer[(answer > 0) & (answer != IGNORED)]).tolist():
                overlaps = [float(np.nan_to_num(pair[label])) for pair in pairs]
                own = score if part_scores is None else part_scores[row][label]
                self._regions.append((label, own, max(overlaps, default=0.0)))

    def pairs(self) -> list[tuple[float, int, float]]:
        """Return score, labelled person and IoU of each answer, in the order of being added."""
        return [(answer.score, answer.person, answer.overlap) for answer in self._answers]

    def numbers(self) -> PeopleNumbers:
        """Return the numbers of all images."""
        if not self._parts:
            return PeopleNumbers(None, None, None)
        ranked = sorted(self._answers, key=lambda answer: -answer.score)
        found = [self._at(ranked, threshold) for threshold in THRESHOLDS]
        return PeopleNumbers(tuple(ap for ap, _ in found), tuple(pcp for _, pcp in found), self._of_regions())

    def _at(self, ranked: Sequence[_Answer], threshold: float) -> tuple[float, float]:
        taken: dict[int, float] = {}
        hits = []
        for answer in ranked:
            # A second answer for a person who is taken does not move on to the next best: it is a false alarm.
            hits.append(answer.overlap > threshold and answer.person not in taken)
            if hits[-1]:
                told = int((np.nan_to_num(answer.by_label[1:]) > threshold).sum())
                taken[answer.person] = told / max(self._parts[answer.person], 1)
        return average_precision(hits, len(self._parts)), sum(taken.values()) / len(self._parts)

    def _of_regions(self) -> tuple[float, ...] | None:
        known = [label for label in range(1, self.labels) if self._region_counts[label]]
        if not known:
            return None
        values = []
        for threshold in THRESHOLDS:
            of_labels = []
            for label in known:
                own = sorted((region for region in self._regions if region[0] == label), key=lambda region: -region[1])
                hits = [overlap > threshold for _, _, overlap in own]
                of_labels.append(average_precision(hits, int(self._region_counts[label])))
            values.append(float(np.mean(of_labels)))
        return tuple(values)


def average_precision(hits: Sequence[bool], count: int) -> float:
    """Return the area under the envelope of precision over recall, all points, in [0, 1].

    Args:
        hits: of the answers, by falling score.
        count: of what is to be found. Recall ends at 1, also where several answers may hit the same.
    """
    if not hits or not count:
        return 0.0
    right = np.cumsum(np.asarray(hits, np.float64))
    recall = np.minimum(right / count, 1.0)
    precision = right / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(recall, prepend=0.0) @ envelope)
