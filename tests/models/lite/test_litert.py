"""Tests of the LiteRT wrapper."""

import sys

import pytest

from bmp.errors import UserError
from bmp.models.lite import litert


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
    with pytest.raises(ImportError, match=r'pip install "bmp-pose\[lite\]"'):
        litert.LiteModel(tmp_path / "model.tflite", 1)


def test_a_network_is_made_once_a_process(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(litert, "LiteModel", lambda path, num_threads: made.append(path) or object())
    assert litert.load(tmp_path / "a", 1) is litert.load(tmp_path / "a", 1)
    assert litert.load(tmp_path / "a", 1) is not litert.load(tmp_path / "b", 1)
    assert len(made) == 2
