"""Tests of the logistic model of named signals."""

import numpy as np
import pytest

from bmp.models.lite.logistic import Logistic, logit, sigmoid


def test_a_logistic_model_is_one():
    model = Logistic({"a": 2.0, "b": -1.0}, 0.5)
    signals = {"a": np.array([0, 1], np.float32), "b": np.array([0, 3], np.float32), "c": np.array([9, 9], np.float32)}
    assert model(signals) == pytest.approx([1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(0.5))])


def test_logits_are_undone_by_the_sigmoid_and_stay_finite():
    values = np.array([0, 0.1, 0.5, 1], np.float32)
    assert sigmoid(logit(values, 0.01)) == pytest.approx([0.01, 0.1, 0.5, 0.99], rel=1e-4)
