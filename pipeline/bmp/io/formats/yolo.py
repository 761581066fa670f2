"""Ultralytics' YOLO labels of poses or of masks, a text file a photo; knows no network.

Numbers are shares of the photo's width and height. A row of poses is class, box (centre and size) and x, y, v of each
keypoint; a row of masks is class and one polygon: parts and holes of a mask are joined by lines that enclose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml

from bmp.errors import UserError
from bmp.io.atomic import replacing, writing
from bmp.io.coco_json import Labels
from bmp.io.formats.label_rows import (
    LabelRows,
    files_beside,
    mask_of,
    people_by_photo,
    photos_in,
    points_of,
    read_text,
    relative_name,
)
from bmp.io.json_fields import JsonObject, expect, is_whole, short
from bmp.io.outlines import filled, polygon_of
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS, KeypointSet, sets_named

DATA = "data.yaml"
Kind = Literal["yolo-pose", "yolo-seg"]


def write_yolo(labels: Labels, folder: Path, kind: Kind) -> list[str]:
    """Write ``data.yaml`` and ``labels/``; photos belong in ``images/`` beside it. Return what was left out."""
    pairs = list(people_by_photo(labels))
    files = files_beside([image for image, _ in pairs], folder / "labels", ".txt")
    without = outside = 0
    for path, (image, people) in zip(files, pairs, strict=True):
        lines = []
        for row in people:
            if kind == "yolo-pose":
                points = points_of(row)
                inside = [point if point[2] and _within(point, image) else (0.0, 0.0, 0) for point in points]
                outside += sum(v > 0 for _, _, v in points) - sum(v > 0 for _, _, v in inside)
                lines.append(_pose_line(row["bbox"], inside or [(0.0, 0.0, 0)] * len(labels.keypoints), image))
            elif (mask := mask_of(row, image)) is not None:
                polygon = polygon_of(mask)
                lines.append(_joined([0, *_shares(polygon, image)]))
            else:
                without += 1
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.writelines(f"{line}\n" for line in lines)
    data: JsonObject = {"path": ".", "train": "images", "val": "images", "names": {0: "person"}}
    if kind == "yolo-pose":
        data |= {
            "kpt_shape": [len(labels.keypoints), 3],
            "flip_idx": list(labels.keypoints.flip_indices),
            "kpt_names": {0: list(labels.keypoints.names)},
        }
    with writing(folder / DATA), replacing(folder / DATA) as file:
        yaml.safe_dump(data, file, sort_keys=False)
    lost = {"people without a mask": without, "keypoints outside their photo": outside}
    return [f"{count} {what}" for what, count in lost.items() if count]


def _within(point: tuple[float, float, int], image: object) -> bool:
    width, height = _size(image)
    return 0 <= point[0] <= width and 0 <= point[1] <= height


def _pose_line(box: Sequence[float], points: Sequence[tuple[float, float, int]], image: object) -> str:
    width, height = _size(image)
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(width, box[0] + box[2]), min(height, box[1] + box[3])
    numbers = [0, (left + right) / 2 / width, (top + bottom) / 2 / height]
    numbers += [max(0.0, right - left) / width, max(0.0, bottom - top) / height]
    for x, y, v in points:
        numbers += [x / width, y / height, min(v, 2)]
    return _joined(numbers)


def _size(image: object) -> tuple[float, float]:
    assert isinstance(image, dict)
    return float(image["width"]), float(image["height"])


def _shares(polygon: Sequence[float], image: object) -> list[float]:
    return [value / size for value, size in zip(polygon, _size(image) * (len(polygon) // 2), strict=True)]


def _joined(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)


def read_yolo(folder: Path, images: Path | None) -> tuple[JsonObject, list[str]]:
    """Read labels of poses or masks: what ``data.yaml`` says they are; photos lie in ``images``, or beside them."""
    data = _data(folder / DATA)
    names = data["names"]
    persons = {str(number) for number, name in names.items() if len(names) == 1 or str(name).casefold() == "person"}
    shape = data.get("kpt_shape")
    keypoints = COCO_KEYPOINTS if shape is None else _meaning(folder, data, shape[0])
    rows = LabelRows(keypoints)
    photos = photos_in(images or folder / "images", "name their folder with --images DIR")
    labels = folder / "labels"
    left = {path.relative_to(labels).as_posix() for path in labels.rglob("*.txt")}
    for name, size in photos.items():
        file = relative_name(name).with_suffix(".txt").as_posix()
        left.discard(file)
        if size is None:
            rows.left_out["photos that cannot be read"] += 1
            continue
        image_id = rows.add_image(name, *size)
        path = labels / file
        for number, line in enumerate(read_text(path).splitlines() if path.exists() else (), 1):
            if not line.strip():
                continue
            if line.split()[0] not in persons:
                rows.left_out["rows of other classes"] += 1
                continue
            try:
                values = [float(text) for text in line.split()[1:]]
                _add(rows, image_id, values, size, None if shape is None else shape[1])
            except ValueError as error:
                raise UserError(f"{path}: line {number}: {error}") from None
    rows.left_out["files of labels without a photo"] += len(left)
    return rows.dataset(), [f"{count} {what}" for what, count in rows.left_out.items() if count]


def _add(rows: LabelRows, image_id: int, values: list[float], size: tuple[int, int], dimensions: int | None) -> None:
    height, width = size
    if dimensions is None:
        if len(values) < 6 or len(values) % 2:
            raise ValueError(f"expected a polygon x y x y ... of three corners or more, got {len(values)} numbers")
        pixels = [
            round(value * side, 2) for value, side in zip(values, (width, height) * (len(values) // 2), strict=True)
        ]
        rows.add_person(image_id, mask=filled(pixels, height, width))
        return
    count = len(rows.keypoints)
    if len(values) != 4 + dimensions * count:
        raise ValueError(f"expected a box and {count} keypoints, {4 + dimensions * count} numbers, got {len(values)}")
    x, y, across, down = (value * side for value, side in zip(values[:4], (width, height) * 2, strict=True))
    points = [
        (values[i] * width, values[i + 1] * height, _flag(values[i + 2]) if dimensions == 3 else 2)
        for i in range(4, len(values), dimensions)
    ]
    rows.add_person(image_id, [x - across / 2, y - down / 2, across, down], points=points)


def _flag(value: float) -> int:
    if value not in (0, 1, 2):
        raise ValueError(f"expected v to be 0, 1 or 2, got {value:g}")
    return int(value)


def _data(path: Path) -> JsonObject:
    """Return what is in ``data.yaml``, with ``names`` by number and, for poses, ``kpt_shape`` as it should be."""
    text = read_text(path)
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates of a month 13 are a ValueError
        raise UserError(f"{path}: not YAML, {' '.join(str(error).split()):.200}") from None
    expect(isinstance(data, dict), str(path), "expected names and, for poses, kpt_shape")
    names, shape = data.get("names", {0: "person"}), data.get("kpt_shape")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    expect(isinstance(names, dict), str(path), f"expected names of classes, got {short(names)}")
    fits = isinstance(shape, list) and len(shape) == 2 and all(map(is_whole, shape)) and shape[1] in (2, 3)
    expect(shape is None or fits, str(path), f"expected kpt_shape [keypoints, 2 or 3], got {short(shape)}")
    return {**data, "names": names}


def _meaning(folder: Path, data: JsonObject, count: int) -> KeypointSet:
    """Return what keypoints mean: by their names where there are any, or else by their number."""
    named = data.get("kpt_names")
    own = named.get(0) if isinstance(named, dict) else None
    known = sets_named(own) if isinstance(own, list) and all(isinstance(name, str) for name in own) else ()
    fitting: list[KeypointSet] = [*known, *(each for each in KEYPOINT_SETS.values() if len(each) == count)]
    if not fitting:
        raise UserError(f"{folder / DATA}: there is no keypoint set of {count} keypoints; see docs/datasets.md")
    return fitting[0]
