"""Drawing and run lengths are done beside the networks, in runs over files and over data sets."""

import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # it sleeps
@pytest.mark.parametrize("over", ["over_files", "over_data_set"])
def test_what_follows_on_the_networks_is_done_beside_them(monkeypatch, over):
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).resolve().parents[2] / "benchmarks")])
    import overlap

    seconds = overlap.Seconds(0.04, 0.06, 0.03)
    one_after_the_other = 12 * (0.04 + 2 * 0.03)
    assert getattr(overlap, over)(seconds, 12, 4) < one_after_the_other * 0.9
