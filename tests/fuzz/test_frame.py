"""The fuzzers' frame notices what it is there for: exceptions, hangs, ended processes, too much memory."""

import json
import os
import random
import signal
import time

import frame
import mutations
import pytest


def raise_something(chance, folder):
    raise KeyError("row")


def hang(chance, folder):
    time.sleep(60)
    return "woke"


def end(chance, folder):
    os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def eat(chance, folder):
    return str(len(bytearray(2 << 30)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trial", "reason"),
    [(raise_something, "KeyError: 'row'"), (hang, "hung"), (end, "exit code -9"), (eat, "MemoryError")],
)
def test_a_failure_has_a_number_and_a_reason_and_the_next_trial_runs(trial, reason):
    findings = frame.run(trial, count=2, first=5, seconds=0.1 if trial is hang else 10.0)
    assert [number for number, _ in findings.failures] == [5, 6]
    assert all(reason in words for _, words in findings.failures)
    assert not findings.outcomes


@pytest.mark.slow
def test_a_trial_depends_on_seed_and_number_only(capsys):
    def trial(chance, folder):
        (folder / "input").write_bytes(b"")  # every trial has an empty folder of its own
        return str(chance.random())

    everything = frame.run(trial, count=4, seed=3).outcomes
    assert len(everything) == 4
    assert frame.run(trial, count=1, seed=3, first=2).outcomes.keys() < everything.keys()
    assert not frame.run(trial, count=4, seed=4).outcomes.keys() & everything.keys()
    assert frame.main({"numbers": trial}, ["--count", "3"]) == 0
    assert capsys.readouterr().out.startswith("numbers: 3 trials: 1 ")
    assert frame.main({"numbers": trial, "wrong": raise_something}, ["--count", "1", "--only", "wrong"]) == 1
    assert "number 0: " in capsys.readouterr().err


def is_json(file):
    try:
        json.loads(file)
    except (ValueError, RecursionError):
        return False
    return True


@pytest.mark.slow
def test_mutations_break_json_in_many_ways_and_leave_the_original():
    value = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"bbox": [1, 2, 3, 4]}]}
    before = json.dumps(value)
    files = [mutations.mutate(value, random.Random(number)) for number in range(300)]
    assert json.dumps(value) == before
    assert len(set(files)) > 200
    assert files == [mutations.mutate(value, random.Random(number)) for number in range(300)]
    valid = sum(is_json(file) for file in files)
    assert 150 < valid < 290  # most files are JSON, or only the parser is tried
