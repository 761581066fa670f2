"""What benchmarks share: sides take turns and forget, mistakes are a line, trainings are what they were begun as."""

import subprocess
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


def test_a_mistake_is_one_line(common, monkeypatch, capsys):
    def fails():
        raise common.UserError("--photos: no such folder")

    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["benchmarks/accuracy.py"])
    assert common.as_command(lambda: None) == 0
    assert (common.as_command(fails), common.as_command(stopped)) == (2, 130)
    assert capsys.readouterr().err == "accuracy.py: --photos: no such folder\naccuracy.py: interrupted\n"


def test_a_training_is_gone_on_with_only_as_it_was_begun(common, monkeypatch, tmp_path):
    weights, ran = tmp_path / "arms" / "full.safetensors", []

    def run(command, **_):
        ran.append(command)
        weights.write_bytes(b"trained")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    common.train("train/samp_nano.py", weights, {"train_cfg.max_iters": 5})
    assert common.train("train/samp_nano.py", weights, {"train_cfg.max_iters": 5}) == 0
    assert len(ran) == 1
    assert "--set=train_cfg.max_iters=5" in ran[0]
    with pytest.raises(common.UserError, match="choose another folder"):
        common.train("train/samp_nano.py", weights, {"train_cfg.max_iters": 6})
    weights.unlink()  # one that was stopped has no weights yet
    with pytest.raises(common.UserError, match=r"'train_cfg\.max_iters': 5"):
        common.train("train/samp_nano.py", weights, {"train_cfg.max_iters": 6})
    (tmp_path / "other.safetensors").write_bytes(b"")
    with pytest.raises(common.UserError, match="nobody wrote down"):
        common.train("train/samp_nano.py", tmp_path / "other.safetensors", {})
    assert len(ran) == 1
