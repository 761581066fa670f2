"""Honest repeats: sides take turns both ways round, and networks that remember pictures forget them."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def common(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).resolve().parents[2] / "benchmarks")])
    import common

    return common


def test_sides_take_turns_forwards_and_backwards_and_forget(common, monkeypatch):
    calls = []

    class Network:
        def forget(self):
            calls.append("forget")

    monkeypatch.setattr(common.landmarks, "loaded", lambda: [Network()])
    sides = {name: lambda stopwatch, name=name: calls.append(name) for name in "ab"}
    timings = common.repeat(sides, warmup=1, repeats=2)
    assert calls[1::2] == ["a", "b", "a", "b", "b", "a"]
    assert calls[::2] == ["forget"] * 6
    assert timings.keys() == {"a", "b"}
    assert timings["a"]["total"].median >= 0


@pytest.mark.parametrize(("load", "warned"), [(0.1, False), (1.9, True)])
def test_other_work_is_warned_of(common, monkeypatch, capsys, load, warned):
    monkeypatch.setattr(common.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(common.os, "cpu_count", lambda: 2)
    assert common.warn_of_load() == load / 2
    assert ("other work" in capsys.readouterr().err) == warned
