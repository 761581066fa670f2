"""What a file of reference vectors lacks skips the test that asks for it, and says what is missing."""

import json

import numpy as np
import pytest
from reference_vectors import read_vectors


@pytest.fixture
def shared(tmp_path):
    (tmp_path / "reference").mkdir()
    np.savez(tmp_path / "reference" / "head.npz", **{"input": np.arange(3), "weight/a": np.ones(2)})
    (tmp_path / "reference" / "cases.json").write_text(json.dumps([{"oks": 0.5, "people": [{"id": 1}]}]))
    return tmp_path


def test_what_is_there_is_read(shared):
    head, (case,) = read_vectors(shared, "head.npz"), read_vectors(shared, "cases.json")
    assert head["input"].tolist() == [0, 1, 2]
    assert {name: array.tolist() for name, array in head.beginning_with("weight/").items()} == {"a": [1, 1]}
    assert (case["oks"], case["people"][0]["id"]) == (0.5, 1)


@pytest.mark.parametrize(
    ("name", "ask", "words"),
    [
        ("head.npz", lambda file: file["error"], "head.npz has no 'error'"),
        ("head.npz", lambda file: file.beginning_with("bias/"), "head.npz has no 'bias/...'"),
        ("cases.json", lambda file: file[0]["area"], "cases.json has no 'area'"),
        ("cases.json", lambda file: file[0]["people"][0]["box"], "cases.json has no 'box'"),
        ("gone.npz", lambda file: file, "has no gone.npz"),
    ],
)
def test_what_is_missing_skips_and_is_named(shared, name, ask, words):
    with pytest.raises(pytest.skip.Exception, match=words):
        ask(read_vectors(shared, name))
