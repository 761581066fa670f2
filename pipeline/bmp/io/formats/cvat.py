"""CVAT for images 1.1, one XML file: box, mask and skeleton of each person, held together by a group; no network.

The labels are "person" for boxes and masks and "pose" for skeletons. A keypoint with v = 1 is occluded there, one with
v = 0 outside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from bmp.errors import UserError
from bmp.io.atomic import replacing, writing
from bmp.io.coco_json import Labels
from bmp.io.formats.label_rows import (
    SCORES,
    LabelRows,
    mask_of,
    people_by_photo,
    points_of,
    polygon_mask,
    relative_name,
)
from bmp.io.formats.xml_fields import attribute, parse_xml, pixels, written
from bmp.io.json_fields import JsonObject, short
from bmp.io.outlines import to_bits, to_runs
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, sets_named
from bmp.ops.masks import RunLengths

_PERSON, _POSE = "person", "pose"


def write_cvat(labels: Labels, path: Path) -> list[str]:
    """Write the file, which CVAT takes by "Upload annotations" of a task with these photos; nothing is left out."""
    root = ElementTree.Element("annotations")
    _text(root, "version", "1.1")
    root.append(_meta(labels))
    for number, (image, people) in enumerate(people_by_photo(labels)):
        name = written(relative_name(image["file_name"]).as_posix())
        size = {"width": str(image["width"]), "height": str(image["height"])}
        element = ElementTree.SubElement(root, "image", {"id": str(number), "name": name, **size})
        for group, row in enumerate(people, 1):
            common = {"source": "auto" if "score" in row else "manual", "occluded": "0", "z_order": "0"}
            common["group_id"] = str(group)
            x, y, width, height = row["bbox"]
            corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(_number, (x, y, x + width, y + height)), strict=True))
            box = ElementTree.SubElement(element, "box", {"label": _PERSON, **common, **corners})
            for score in SCORES:
                if (value := row.get(score)) is not None:
                    _text(box, "attribute", str(value), {"name": score})
            if (mask := mask_of(row, image)) is not None:
                ElementTree.SubElement(element, "mask", {"label": _PERSON, **common, **_cut_out(mask)})
            if points := points_of(row):
                skeleton = ElementTree.SubElement(element, "skeleton", {"label": _POSE, **common})
                for name, (x, y, v) in zip(labels.keypoints.names, points, strict=True):
                    seen = {"occluded": str(int(v == 1)), "outside": str(int(v == 0))}
                    place = {"points": f"{_number(x)},{_number(y)}"}
                    own = {"label": name, "source": common["source"]}
                    ElementTree.SubElement(skeleton, "points", {**own, **seen, **place})
    ElementTree.indent(root)
    with writing(path), replacing(path) as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n')
        file.write(ElementTree.tostring(root, encoding="unicode") + "\n")
    return []


def labels_json(keypoints: KeypointSet) -> list[JsonObject]:
    """Return the labels as CVAT's constructor takes them ("Raw"), for the task that the file is uploaded to."""
    scores = [{"name": name, "input_type": "text", "mutable": False, "values": [""]} for name in SCORES]
    return [
        {"name": _PERSON, "type": "any", "attributes": scores},
        {
            "name": _POSE,
            "type": "skeleton",
            "attributes": [],
            "sublabels": [
                {"name": name, "type": "points", "attributes": [], "id": number}
                for number, name in enumerate(keypoints.names, 1)
            ],
            "svg": _svg(keypoints),
        },
    ]


def _meta(labels: Labels) -> ElementTree.Element:
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    _text(task, "name", "people found by BMP")
    _text(task, "size", str(len(labels.dataset["images"])))
    _text(task, "mode", "annotation")
    known = ElementTree.SubElement(task, "labels")
    person = ElementTree.SubElement(known, "label")
    _text(person, "name", _PERSON)
    _text(person, "type", "any")
    attributes = ElementTree.SubElement(person, "attributes")
    for name in SCORES:
        element = ElementTree.SubElement(attributes, "attribute")
        fields = {"name": name, "mutable": "False", "input_type": "text", "default_value": "", "values": ""}
        for field, value in fields.items():
            _text(element, field, value)
    pose = ElementTree.SubElement(known, "label")
    _text(pose, "name", _POSE)
    _text(pose, "type", "skeleton")
    ElementTree.SubElement(pose, "attributes")
    _text(pose, "svg", _svg(labels.keypoints))
    for name in labels.keypoints.names:
        part = ElementTree.SubElement(known, "label")
        _text(part, "name", name)
        _text(part, "type", "points")
        ElementTree.SubElement(part, "attributes")
        _text(part, "parent", _POSE)
    return meta


def _svg(keypoints: KeypointSet) -> str:
    """Return the template of a skeleton: keypoints on a circle, in order, and the lines between them."""
    angles = 2 * np.pi * np.arange(len(keypoints)) / max(1, len(keypoints))
    xs, ys = 50 + 45 * np.sin(angles), 50 - 45 * np.cos(angles)
    lines = [
        f'<line x1="{xs[a]:.2f}" y1="{ys[a]:.2f}" x2="{xs[b]:.2f}" y2="{ys[b]:.2f}" data-type="edge" '
        f'data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in keypoints.skeleton
    ]
    circles = [
        f'<circle r="0.75" cx="{xs[i]:.2f}" cy="{ys[i]:.2f}" data-type="element node" data-element-id="{i + 1}" '
        f'data-node-id="{i + 1}" data-label-name="{name}"></circle>'
        for i, name in enumerate(keypoints.names)
    ]
    return "".join([*lines, *circles])


def _text(parent: ElementTree.Element, tag: str, text: str, more: dict[str, str] | None = None) -> None:
    ElementTree.SubElement(parent, tag, more or {}).text = text


def _number(value: float) -> str:
    return f"{value:.2f}"


def _cut_out(mask: RunLengths) -> dict[str, str]:
    """Return a mask within its box, row by row: how many pixels are not in it, then how many are, and so on."""
    bits = to_bits(mask)
    rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    window = bits[top : rows[-1] + 1, left : columns[-1] + 1]
    place = {"left": left, "top": top, "width": window.shape[1], "height": window.shape[0]}
    changes = np.flatnonzero(np.diff(window.ravel(), prepend=False, append=not window[-1, -1]))
    runs = np.diff(changes, prepend=0)
    return {"rle": ", ".join(map(str, runs)), **{name: str(value) for name, value in place.items()}}


def read_cvat(path: Path, images: Path | None) -> tuple[JsonObject, list[str]]:
    """Read the file as CVAT exports it: shapes of a group are one person, and so is each shape without a group."""
    root = parse_xml(path)
    if root.tag != "annotations" or (root.find("image") is None and root.find("meta") is None):
        raise UserError(f"{path}: expected CVAT for images 1.1, with <annotations> and <image>")
    rows = LabelRows(_meaning(root))
    for image in root.iter("image"):
        location = f"{path}: image {image.get('name')!r}"
        height, width = (attribute(image, side, location, pixels) for side in ("height", "width"))
        image_id = rows.add_image(str(image.get("name")), height, width)
        people: dict[object, list[ElementTree.Element]] = defaultdict(list)
        for number, shape in enumerate(image):
            if shape.tag not in ("box", "mask", "polygon", "skeleton"):
                rows.left_out[f"shapes of the kind {shape.tag}"] += 1
                continue
            group = shape.get("group_id", "0")
            people[group if group != "0" else (number,)].append(shape)
        for shapes in people.values():
            _add(rows, image_id, shapes, (height, width), location)
    return rows.dataset(), [f"{count} {what}" for what, count in rows.left_out.items() if count]


def _add(
    rows: LabelRows, image_id: int, shapes: Sequence[ElementTree.Element], size: tuple[int, int], location: str
) -> None:
    box, points, scores = None, None, {}
    bits = np.zeros(size, dtype=np.bool_)
    for shape in shapes:
        if shape.tag == "box":
            x1, y1, x2, y2 = (attribute(shape, name, location, float) for name in ("xtl", "ytl", "xbr", "ybr"))
            box = [x1, y1, x2 - x1, y2 - y1]
            texts = {part.get("name"): part.text for part in shape.findall("attribute")}
            scores = {name: _score(text, name, location) for name in SCORES if (text := texts.get(name))}
        elif shape.tag == "mask":
            _paste(bits, shape, location)
        elif shape.tag == "polygon":
            bits |= polygon_mask(attribute(shape, "points", location, _corners), size, location)
        else:
            found = {part.get("label"): part for part in shape.findall("points")}
            points = [_point(found.get(name), location) for name in rows.keypoints.names]
    rows.add_person(image_id, box, to_runs(bits) if bits.any() else None, points, **scores)


def _score(text: str, name: str, location: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{location}: expected {name} to be a number, got {short(text)}") from None


def _corners(text: str) -> list[float]:
    return [float(value) for pair in text.split(";") for value in pair.split(",")]


def _run_lengths(text: str) -> list[int]:
    return [pixels(number) for number in text.split(",")]


def _point(part: ElementTree.Element | None, location: str) -> tuple[float, float, int]:
    if part is None:
        return 0.0, 0.0, 0
    try:
        x, y = map(float, str(part.get("points")).split(";")[0].split(","))
    except ValueError:
        raise UserError(f"{location}: expected points of {part.get('label')!r} to be x,y") from None
    flag = 0 if part.get("outside") == "1" else 1 if part.get("occluded") == "1" else 2
    return x, y, flag


def _paste(bits: npt.NDArray[np.bool_], shape: ElementTree.Element, location: str) -> None:
    left, top, width, height = (attribute(shape, name, location, pixels) for name in ("left", "top", "width", "height"))
    runs = attribute(shape, "rle", location, _run_lengths)
    inside = left >= 0 and top >= 0 and left + width <= bits.shape[1] and top + height <= bits.shape[0]
    if not inside or min(runs) < 0 or sum(runs) != width * height:
        raise UserError(f"{location}: a mask's rle does not fill its {width}x{height} pixels, or they leave the photo")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    bits[top : top + height, left : left + width] |= values


def _meaning(root: ElementTree.Element) -> KeypointSet:
    """Return the keypoints of the first skeleton whose sublabels, or whose points, are a known set."""
    parts: dict[str, list[str]] = defaultdict(list)
    for label in root.iter("label"):
        if (parent := label.findtext("parent")) is not None:
            parts[parent].append(label.findtext("name") or "")
    drawn = [[str(part.get("label")) for part in skeleton] for skeleton in root.iter("skeleton")]
    return next((known for names in (*parts.values(), *drawn) for known in sets_named(names)), COCO_KEYPOINTS)
