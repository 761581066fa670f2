"""Label Studio: tasks with a region for the box, the mask and each keypoint of a person; knows no network.

The regions of a person's mask and keypoints have that of the box as their parent. A keypoint with v = 1 is noted as
"occluded" in its meta text; those with v = 0 are left out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import quoteattr

import numpy as np

from bmp.errors import UserError
from bmp.io.annotations import Annotation, ImageRow
from bmp.io.atomic import replacing, writing
from bmp.io.coco_json import Labels
from bmp.io.formats.brush import from_brush, to_brush
from bmp.io.formats.label_rows import LabelRows, mask_of, people_by_photo, points_of, polygon_mask, relative_name
from bmp.io.json_fields import JsonObject, are_numbers, expect, expect_field, is_whole, read_json, short
from bmp.io.outlines import to_bits, to_runs
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS, KeypointSet

TASKS, CONFIG = "tasks.json", "config.xml"
_LOCAL = "/data/local-files/?d="  # how Label Studio names files of a folder that it serves itself
_PERSON, _OCCLUDED = "person", "occluded"
_CONTROLS = {"rectanglelabels": "box", "brushlabels": "mask", "keypointlabels": "keypoint"}
_POINT_SIZE = 0.5  # per cent of the photo's width


def write_label_studio(labels: Labels, folder: Path) -> list[str]:
    """Write ``tasks.json``, to be imported, and ``config.xml``, the labelling interface that it is for.

    People with a score are predictions, which annotators start from; others are annotations.
    """
    tasks = [
        _task(number, image, people, labels.keypoints)
        for number, (image, people) in enumerate(people_by_photo(labels), 1)
    ]
    with writing(folder / TASKS):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / TASKS) as file:
            json.dump(tasks, file)
        with replacing(folder / CONFIG) as file:
            file.write(labelling_interface(labels.keypoints))
    return []


def labelling_interface(keypoints: KeypointSet) -> str:
    """Return the labelling interface of a project with these tasks."""
    names = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in keypoints.names)
    return f"""<View>
  <Image name="image" value="$image" zoom="true"/>
  <RectangleLabels name="box" toName="image">
    <Label value="{_PERSON}"/>
  </RectangleLabels>
  <BrushLabels name="mask" toName="image">
    <Label value="{_PERSON}"/>
  </BrushLabels>
  <KeyPointLabels name="keypoint" toName="image">
{names}
  </KeyPointLabels>
</View>
"""


def _task(number: int, image: ImageRow, people: Sequence[Annotation], keypoints: KeypointSet) -> JsonObject:
    name = relative_name(image["file_name"]).as_posix()
    regions: list[JsonObject] = []
    for person, row in enumerate(people, 1):
        regions += _regions(f"p{person}", row, image, keypoints)
    scores = [score for row in people if (score := row.get("score")) is not None]
    answer: JsonObject = {"result": regions}
    if scores:
        answer |= {"model_version": "bmp", "score": sum(scores) / len(scores)}
    data = {"image": _LOCAL + name, "file_name": name, "width": image["width"], "height": image["height"]}
    return {"id": number, "data": data, "predictions" if scores else "annotations": [answer]}


def _regions(person: str, row: Annotation, image: ImageRow, keypoints: KeypointSet) -> list[JsonObject]:
    width, height = image["width"], image["height"]
    score = row.get("score")

    def region(name: str, kind: str, value: JsonObject, **more: object) -> JsonObject:
        return {
            "id": f"{person}-{name}",
            "type": kind,
            "from_name": _CONTROLS[kind],
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": value,
            **({} if score is None else {"score": score}),
            **more,
        }

    parent = f"{person}-box"
    x, y, across, down = row["bbox"]
    box = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * across / width, "height": 100 * down / height}
    regions = [region("box", "rectanglelabels", {**box, "rotation": 0, "rectanglelabels": [_PERSON]})]
    if (mask := mask_of(row, image)) is not None:
        brush = {"format": "rle", "rle": to_brush(to_bits(mask)), "brushlabels": [_PERSON]}
        regions.append(region("mask", "brushlabels", brush, parentID=parent))
    for name, (x, y, v) in zip(keypoints.names, points_of(row), strict=False):
        if v:
            place = {"x": 100 * x / width, "y": 100 * y / height, "width": _POINT_SIZE, "keypointlabels": [name]}
            hidden = {"meta": {"text": [_OCCLUDED]}} if v == 1 else {}
            regions.append(region(name, "keypointlabels", place, parentID=parent, **hidden))
    return regions


def read_label_studio(path: Path, images: Path | None) -> tuple[JsonObject, list[str]]:
    """Read tasks as they are exported (JSON), or ``tasks.json`` of a folder.

    Of a task the last annotation that was not cancelled counts, or else the last prediction.
    """
    path = path / TASKS if path.is_dir() else path
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and _is_object(task, "data") for task in tasks):
        raise UserError(
            f"{path}: expected Label Studio's JSON, a list of tasks with data; export as JSON, not JSON-MIN"
        )
    answers = [_answer(task, f"{path}: task {short(task.get('id', number))}") for number, task in enumerate(tasks, 1)]
    rows = LabelRows(_meaning(answers))
    for number, (task, regions) in enumerate(zip(tasks, answers, strict=True)):
        location, data = f"{path}: task {short(task.get('id', number + 1))}", task["data"]
        name = str(data.get("file_name") or _name(str(data.get("image"))))
        size = data.get("height"), data.get("width")
        if regions:
            size = regions[0].get("original_height"), regions[0].get("original_width")
        if not all(map(is_whole, size)):
            rows.left_out["tasks without a region, whose photo's size is unknown"] += 1
            continue
        image_id = rows.add_image(name, *size)
        people: dict[str, list[JsonObject]] = defaultdict(list)
        for region in regions:
            if region.get("type") not in (*_CONTROLS, "polygonlabels"):
                rows.left_out[f"regions of the type {short(region.get('type'))}"] += 1
                continue
            people[str(region.get("parentID") or region.get("id"))].append(region)
        for group in people.values():
            _add(rows, image_id, group, size, location)
    return rows.dataset(), [f"{count} {what}" for what, count in rows.left_out.items() if count]


def _is_object(task: JsonObject, name: str) -> bool:
    return isinstance(task.get(name), dict)


def _answer(task: JsonObject, location: str) -> list[JsonObject]:
    answers: list[JsonObject] = []
    for name in ("predictions", "annotations"):
        listed = task.get(name) or []
        fits = isinstance(listed, list) and all(isinstance(answer, dict) for answer in listed)
        expect_field(location, task, name, fits, "a list of answers")
        answers += [answer for answer in listed if not answer.get("was_cancelled")]
    regions = answers[-1].get("result", []) if answers else []
    fits = isinstance(regions, list) and all(isinstance(region, dict) for region in regions)
    expect(fits, location, "expected result to be a list of regions")
    return [{**region, "value": _value(region, location)} for region in regions]


def _value(region: JsonObject, location: str) -> JsonObject:
    """Return the value of a region, in which names of keypoints are names."""
    value = region.get("value")
    where = f"{location}, region {short(region.get('id'))}"
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a value")
    names = value.get("keypointlabels", [])
    fits = isinstance(names, list) and all(isinstance(name, str) for name in names)
    expect_field(where, value, "keypointlabels", fits, "a list of names")
    return value


def _name(url: str) -> str:
    """Return the name of a photo from its address in Label Studio."""
    return unquote(url.partition("?d=")[2] or url.rpartition("/")[2])


def _add(rows: LabelRows, image_id: int, regions: Sequence[JsonObject], size: tuple[int, int], location: str) -> None:
    height, width = size
    box, score = None, None
    bits = np.zeros(size, dtype=np.bool_)
    points: dict[str, tuple[float, float, int]] = {}
    for region in regions:
        kind, value = str(region["type"]), region["value"]
        where = f"{location}, region {short(region.get('id'))}"
        if kind in ("rectanglelabels", "keypointlabels"):
            names = ("x", "y", "width", "height") if kind == "rectanglelabels" else ("x", "y")
            shares: Any = [value.get(name) for name in names]
            expect(are_numbers(shares, -1e4, 1e4), where, f"expected {', '.join(names)} in per cent")
            pixels = [share * side / 100 for share, side in zip(shares, (width, height) * 2, strict=False)]
        if kind == "rectanglelabels":
            box, score = pixels, region.get("score")
        elif kind == "keypointlabels":
            meta = region.get("meta")
            hidden = isinstance(meta, dict) and _OCCLUDED in (meta.get("text") or [])
            for name in value.get("keypointlabels", []):
                points[name] = (pixels[0], pixels[1], 1 if hidden else 2)
        elif kind == "brushlabels":
            packed: Any = value.get("rle")
            expect_field(where, value, "rle", isinstance(packed, list) and all(map(is_whole, packed)), "bytes")
            try:
                bits |= from_brush(packed, height, width)
            except (ValueError, OverflowError) as error:
                raise UserError(f"{where}: {error}") from None
        else:
            pairs: Any = value.get("points")
            fits = isinstance(pairs, list) and len(pairs) >= 3
            fits = fits and all(are_numbers(pair, -1e4, 1e4) and len(pair) == 2 for pair in pairs)
            expect_field(where, value, "points", fits, "three pairs or more, in per cent")
            corners = [
                round(share * side / 100, 2)
                for pair in pairs
                for share, side in zip(pair, (width, height), strict=True)
            ]
            bits |= polygon_mask(corners, size, where)
    found = [points.get(name, (0.0, 0.0, 0)) for name in rows.keypoints.names] if points else None
    rows.add_person(image_id, box, to_runs(bits) if bits.any() else None, found, score=score)


def _meaning(answers: Sequence[Sequence[JsonObject]]) -> KeypointSet:
    """Return the set that most of the names of keypoints belong to, COCO's first."""
    names = {name for regions in answers for region in regions for name in region["value"].get("keypointlabels", [])}
    known = [COCO_KEYPOINTS, *KEYPOINT_SETS.values()]
    return max(known, key=lambda keypoints: len(names & set(keypoints.names)))
