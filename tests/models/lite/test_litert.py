"""Tests of the LiteRT wrapper."""

import copy
import os
import pickle
import sys

import numpy as np
import pytest
from program import script, together

from bmp.checkpoints.sources import resolve
from bmp.errors import UserError
from bmp.models.lite import landmarks, litert
from bmp.models.lite.landmarks import LandmarkModel


def test_a_file_that_is_no_model_is_the_users_mistake(tmp_path):
    pytest.importorskip("ai_edge_litert.interpreter")
    path = tmp_path / "model.tflite"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"model\.tflite: expected a LiteRT model"):
        litert.LiteModel(path, 1)


def test_there_is_at_least_one_thread(tmp_path):
    with pytest.raises(UserError, match="num_threads: expected at least 1, got 0"):
        litert.LiteModel(tmp_path / "model.tflite", 0)


def test_a_missing_interpreter_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r'run `pip install -e "\.\[lite\]"` in .'):
        litert.LiteModel(tmp_path / "model.tflite", 1)


def test_a_network_is_made_once_a_process(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(litert, "LiteModel", lambda path, num_threads: made.append(path) or object())
    assert litert.load(tmp_path / "a", 1) is litert.load(tmp_path / "a", 1)
    assert litert.load(tmp_path / "a", 1) is not litert.load(tmp_path / "b", 1)
    assert len(made) == 2


@pytest.fixture
def finder():
    """A real network."""
    try:
        return litert.load(resolve("mediapipe/ssd_mobilenet_v2_open_images.tflite"), 2)
    except (UserError, ImportError) as error:
        pytest.skip(f"the lite networks cannot be had here: {error}")


ROW = np.linspace(-1, 1, 300 * 300 * 3, dtype=np.float32).reshape(300, 300, 3)


def summed(model: litert.LiteModel) -> float:
    return float(sum(np.abs(output).sum() for output in model(ROW)))


def test_copies_share_the_network_of_the_process(finder):
    assert copy.deepcopy(finder) is finder
    assert pickle.loads(pickle.dumps(finder)) is finder


def test_copies_of_the_landmark_model_remember_for_themselves(monkeypatch, tmp_path):
    monkeypatch.setattr(litert, "load", lambda path, num_threads: path)
    model = LandmarkModel(tmp_path, 2)
    model._known[b"", b""] = (np.zeros(1),)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not other._known
        assert other._model == tmp_path
    assert landmarks.load(tmp_path, 2) is landmarks.load(tmp_path, 2)
    assert model._known


_WRITTEN = """
import multiprocessing, pathlib, pickle, sys, numpy as np
assert 'ai_edge_litert' not in sys.modules
row = np.load('row.npy')

def summed(model):
    return float(sum(np.abs(output).sum() for output in model(row)))

model = pickle.loads(pathlib.Path('model').read_bytes())
print(repr(summed(model)))
"""
# Forks there, and not in the process of the tests: of all that runs in threads by then, some does not survive it.
_FORKED = """
with multiprocessing.get_context('fork').Pool(1) as pool:  # the threads of the parent's interpreter are running by now
    print(repr(pool.apply_async(summed, (model,)).get(timeout=30)))
print(repr(summed(model)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "answers"),
    [
        pytest.param(_WRITTEN, 1, id="new"),
        pytest.param(
            _WRITTEN + _FORKED,
            3,
            id="forked",
            marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
        ),
    ],
)
def test_another_process_gets_the_same_answer(finder, tmp_path, program, answers):
    (tmp_path / "model").write_bytes(pickle.dumps(finder))
    np.save(tmp_path / "row.npy", ROW)
    (tmp_path / "load.py").write_text(program)
    ((code, out, err),) = together(tmp_path, "load.py", main=script, count=1)
    assert code == 0, err
    assert [float(line) for line in out.splitlines()] == [summed(finder)] * answers
