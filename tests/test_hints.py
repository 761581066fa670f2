"""Values against annotations: what a config may give to whom."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict, Union

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typing_extensions import NotRequired, Unpack

from bmp.hints import MisfitError, converted, described, implements, signature_of
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.stages import Detector, PoseEstimator


class Quiet(Protocol):
    """A protocol that isinstance cannot be asked about."""

    def hush(self) -> None: ...


class Hushed:
    def hush(self) -> None: ...


class Sizes(TypedDict):
    width: int
    height: NotRequired[int]


Seconds = NewType("Seconds", float)


@pytest.mark.parametrize(
    ("hint", "fitting", "others"),
    [
        (int, [0, -3], [True, 1.0, "1", None, [1]]),
        (float, [0, 0.5, -2], [False, "0.5", None, [0.5]]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "x"], [1, None, ["x"], Path("x")]),
        (None, [None], [0, "", False]),
        (type(None), [None], ["None"]),
        (int | None, [3, None], ["3", 1.5, True]),
        (Optional[float], [3, None], ["3", True]),  # noqa: UP045
        (Union[str, int], ["x", 3], [None, 1.5, True]),  # noqa: UP007
        (str | Path, ["x", Path("x")], [1, None]),
        (str | os.PathLike[str], ["x", Path("x")], [1, None]),
        (Literal["a", 1], ["a", 1], ["b", True, 1.0, None, ["a"]]),
        (Sequence[int], [[1, 2], (1, 2), [], range(3)], ["12", [1, "2"], [1.5], 3, None, {1: 2}]),
        (Sequence[str], [["a"], ()], ["a", [1]]),
        (Sequence, [["a", 1]], ["a", 1]),
        (list[float], [[1, 0.5]], [["x"], 1.0]),
        (tuple[int, str], [(1, "a")], [(1,), ("a", 1), (1, "a", 2), 1]),
        (tuple[int, ...], [(), (1, 2, 3)], [("a",)]),
        (set[int], [{1}, {2, 3}], [{"a"}, 3]),
        (Mapping[str, int], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, [], "a"]),
        (dict[str, Sequence[int]], [{"a": [1]}], [{"a": ["x"]}, {"a": 1}]),
        (dict, [{}, {1: 2}], [[], None]),
        (Callable[[int], int], [abs, Hushed], ["abs", 3]),
        (KeypointSet, [COCO_KEYPOINTS], ["coco", {}, None]),
        (torch.device | str, ["cpu", torch.device("cpu")], [0, None]),
        (NDArray[np.uint8], [np.zeros(3, np.uint8)], [[0, 0], "x"]),
        (Detector, [], ["x", Hushed(), {}]),
        (Quiet, [Hushed()], ["x", Hushed, {}]),
        (Sizes, [{"width": 1}], [3, "x"]),
        (Seconds, [1, 0.5], ["x"]),
        (type[int], [int], []),
        (Any, [None, "x", 3, object()], []),
        (object, [None, "x", 3], []),
        ("a word that means nothing", ["x", 3], []),
    ],
    # The values have addresses in their names, which differ between the processes that share the tests.
    ids=lambda part: "" if isinstance(part, list) else str(part),
)
def test_a_value_fits_or_does_not(hint, fitting, others):
    for value in fitting:
        assert converted(value, hint) is value or converted(value, hint) == value
    for value in others:
        with pytest.raises(MisfitError, match=r"^expected .*, got ") as caught:
            converted(value, hint)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "hint", "result"),
    [
        ("a/b", Path, Path("a/b")),
        ("a/b", str | Path, "a/b"),
        ([1, 2], tuple[int, int], (1, 2)),
        ((1, 2), list[int], [1, 2]),
        (["a"], Sequence[Path], [Path("a")]),
        ([1, 2], set[int], {1, 2}),
        (3, float, 3),
    ],
)
def test_what_a_config_cannot_write_is_converted(value, hint, result):
    found = converted(value, hint)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("value", "hint", "place", "words"),
    [
        ("two", int, "", "expected a whole number, got 'two'"),
        (None, str, "", "expected text, got None"),
        (1.5, int | None, "", "expected a whole number or None, got 1.5"),
        ([1, "x"], Sequence[float], "[1]", "expected a number, got 'x'"),
        ([[1, "x"]], list[tuple[int, int]], "[0][1]", "expected a whole number, got 'x'"),
        ({"a": [1, None]}, Mapping[str, list[int]], "['a'][1]", "expected a whole number, got None"),
        ((1, 2, 3), tuple[int, int], "", r"expected \(a whole number, a whole number\), got \(1, 2, 3\)"),
        (True, Literal["a", "b"], "", "expected 'a' or 'b', got True"),
        (["x"], str | Sequence[int], "[0]", "expected a whole number, got 'x'"),
        (3, Callable[[int], int], "", "expected a function, got 3"),
        ("x", KeypointSet, "", "expected a KeypointSet, got 'x'"),
        (3, Sequence[str], "", "expected a list, each text, got 3"),
        (3, Mapping[str, Any], "", "expected a dict, got 3"),
    ],
)
def test_a_misfit_says_where_and_what(value, hint, place, words):
    with pytest.raises(MisfitError, match=f"^{words}$") as caught:
        converted(value, hint)
    assert caught.value.place == place


def test_a_hint_is_described_once():
    assert described(str | Path | os.PathLike[str] | None) == "text, a path or None"


def later(
    one: "int",
    two: "NotThere",  # noqa: F821
    three=3,
    *rest: int,
    four: "Sequence['Path']" = (),
    five: "Annotated[int, 'px']" = 0,
    **more: "float",
):
    pass


@dataclass
class Row:
    name: "str"
    size: "int | None" = None


class Inherits(Row):
    pass


class Options(TypedDict, total=False):
    width: int
    height: float


class Unpacks:
    def __init__(self, name: str, **options: Unpack[Options]) -> None: ...


def test_signatures_are_read_with_their_annotations_resolved():
    found = signature_of(later)
    assert {name: each.hint for name, each in found.arguments.items()} == {
        "one": int, "two": Any, "three": Any, "four": Sequence[Path], "five": int,
    }  # fmt: skip
    assert [name for name, each in found.arguments.items() if each.required] == ["one", "two"]
    assert found.others is float
    for kind in (Row, Inherits):
        assert {name: each.hint for name, each in signature_of(kind).arguments.items()} == {
            "name": str,
            "size": int | None,
        }
        assert signature_of(kind).others is None


def test_unpacked_options_are_arguments():
    found = signature_of(Unpacks)
    assert {name: (each.hint, each.required) for name, each in found.arguments.items()} == {
        "name": (str, True), "width": (int, False), "height": (float, False),
    }  # fmt: skip
    assert found.others is None


def test_what_python_cannot_inspect_takes_anything():
    assert signature_of(dict).others is Any


def test_classes_implement_protocols_by_their_methods():
    class Mine:
        def __init__(self):
            self.keypoints = COCO_KEYPOINTS

        def estimate(self, images, people): ...

    assert implements(Mine, PoseEstimator)
    assert not implements(Mine, Detector)
    assert implements(bool, int)
    assert not implements(int, str)
