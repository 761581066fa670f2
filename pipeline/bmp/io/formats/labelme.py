"""labelme, a JSON file beside each photo: box, mask and keypoints of a person, held together by a group; no network.

A keypoint with v = 1 has the flag "occluded"; those with v = 0 are left out.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from bmp.errors import UserError
from bmp.io.atomic import replacing, writing
from bmp.io.coco_json import Labels
from bmp.io.decoding import one_line
from bmp.io.formats.label_rows import LabelRows, files_beside, mask_of, people_by_photo, points_of, polygon_mask
from bmp.io.json_fields import JsonObject, are_numbers, expect, expect_field, is_id, is_whole, read_json, short
from bmp.io.outlines import to_bits, to_runs
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS, KeypointSet
from bmp.ops.masks import RunLengths

_VERSION = "5.5.0"  # since 5.3 a shape can be a mask
_PERSON, _OCCLUDED = "person", "occluded"


def write_labelme(labels: Labels, folder: Path) -> list[str]:
    """Write a file for each photo, below ``folder`` as the photos are below theirs; they belong beside these files."""
    pairs = list(people_by_photo(labels))
    files = files_beside([image for image, _ in pairs], folder, ".json")
    for path, (image, people) in zip(files, pairs, strict=True):
        shapes: list[JsonObject] = []
        for group, row in enumerate(people, 1):
            x, y, width, height = row["bbox"]
            shapes.append(_shape(_PERSON, "rectangle", [[x, y], [x + width, y + height]], group))
            if (mask := mask_of(row, image)) is not None:
                shapes.append(_mask_shape(mask, group))
            for name, (x, y, v) in zip(labels.keypoints.names, points_of(row), strict=False):
                if v:
                    shapes.append(_shape(name, "point", [[x, y]], group, flags={_OCCLUDED: True} if v == 1 else {}))
        content: JsonObject = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": Path(image["file_name"]).name,
            "imageData": None,
            "imageHeight": image["height"],
            "imageWidth": image["width"],
        }
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                json.dump(content, file)
    return []


def _shape(label: str, kind: str, points: Sequence[Sequence[float]], group: int, **more: object) -> JsonObject:
    return {
        "label": label,
        "points": [list(point) for point in points],
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
        **more,
    }


def _mask_shape(mask: RunLengths, group: int) -> JsonObject:
    bits = to_bits(mask)
    rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    stream = io.BytesIO()
    PIL.Image.fromarray(bits[top : bottom + 1, left : right + 1].astype(np.uint8)).save(stream, format="PNG")
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return _shape(_PERSON, "mask", [[left, top], [right, bottom]], group, mask=text)


def read_labelme(folder: Path, images: Path | None) -> tuple[JsonObject, list[str]]:
    """Read all files below a folder: shapes of a group are one person, and so is each one without a group."""
    files = [(path, read_json(path)) for path in sorted(folder.rglob("*.json"))]
    labels = [(path, data) for path, data in files if isinstance(data, dict) and isinstance(data.get("shapes"), list)]
    if not labels:
        raise UserError(f"{folder}: holds no file of labelme, JSON with a list of shapes")
    rows = LabelRows(_meaning([data for _, data in labels]))
    for path, data in labels:
        for side in ("imageHeight", "imageWidth"):
            expect_field(str(path), data, side, is_whole(data.get(side)) and data[side] > 0, "pixels")
        expect_field(str(path), data, "imagePath", isinstance(data.get("imagePath"), str), "the name of the photo")
        size = data["imageHeight"], data["imageWidth"]
        name = data["imagePath"].replace("\\", "/").rpartition("/")[2]
        image_id = rows.add_image((path.parent.relative_to(folder) / name).as_posix(), *size)
        people: dict[object, list[JsonObject]] = defaultdict(list)
        for number, shape in enumerate(data["shapes"]):
            location = f"{path}: shapes[{number}]"
            points = shape.get("points") if isinstance(shape, dict) else None
            fits = (
                isinstance(points, list)
                and isinstance(shape.get("label"), str | None)
                and all(are_numbers(pair, -1e6, 1e6) and len(pair) == 2 for pair in points)
            )
            expect(fits and bool(points), location, "expected points to be pairs x, y")
            known = shape.get("label") in (_PERSON, *rows.keypoints.names)
            kinds = ("point",) if shape.get("label") in rows.keypoints.names else ("rectangle", "polygon", "mask")
            if not known or shape.get("shape_type") not in kinds:
                rows.left_out["shapes of other labels or kinds"] += 1
                continue
            group = shape.get("group_id")
            expect(group is None or is_id(group), location, f"expected group_id to be a number, got {short(group)}")
            people[(number,) if group is None else group].append({**shape, "location": location})
        for shapes in people.values():
            _add(rows, image_id, shapes, size)
    return rows.dataset(), [f"{count} {what}" for what, count in rows.left_out.items() if count]


def _add(rows: LabelRows, image_id: int, shapes: Sequence[JsonObject], size: tuple[int, int]) -> None:
    box = None
    bits = np.zeros(size, dtype=np.bool_)
    points: dict[str, tuple[float, float, int]] = {}
    for shape in shapes:
        pairs, kind = shape["points"], shape["shape_type"]
        if kind == "rectangle":
            (left, top), (right, bottom) = np.min(pairs, axis=0).tolist(), np.max(pairs, axis=0).tolist()
            box = [left, top, right - left, bottom - top]
        elif kind == "point":
            flags = shape.get("flags")
            hidden = isinstance(flags, dict) and bool(flags.get(_OCCLUDED))
            points[shape["label"]] = (pairs[0][0], pairs[0][1], 1 if hidden else 2)
        elif kind == "polygon":
            bits |= polygon_mask([value for pair in pairs for value in pair], size, shape["location"])
        else:
            _paste(bits, shape)
    found = [points.get(name, (0.0, 0.0, 0)) for name in rows.keypoints.names] if points else None
    rows.add_person(image_id, box, to_runs(bits) if bits.any() else None, found)


def _paste(bits: npt.NDArray[np.bool_], shape: JsonObject) -> None:
    try:
        content = base64.b64decode(shape.get("mask") or "")
    except (binascii.Error, ValueError, TypeError) as error:
        raise UserError(f"{shape['location']}: its mask is no PNG in base64 ({error})") from None
    with one_line(f"{shape['location']}: its mask"), PIL.Image.open(io.BytesIO(content)) as picture:
        values = np.array(picture.convert("L")) > 0
    left, top = (int(value) for value in shape["points"][0])
    height, width = values.shape
    inside = left >= 0 and top >= 0 and left + width <= bits.shape[1] and top + height <= bits.shape[0]
    expect(inside, shape["location"], f"its mask of {width}x{height} pixels leaves the photo")
    bits[top : top + height, left : left + width] |= values


def _meaning(files: Sequence[JsonObject]) -> KeypointSet:
    """Return the set that most of the names of points belong to, COCO's first."""
    names = {
        shape.get("label")
        for data in files
        for shape in data["shapes"]
        if isinstance(shape, dict) and shape.get("shape_type") == "point" and isinstance(shape.get("label"), str)
    }
    known = [COCO_KEYPOINTS, *KEYPOINT_SETS.values()]
    return max(known, key=lambda keypoints: len(names & set(keypoints.names)))
