"""How well people keep their identities in a video: HOTA, CLEAR (MOTA, switches) and identity (IDF1) numbers.

It knows ids and how alike labelled and found people are in each frame, as IoU of masks or boxes or as OKS; it knows no
file, no data set and no tracker. What is counted is that of the public evaluation TrackEval 1.3.0:

- HOTA (Luiten et al., 2021): detection and association, at 19 thresholds of similarity and averaged over them. People
  are paired by similarity weighted with how well their whole tracks agree.
- CLEAR (Bernardin and Stiefelhagen, 2008): pairs from a similarity of 0.5 on, those of the frame before first. A switch
  is a labelled person whose found id differs from its last one, however long ago.
- Identity (Ristani et al., 2016): each labelled track has at most one found track for the whole video, and the other
  way round; pairs of them with the most frames in common.

Counts of videos add up; numbers follow from the sum. Ids mean something within one video only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from bmp.errors import UserError

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

THRESHOLDS: Floats = np.arange(0.05, 0.99, 0.05)
"""Of similarity, over which HOTA and its parts are averaged."""

_CLEAR_THRESHOLD = 0.5
_ROUNDING = np.finfo(np.float64).eps  # similarities that should equal a threshold may be this much below it
_KEPT = 1000  # outweighs any similarity: a pair of the frame before goes first
_MOSTLY_TRACKED, _MOSTLY_LOST = 0.8, 0.2  # of the frames of a labelled person


@dataclass(frozen=True, eq=False)
class TrackFrame:
    """Who is in a frame, who was found, and how alike they are.

    ground_truth: int64 (N,), ids of labelled people, each once. found: int64 (M,), ids of found people, each once.
    similarity: float64 (N, M) in [0, 1].
    """

    ground_truth: Ints
    found: Ints
    similarity: Floats

    def __post_init__(self) -> None:
        for name, ids in (("labelled", self.ground_truth), ("found", self.found)):
            if ids.ndim != 1 or ids.dtype.kind not in "iu":
                raise UserError(f"expected whole numbers (N,) as ids of {name} people, got {ids.dtype} {ids.shape}")
            values, counts = np.unique(ids, return_counts=True)
            if (counts > 1).any():
                raise UserError(f"{name} person {values[counts > 1][0]} is twice in a frame; an id is one person's")
        expected = (len(self.ground_truth), len(self.found))
        if self.similarity.shape != expected:
            raise UserError(f"expected a similarity {expected}, labelled by found people, got {self.similarity.shape}")
        if not ((self.similarity >= 0) & (self.similarity <= 1)).all():  # NaN, too
            raise UserError("expected similarities in 0..1; give IoU or OKS, not distances")


@dataclass(frozen=True, eq=False)
class TrackCounts:
    """What was counted in videos; ``+`` adds two.

    labelled, found: people in frames, summed over frames. hota_pairs, hota_association: float64 (19,) by threshold of
    ``THRESHOLDS``: pairs, and the sum of their association scores. clear_pairs, switches, clear_similarity: pairs of
    CLEAR, changes of identity, and the sum of the pairs' similarities. identity_pairs: pairs of identity. people,
    mostly_tracked, mostly_lost: labelled tracks, those found in more than 0.8 and in less than 0.2 of their frames.
    fragments: how often labelled people are found again after a gap.
    """

    labelled: int
    found: int
    hota_pairs: Floats
    hota_association: Floats
    clear_pairs: int
    switches: int
    clear_similarity: float
    identity_pairs: int
    people: int
    mostly_tracked: int
    mostly_lost: int
    fragments: int

    def __add__(self, other: TrackCounts) -> TrackCounts:
        return TrackCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def numbers(self) -> TrackNumbers:
        """The numbers that follow from what was counted."""
        pairs = self.hota_pairs
        anybody = self.labelled + self.found - pairs
        association = self.hota_association / np.maximum(pairs, 1)
        detection = pairs / np.maximum(anybody, 1)
        some = self.labelled + self.found > 0
        false = self.found - self.clear_pairs
        return TrackNumbers(
            hota=float(np.sqrt(detection * association).mean()) if some else None,
            deta=float(detection.mean()) if some else None,
            assa=float(association.mean()) if some else None,
            mota=_share(self.clear_pairs - false - self.switches, self.labelled),
            motp=_share(self.clear_similarity, self.clear_pairs),
            idf1=_share(2 * self.identity_pairs, self.labelled + self.found),
            id_precision=_share(self.identity_pairs, self.found),
            id_recall=_share(self.identity_pairs, self.labelled),
            switches=self.switches,
            fragments=self.fragments,
            false_positives=false,
            misses=self.labelled - self.clear_pairs,
            mostly_tracked=self.mostly_tracked,
            mostly_lost=self.mostly_lost,
        )


@dataclass(frozen=True)
class TrackNumbers:
    """How well identities are kept; shares are in [0, 1], None where there is no number, as nobody is there.

    hota, deta, assa: HOTA, its detection and its association accuracy, each a mean over ``THRESHOLDS``. mota:
    1 - (misses + false positives + switches) / labelled people, which may be negative. motp: mean similarity of pairs.
    idf1, id_precision, id_recall: of identity. The rest are numbers of CLEAR, see ``TrackCounts``; misses and false
    positives are labelled and found people without a pair.
    """

    hota: float | None
    deta: float | None
    assa: float | None
    mota: float | None
    motp: float | None
    idf1: float | None
    id_precision: float | None
    id_recall: float | None
    switches: int
    fragments: int
    false_positives: int
    misses: int
    mostly_tracked: int
    mostly_lost: int


def evaluate_tracks(videos: Iterable[Sequence[TrackFrame]]) -> TrackNumbers:
    """Return the numbers of a data set, a sequence of frames a video: of all that is counted, not means over videos.

    Examples:
        Two people in four frames exchange their ids after the second.

        >>> similarity = np.eye(2)
        >>> frames = [TrackFrame(np.array([1, 2]), np.array([7, 9]), similarity)] * 2
        >>> frames += [TrackFrame(np.array([1, 2]), np.array([9, 7]), similarity)] * 2
        >>> numbers = evaluate_tracks([frames])
        >>> numbers.mota, numbers.switches, numbers.idf1, round(numbers.hota, 4)
        (0.75, 2, 0.5, 0.5774)
    """
    return sum(map(count_tracks, videos), count_tracks([])).numbers


def count_tracks(frames: Sequence[TrackFrame]) -> TrackCounts:
    """Count one video, its frames in order. Frames without labelled or found people belong to it."""
    labelled, people = _numbered([frame.ground_truth for frame in frames])
    found, tracks = _numbered([frame.found for frame in frames])
    steps = [
        TrackFrame(rows, columns, frame.similarity)
        for rows, columns, frame in zip(labelled, found, frames, strict=True)
    ]
    # How many frames each track has, (people,) and (tracks,).
    lengths = np.bincount(np.concatenate([*labelled, np.empty(0, np.int64)]), minlength=people)
    found_lengths = np.bincount(np.concatenate([*found, np.empty(0, np.int64)]), minlength=tracks)
    pairs, association = _count_hota(steps, lengths, found_lengths)
    clear = _count_clear(steps, lengths)
    common = np.zeros((people, tracks))
    for step in steps:
        common[np.ix_(step.ground_truth, step.found)] += step.similarity >= _CLEAR_THRESHOLD
    rows, columns = linear_sum_assignment(common, maximize=True)
    return TrackCounts(
        labelled=int(lengths.sum()),
        found=int(found_lengths.sum()),
        hota_pairs=pairs,
        hota_association=association,
        clear_pairs=clear.pairs,
        switches=clear.switches,
        clear_similarity=clear.similarity,
        identity_pairs=int(common[rows, columns].sum()),
        people=people,
        mostly_tracked=clear.mostly_tracked,
        mostly_lost=clear.mostly_lost,
        fragments=clear.fragments,
    )


def _numbered(ids: Sequence[Ints]) -> tuple[list[Ints], int]:
    """Return ids of all frames as numbers from 0, and how many different ones there are."""
    names, numbers = np.unique(np.concatenate([*ids, np.empty(0, np.int64)]), return_inverse=True)
    ends = np.cumsum([len(frame) for frame in ids])[:-1]
    return (np.split(numbers, ends) if ids else []), len(names)


def _count_hota(steps: Sequence[TrackFrame], lengths: Ints, found_lengths: Ints) -> tuple[Floats, Floats]:
    """Return pairs and the sum of their association scores, float64 (19,) each."""
    shape = (len(lengths), len(found_lengths))
    agreement = np.zeros(shape)
    for step in steps:
        # A similarity counts the less, the more alike either of the two is to others in that frame.
        total = step.similarity.sum(axis=0)[None] + step.similarity.sum(axis=1)[:, None] - step.similarity
        share = np.divide(step.similarity, total, out=np.zeros_like(total), where=total > _ROUNDING)
        agreement[np.ix_(step.ground_truth, step.found)] += share
    together = lengths[:, None] + found_lengths[None]
    agreement /= np.maximum(together - agreement, _ROUNDING)
    counts = np.zeros((len(THRESHOLDS), *shape))
    for step in steps:
        weighted = agreement[np.ix_(step.ground_truth, step.found)] * step.similarity
        rows, columns = linear_sum_assignment(weighted, maximize=True)
        alike = step.similarity[rows, columns]
        paired = alike[None] >= THRESHOLDS[:, None] - _ROUNDING
        counts[:, step.ground_truth[rows], step.found[columns]] += paired
    association = (counts * counts / np.maximum(together - counts, 1)).sum(axis=(1, 2))
    return counts.sum(axis=(1, 2)), association


@dataclass(frozen=True)
class _Clear:
    pairs: int
    switches: int
    similarity: float
    mostly_tracked: int
    mostly_lost: int
    fragments: int


def _count_clear(steps: Sequence[TrackFrame], lengths: Ints) -> _Clear:
    nobody = -1
    last = np.full(len(lengths), nobody)  # the track that each person had last
    current = last.copy()  # and that it had in the last frame that counts
    seen, beginnings = np.zeros_like(lengths), np.zeros_like(lengths)
    switches, similarity = 0, 0.0
    for step in steps:
        if not step.ground_truth.size or not step.found.size:
            continue  # such a frame ends no pair: TrackEval passes over it
        weights = _KEPT * (step.found[None] == current[step.ground_truth][:, None]) + step.similarity
        weights[step.similarity < _CLEAR_THRESHOLD - _ROUNDING] = 0
        rows, columns = linear_sum_assignment(weights, maximize=True)
        paired = weights[rows, columns] > _ROUNDING
        rows, columns = rows[paired], columns[paired]
        people, tracks = step.ground_truth[rows], step.found[columns]
        switches += int(((last[people] != nobody) & (last[people] != tracks)).sum())
        similarity += float(step.similarity[rows, columns].sum())
        beginnings[people] += current[people] == nobody
        seen[people] += 1
        last[people] = tracks
        current[:] = nobody
        current[people] = tracks
    share = seen / np.maximum(lengths, 1)
    return _Clear(
        pairs=int(seen.sum()),
        switches=switches,
        similarity=similarity,
        mostly_tracked=int((share > _MOSTLY_TRACKED).sum()),
        mostly_lost=int((share < _MOSTLY_LOST).sum()),
        fragments=int(np.maximum(beginnings - 1, 0).sum()),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
