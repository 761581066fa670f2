"""Parsing's metrics against vectors of Parsing R-CNN's public evaluation, run on drawn people."""

import numpy as np
import pytest
from reference_vectors import read_vectors

from bmp.evaluation.metrics.parsing import THRESHOLDS, PeopleParsing, confusion, ious, map_numbers


@pytest.fixture(scope="module")
def vectors(shared):
    return read_vectors(shared, "parsing_metrics.npz"), read_vectors(shared, "parsing_metrics.json")


def test_maps(vectors):
    arrays, expected = vectors
    counts = sum(confusion(*pair, 20) for pair in zip(arrays["semantic_truth"], arrays["semantic_found"], strict=True))
    found = map_numbers(counts)
    assert found.iou == pytest.approx(expected["iou"], abs=1e-6)
    for name in ("miou", "miou_absent_as_zero", "mean_accuracy", "pixel_accuracy"):
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-6)


def test_people(vectors):
    arrays, expected = vectors
    assert expected["thresholds"] == list(THRESHOLDS)
    parsing = PeopleParsing(20)
    for image in np.unique(arrays["truth_image"]):
        answers = arrays["found_image"] == image
        people = arrays["truth"][arrays["truth_image"] == image]
        parsing.add(people, arrays["found"][answers], arrays["found_score"][answers].tolist())
    found = parsing.numbers()
    assert found.ap == pytest.approx(expected["ap_p"], abs=1e-6)
    assert found.pcp == pytest.approx(expected["pcp"], abs=1e-6)
    assert found.ap_vol == pytest.approx(expected["ap_p_vol"], abs=1e-6)


def test_pairs(vectors):
    arrays, expected = vectors
    for pair in expected["pairs"]:
        person = arrays["truth"][arrays["truth_image"] == pair["image"]][pair["truth"]]
        answer = arrays["found"][arrays["found_image"] == pair["image"]][pair["found"]]
        by_label = ious(confusion(person, answer, 20))
        assert [None if np.isnan(value) else value for value in by_label] == pytest.approx(pair["iou"], abs=1e-6)
        assert np.nanmean(by_label) == pytest.approx(pair["mean"], abs=1e-6)
