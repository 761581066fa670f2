"""Reads COCO JSON that anybody may have written, with messages that say where it is wrong; knows no picture."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from bmp.errors import UserError
from bmp.ops.boxes import xywh_to_xyxy
from bmp.structures import Detections

CATEGORY_ID = 1
"""Of persons, in all that this program writes."""
_LARGEST = 1e9  # far beyond any picture, far below where float32 sums overflow


def load_boxes(path: str | Path, file_names: Sequence[str]) -> dict[str, Detections]:
    """Read the boxes of persons from COCO JSON for the images of a run.

    path: a dataset (``images`` and ``annotations``, such as ``instances_val2017.json`` or our own people.json) or a
    list of results ``{"image_id": ..., "bbox": [x, y, width, height], "score": ...}``. A result's ``image_id`` is a
    file name, with or without extension, or the number in it, as COCO has 785 for ``000000000785.jpg``. Crowd regions
    and other categories than person (in results: than 1) are left out. Without a score, a box counts as certain.

    file_names: the names to look for. The first of these that fits counts: the same path, the same name without
    folders, also without extension, the same number.

    Returns the boxes in file order for each of ``file_names`` that the file speaks of; an image of a dataset without
    persons has zero rows. Raises ``UserError`` for a file that cannot be read or used, and if no name fits at all.
    """
    path = Path(path)
    data = read_json(path)
    if isinstance(data, dict):
        boxes = _boxes_of_dataset(path, data)
    elif isinstance(data, list):
        boxes = _boxes_of_results(path, data)
    else:
        raise UserError(f"{path}: expected a COCO dataset or a list of results, got {type(data).__name__}")
    owners: dict[str | int, str] = {}
    aliases: dict[str | int, list[str | int]] = defaultdict(list)
    for key in boxes:
        for alias in _aliases(key):
            aliases[alias].append(key)
    found: dict[str, Detections] = {}
    for name in file_names:
        keys = next((aliases[alias] for alias in _aliases(name) if alias in aliases), [])
        if len(keys) > 1:
            raise UserError(f"{path}: {keys[0]!r} and {keys[1]!r} both fit the input {name}; use full paths in it")
        for key in keys:
            if key in owners:
                raise UserError(f"{path}: {key!r} fits the inputs {owners[key]} and {name}; use full paths in it")
            owners[key] = name
            found[name] = boxes[key]
    if not found and file_names:
        example = next(iter(boxes), "no images")
        raise UserError(f"{path}: speaks of none of the inputs; it has {example!r}, the inputs have {file_names[0]!r}")
    return found


def _aliases(key: str | int) -> list[str | int]:
    """List what an image may be called, the most telling first."""
    if isinstance(key, int):
        return [key]
    base = PurePosixPath(key.replace("\\", "/"))
    names: list[str | int] = [key, base.name, base.stem]
    if base.stem.isdecimal():
        names.append(int(base.stem))
    return list(dict.fromkeys(names))


def _boxes_of_dataset(path: Path, data: dict[str, Any]) -> dict[str | int, Detections]:
    names: dict[str | int, str] = {}
    for place, row in rows_of(path, data, "images"):
        expect_field(place, row, "id", is_id(row.get("id")), "a name or whole number")
        expect_field(place, row, "file_name", isinstance(row.get("file_name"), str), "a name")
        names[row["id"]] = row["file_name"]
    persons = person_categories(path, data)
    boxes: dict[str | int, list[list[float]]] = {name: [] for name in names.values()}
    for place, row in rows_of(path, data, "annotations"):
        image_id: Any = row.get("image_id")
        known = is_id(image_id) and image_id in names
        expect(known, place, f"image_id {short(image_id)} is not the id of any of its images")
        if not row.get("iscrowd") and (persons is None or row.get("category_id") in persons):
            boxes[names[image_id]].append(_box_and_score(place, row))
    return {name: _detections(rows) for name, rows in boxes.items()}


def _boxes_of_results(path: Path, data: list[Any]) -> dict[str | int, Detections]:
    boxes: dict[str | int, list[list[float]]] = defaultdict(list)
    for place, row in rows_of(path, {"results": data}, "results"):
        if row.get("category_id", CATEGORY_ID) == CATEGORY_ID:
            expect_field(place, row, "image_id", is_id(row.get("image_id")), "a name or whole number")
            boxes[row["image_id"]].append(_box_and_score(place, row))
    return {key: _detections(rows) for key, rows in boxes.items()}


def _detections(rows: list[list[float]]) -> Detections:
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Detections(xywh_to_xyxy(values[:, :4]), values[:, 4].contiguous())


def _box_and_score(place: str, row: dict[str, Any]) -> list[float]:
    box: Any = row.get("bbox")
    fits = are_numbers(box) and len(box) == 4 and min(box[2:]) >= 0 and max(map(abs, box)) <= _LARGEST
    expect_field(place, row, "bbox", fits, "[x, y, width, height], finite, sizes at least 0")
    score: Any = row.get("score", 1.0)
    expect_field(place, row, "score", are_numbers([score]) and 0 <= score <= 1, "a number in [0, 1]")
    return [*box, score]


def read_json(path: Path) -> Any:
    """Return what is in a JSON file; ``UserError`` where it cannot be read or is none."""
    try:
        return json.loads(path.expanduser().read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read, {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON, {error}") from None


def rows_of(path: Path, data: Mapping[str, Any], table: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a copy of each object of a list, with its place in the file for messages."""
    rows = data.get(table)
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a COCO dataset with a list {table!r}, got {', '.join(data) or 'nothing'}")
    for index, row in enumerate(rows):
        place = f"{path}: {table}[{index}]"
        expect(isinstance(row, dict), place, f"expected an object with named fields, got {short(row)}")
        yield place, dict(row)


def person_categories(path: Path, data: Mapping[str, Any]) -> list[Any] | None:
    """Return the ids of the category "person", or None if there is no choice to make."""
    if "categories" not in data:
        return None
    categories = [row for _, row in rows_of(path, data, "categories")]
    persons = [row.get("id") for row in categories if row.get("name") == "person"]
    if not persons and len(categories) > 1:
        raise UserError(
            f"{path}: none of its {len(categories)} categories is called person; rename the one that means it"
        )
    return persons or None


def expect_field(place: str, row: Mapping[str, Any], name: str, fits: bool, wanted: str) -> None:
    """Raise ``UserError`` that says what field ``name`` should be and what it is, unless it ``fits``."""
    if not fits:
        came = f"got {short(row[name])}" if name in row else f"found only {', '.join(row) or 'nothing'}"
        raise UserError(f"{place}: expected {name} to be {wanted}, {came}")


def expect(fits: bool, place: str, complaint: str) -> None:
    """Raise ``UserError`` with the complaint and its place, unless all is well."""
    if not fits:
        raise UserError(f"{place}: {complaint}")


def is_whole(value: Any) -> bool:
    """Tell whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_id(value: Any) -> bool:
    """Tell whether a value may identify an image: a name or a whole number."""
    return isinstance(value, str) or is_whole(value)


def are_numbers(values: Any) -> bool:
    """Tell whether a value is a list of finite numbers."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )


def short(value: Any) -> str:
    """Return a value as text for messages, at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
