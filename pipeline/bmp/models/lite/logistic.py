"""A logistic model of named signals: the form of everything that the lite stages have learnt from photos.

Knows none of the signals; ``benchmarks/fit_lite.py`` fits the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def sigmoid(logits: Array) -> Array:
    """Return the probabilities of ``logits``."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), dtype=np.float32)


def logit(probabilities: Array, limit: float) -> Array:
    """Return the logits of ``probabilities``, which are first cut to [limit, 1 - limit]."""
    cut = np.clip(probabilities, limit, 1 - limit)
    return np.asarray(np.log(cut / (1 - cut)), dtype=np.float32)


@dataclass(frozen=True)
class Logistic:
    """The probability of something, given signals of it."""

    weights: Mapping[str, float]
    bias: float

    def __call__(self, signals: Mapping[str, Array]) -> Array:
        """Return the probabilities for ``signals``, all of one shape, which is the result's; others are not used."""
        total = sum((weight * signals[name] for name, weight in self.weights.items()), np.float32(self.bias))
        return sigmoid(np.asarray(total, dtype=np.float32))
