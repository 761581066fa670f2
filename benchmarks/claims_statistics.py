"""How sure a difference is: bootstrap over images, paired, and the rule that makes a verdict of an interval.

Images are drawn, with everybody in them, and not people: the people of an image share its encoding, cover one another
and compete for pixels, so their errors go together, and people drawn one by one would make every interval too short.
Both sides of a comparison are measured on the same draws. Knows arrays, neither networks nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Verdict = Literal["holds", "fails", "undecided"]

DRAWS = 10_000
CONFIDENCE = 0.95
_RECALLS = np.linspace(0, 1, 101)  # at which COCO reads precision off
_AT_ONCE = 1 << 20  # numbers in a table of draws by results


def resamples(images: int, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Return how often each image counts, (1 + draws, images): once each in the first row, then as it was drawn."""
    if images < 1:
        raise ValueError(f"expected at least one image to draw from, got {images}")
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    return np.concatenate([np.ones((1, images)), drawn])


@dataclass(frozen=True, eq=False)
class PerPerson:
    """A number for each person. values: (P,). image: int64 (P,), the position of the person's image."""

    values: Floats
    image: Ints

    def mean(self, weights: Floats) -> Floats:
        """Return the mean over people for each row of ``weights`` (B, I); NaN where nobody was drawn."""
        images = weights.shape[1]
        sums = weights @ np.bincount(self.image, self.values, images)
        with np.errstate(invalid="ignore"):
            return np.asarray(sums / (weights @ np.bincount(self.image, minlength=images)))


@dataclass(frozen=True, eq=False)
class Ranked:
    """Results matched with people at T thresholds, image after image, as pycocotools does.

    scores: (D,). image: int64 (D,), its position. hits, ignored: bool (T, D), which show somebody, and which are
    neither right nor wrong. people: int64 (I,), how many are to be found in each image.
    """

    scores: Floats
    image: Ints
    hits: Bools
    ignored: Bools
    people: Ints

    def sorted(self) -> Ranked:
        """Return the same, the surest result first; of equals the one of the earlier image, as in pycocotools."""
        order = np.argsort(-self.scores, kind="stable")
        return Ranked(self.scores[order], self.image[order], self.hits[:, order], self.ignored[:, order], self.people)


def average_precision(found: Ranked, weights: Floats) -> Floats:
    """Return COCO's average precision, mean over the thresholds, for each row of ``weights`` (B, I)."""
    found = found.sorted()
    return _in_parts(weights, len(found.scores), lambda part: _average_precision(found, part))


def _average_precision(found: Ranked, weights: Floats) -> Floats:
    people = torch.from_numpy(weights @ found.people)[:, None]
    own = torch.from_numpy(weights)[:, torch.from_numpy(found.image)]
    recalls = torch.from_numpy(_RECALLS).expand(len(weights), -1).contiguous()
    means = []
    for hits, ignored in zip(torch.from_numpy(found.hits), torch.from_numpy(found.ignored), strict=True):
        right = (own * (hits & ~ignored)).cumsum(dim=1)
        wrong = (own * (~hits & ~ignored)).cumsum(dim=1)
        precision = right / (right + wrong + np.spacing(1))
        # Precision at a recall is the best at that recall or beyond.
        best = precision.flip(1).cummax(dim=1).values.flip(1) if precision.shape[1] else precision
        at = torch.searchsorted((right / people).contiguous(), recalls)
        reached = torch.cat([best, best.new_zeros(len(best), 1)], dim=1)
        means.append(reached.gather(1, at).mean(dim=1))
    return np.asarray(torch.stack(means).mean(dim=0).where(people[:, 0] > 0, torch.nan).numpy())


def recalls_at_equal_precision(first: Ranked, second: Ranked, weights: Floats) -> tuple[Floats, Floats]:
    """Return the recall of both for each row of ``weights`` (B, I), the second where it is as precise as the first.

    As ``bmp.evaluation.metrics.matching.recall_at_equal_precision`` does, for one threshold.
    """
    second = second.sorted()
    people = weights @ first.people

    def shares(found: Ranked, part: Floats) -> tuple[Floats, Floats]:
        own = part[:, found.image]
        return own * (found.hits[0] & ~found.ignored[0]), own * ~found.ignored[0]

    hits, counted = (np.concatenate(columns) for columns in zip(
        *((right.sum(1), all_.sum(1)) for part in _parts(weights, len(first.scores))
          for right, all_ in [shares(first, part)]), strict=True))  # fmt: skip
    with np.errstate(invalid="ignore", divide="ignore"):
        target, recall = hits / counted, hits / people
    # Of one score all results come or none, so only after its last one can the list end.
    last = np.append(second.scores[1:] != second.scores[:-1], True)[: len(second.scores)]
    reached = []
    start = 0
    for part in _parts(weights, len(second.scores)):
        right, all_ = (each.cumsum(axis=1) for each in shares(second, part))
        # as right / all >= target, without a division
        precise = last & (right >= target[start : start + len(part), None] * all_ - 1e-9) & (all_ > 0)
        reached.append(np.where(precise, right, 0).max(axis=1, initial=0))
        start += len(part)
    with np.errstate(invalid="ignore", divide="ignore"):
        return recall, np.concatenate(reached) / people


def _parts(weights: Floats, columns: int) -> Iterable[Floats]:
    size = max(1, _AT_ONCE // max(1, columns))
    return (weights[start : start + size] for start in range(0, len(weights), size))


def _in_parts(weights: Floats, columns: int, measure: Callable[[Floats], Floats]) -> Floats:
    return np.concatenate([measure(part) for part in _parts(weights, columns)])


@dataclass(frozen=True)
class Interval:
    """A difference and where it lies with a confidence of 95 %. value: of the data themselves."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, first: Floats, second: Floats) -> Interval:
        """Return the interval of second - first, both (1 + draws,) on the same draws, the data themselves first."""
        differences = second - first
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(differences[1:], [tail, 1 - tail])
        return cls(float(differences[0]), float(low), float(high))

    def verdict(self, more: bool, bound: float) -> Verdict:
        """Return whether the difference is more (or less) than ``bound``: only an interval on one side decides."""
        if self.low > bound:
            return "holds" if more else "fails"
        if self.high < bound:
            return "fails" if more else "holds"
        return "undecided"


def joined(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on a claim of several parts: it fails with any of them, and holds with all."""
    known = list(verdicts)
    if "fails" in known:
        return "fails"
    return "holds" if known and set(known) == {"holds"} else "undecided"
