"""JSON that anybody may have written: read, its fields checked, with one line that says where it is wrong.

It knows no format. Values are compared, never converted: an integer of 400 digits is valid JSON and no float.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from bmp.errors import UserError

JsonObject: TypeAlias = dict[str, Any]
"""An object of a JSON file: its fields, of any type until they are checked."""

_LARGEST_ID = 2**53
"""Up to here whole numbers are the same in every program that reads JSON."""
_LONGEST_NAME, _LONGEST_PART = 4096, 255  # bytes, of file systems


@dataclass
class Notices:
    """What a reader filled in or left out: how often, and where first. One line a kind."""

    source: str
    _kinds: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, words: str, location: str, count: int = 1) -> None:
        """Count ``words``, what was done with what, for the first time at ``location``."""
        before, first = self._kinds.get(words, (0, location.removeprefix(f"{self.source}: ")))
        self._kinds[words] = before + count, first

    def lines(self) -> list[str]:
        """Return a line for each kind, in the order of their first locations."""
        return [
            f"{self.source}: {words}: {count}, the first is {first}" for words, (count, first) in self._kinds.items()
        ]


def read_json(path: Path) -> Any:
    """Return what is in a JSON file; ``UserError`` where it cannot be read or is none."""
    try:
        path = path.expanduser()
        # Asked first: opening a pipe would wait for somebody who writes into it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: cannot be read, it is no regular file; name a JSON file")
        return json.loads(path.read_bytes())
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read, {error.strerror or error}") from None
    except RecursionError:
        raise UserError(f"{path}: lists or objects nested too deeply to be read; this is no file of labels") from None
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not JSON, {' '.join(str(error).split())}") from None


def rows_of(path: Path, data: Mapping[str, object], table: str) -> Iterator[tuple[str, JsonObject]]:
    """Yield a copy of each object of a list, with its location in the file for messages.

    Fields that are null are left out: they say as much as fields that are not there.
    """
    rows = data.get(table)
    if not isinstance(rows, list):
        found = ", ".join(map(short, data)) or "nothing"
        raise UserError(f"{path}: expected a COCO dataset with a list {table!r}, got {found:.100}")
    for index, row in enumerate(rows):
        location = f"{path}: {table}[{index}]"
        expect(isinstance(row, dict), location, f"expected an object with named fields, got {short(row)}")
        yield location, {key: value for key, value in row.items() if value is not None}


def expect_field(location: str, row: Mapping[str, object], name: str, fits: bool, wanted: str) -> None:
    """Raise ``UserError`` that says what field ``name`` should be and what it is, unless it ``fits``."""
    if not fits:
        came = (
            f"got {short(row[name])}" if name in row else f"found only {', '.join(map(short, row)) or 'nothing':.200}"
        )
        raise UserError(f"{location}: expected {name} to be {wanted}, {came}")


def expect(fits: bool, location: str, complaint: str) -> None:
    """Raise ``UserError`` with the complaint and its location, unless all is well."""
    if not fits:
        raise UserError(f"{location}: {complaint}")


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number that every program reads alike; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_ID


def is_id(value: object) -> TypeGuard[int | str]:
    """Tell whether a value may identify an image or a category: a name or a whole number."""
    return is_whole(value) or (isinstance(value, str) and len(value) <= _LONGEST_NAME)


def is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    """Tell whether a value is a number in [low, high]; NaN is in no range."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def are_numbers(values: object, low: float, high: float) -> TypeGuard[list[float]]:
    """Tell whether a value is a list of numbers in [low, high]."""
    return isinstance(values, list) and all(is_number(value, low, high) for value in values)


def is_file_name(value: object) -> TypeGuard[str]:
    """Tell whether a value can be the name or path of a file."""
    if not isinstance(value, str) or not value.strip("/\\ ") or "\0" in value:
        return False
    try:
        parts = [len(part) for part in value.encode().split(b"/")]
    except UnicodeEncodeError:  # half a character
        return False
    return max(parts) <= _LONGEST_PART and sum(parts) < _LONGEST_NAME


def short(value: object) -> str:
    """Return a value as text for messages, at most 60 characters, in one line."""
    try:
        text = " ".join(repr(value).split())
    except (RecursionError, ValueError):  # nested deeply, or thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
