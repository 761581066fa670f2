"""CSV and Parquet, a row a person, for spreadsheets and data frames; written and read by pandas. Knows no network.

A photo in which nobody is has one row without a person.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

from bmp.errors import UserError
from bmp.io.atomic import replacing_path, writing
from bmp.io.coco_json import Labels
from bmp.io.formats.label_rows import SCORES, LabelRows, people_by_photo, points_of
from bmp.io.json_fields import JsonObject
from bmp.io.segmentations import checked_segmentation, to_run_lengths
from bmp.label_sets import COCO_KEYPOINTS, sets_named

_PHOTO = ("file_name", "height", "width")
_BOX = ("x", "y", "box_width", "box_height")
_MASK, _AREA, _ROUND = "mask", "area", "round"
_POINT_LISTS = {"score": "keypoint_scores", "visibility": "keypoint_visibility", "presence": "keypoint_presence"}


def write_table(labels: Labels, path: Path) -> list[str]:
    """Write the table: photo, box, scores, area, mask (COCO's run lengths, ``counts``), NAME_x, NAME_y, NAME_v, ..."""
    rows: list[JsonObject] = []
    for image, people in people_by_photo(labels):
        photo = {name: image[name] for name in _PHOTO}  # type: ignore[literal-required]
        rows += [{**photo, **_person(dict(row), image["height"], image["width"], labels)} for row in people] or [photo]
    pandas = _pandas()
    table = pandas.DataFrame(rows, columns=_columns(rows, labels))
    with writing(path), replacing_path(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            _to_parquet(table, temporary)
    return []


def _columns(rows: list[JsonObject], labels: Labels) -> list[str]:
    """Return the columns, also where nobody is in any photo."""
    return list(dict.fromkeys([*_PHOTO, *_BOX, *(name for row in rows for name in row)]))


def _person(row: JsonObject, height: int, width: int, labels: Labels) -> JsonObject:
    found: JsonObject = dict(zip(_BOX, row["bbox"], strict=True))
    found |= {name: row[name] for name in (*SCORES, _AREA, _ROUND) if name in row}
    if (shape := row.get("segmentation")) is not None:
        found[_MASK] = to_run_lengths(shape, height, width)["counts"]
    lists = {name: row[field] for name, field in _POINT_LISTS.items() if field in row}
    for number, (name, (x, y, v)) in enumerate(zip(labels.keypoints.names, points_of(row), strict=False)):  # type: ignore[arg-type]
        found |= {f"{name}_x": x, f"{name}_y": y, f"{name}_v": v}
        found |= {f"{name}_{kind}": values[number] for kind, values in lists.items()}
    return found


def _pandas() -> ModuleType:
    try:
        import pandas
    except ImportError:
        raise UserError("tables need pandas: pip install 'bmp-pose[dataframe]'") from None
    module: ModuleType = pandas
    return module


def _to_parquet(table: Any, path: Path) -> None:
    try:
        table.to_parquet(path, index=False)
    except ImportError:
        raise UserError("Parquet needs pyarrow: pip install 'bmp-pose[dataframe]'") from None


def read_table(path: Path, images: Path | None) -> tuple[JsonObject, list[str]]:
    """Read a table as ``write_table`` makes it; columns that are missing or empty are not labelled."""
    pandas = _pandas()
    try:
        if path.suffix == ".csv":
            # Names and masks are text as it stands: pandas would read numbers into some, and nothing into "NA".
            text = dict.fromkeys((_PHOTO[0], _MASK), str)
            table = pandas.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
        else:
            table = pandas.read_parquet(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read, {error.strerror or error}") from None
    except (ValueError, pandas.errors.ParserError) as error:
        raise UserError(f"{path}: no table, {' '.join(str(error).split())}") from None
    if missing := [name for name in (*_PHOTO, *_BOX) if name not in table.columns]:
        raise UserError(f"{path}: lacks the columns {', '.join(missing)}; docs/convert.md lists them all")
    names = [name[:-2] for name in table.columns if name.endswith("_v")]
    rows = LabelRows(next(iter(sets_named(names)), COCO_KEYPOINTS))
    known: dict[str, int] = {}
    for number, values in enumerate(table.to_dict("records"), 2):
        row = {name: value for name, value in values.items() if not _is_empty(value)}
        try:
            height, width = int(row["height"]), int(row["width"])
            name = str(row["file_name"])
            if name not in known:
                known[name] = rows.add_image(name, height, width)
            if _BOX[0] in row:
                _add(rows, known[name], row, height, width)
        except KeyError as error:
            raise UserError(f"{path}: row {number}: lacks {error}") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(f"{path}: row {number}: {' '.join(str(error).split())}") from None
    return rows.dataset(), []


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _add(rows: LabelRows, image_id: int, row: JsonObject, height: int, width: int) -> None:
    shape = (
        checked_segmentation({"size": [height, width], "counts": row[_MASK]}, height, width) if _MASK in row else None
    )
    names = rows.keypoints.names
    points = [(row.get(f"{name}_x", 0.0), row.get(f"{name}_y", 0.0), int(row.get(f"{name}_v", 0))) for name in names]
    more = {name: row[name] for name in SCORES if name in row}
    if _ROUND in row:
        more[_ROUND] = int(row[_ROUND])
    for kind, field in _POINT_LISTS.items():
        if all(f"{name}_{kind}" in row for name in names):
            more[field] = [row[f"{name}_{kind}"] for name in names]
    labelled = points if any(f"{name}_v" in row for name in names) else None
    rows.add_person(
        image_id,
        [float(row[name]) for name in _BOX],
        None if shape is None else to_run_lengths(shape, height, width),
        labelled,
        **more,
    )
