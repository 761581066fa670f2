"""OCHuman's own file of labels, ``ochuman.json``, as a COCO dataset. Knows no picture; what is in the rows is checked
where COCO datasets are read.
"""

from __future__ import annotations

from pathlib import Path

import torch

from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID
from bmp.io.json_fields import JsonObject, are_numbers, expect, expect_field, is_whole, rows_of
from bmp.io.segmentations import LARGEST_SIDE, MOST_PIXELS, Segmentation, checked_segmentation, to_mask
from bmp.ops.masks import to_rle

_FARTHEST = 1e6  # pixels; nearer limits are those of the image
_FLAGS = {0: 0, 1: 2, 2: 2, 3: 1}
"""COCO's v for missing, visible, hidden by the own body, hidden by others; as in OCHuman's files in COCO's format."""


def is_ochuman(data: JsonObject) -> bool:
    """Tell whether a file is in OCHuman's own format: people within their images."""
    return "keypoint_names" in data and "annotations" not in data and isinstance(data.get("images"), list)


def to_coco(path: Path, data: JsonObject) -> JsonObject:
    """Return the people of such a file as a COCO dataset, with its 19 keypoints and masks without their holes.

    People whose labels were not made, neither keypoints nor mask, keep their boxes.

    Raises:
        UserError: for the first row that is not as OCHuman's.
    """
    images: list[JsonObject] = []
    people: list[JsonObject] = []
    for location, image in rows_of(path, data, "images"):
        fits = all(is_whole(image.get(side)) and 1 <= image[side] <= LARGEST_SIDE for side in ("height", "width"))
        fits = fits and image["height"] * image["width"] <= MOST_PIXELS
        expect(fits, location, "expected height and width in pixels; give the file as its authors publish it")
        number = len(images) + 1
        images.append({key: value for key, value in image.items() if key != "annotations"} | {"id": number})
        rows = image.get("annotations", [])
        expect_field(location, image, "annotations", isinstance(rows, list), "a list of people")
        for place, person in rows_of(path, {"annotations": rows}, "annotations"):
            where = place.replace(f"{path}: ", f"{location}.")
            people.append(_person(where, person, len(people) + 1, number, image["height"], image["width"]))
    category = {"id": CATEGORY_ID, "name": "person", "keypoints": data["keypoint_names"]}
    return {"images": images, "annotations": people, "categories": [category]}


def _person(where: str, person: JsonObject, number: int, image: int, height: int, width: int) -> JsonObject:
    edges = person.get("bbox")
    fits = are_numbers(edges, -_FARTHEST, _FARTHEST) and len(edges) == 4
    expect_field(where, person, "bbox", fits, "[left, top, right, bottom] in pixels")
    box: list[float] = person["bbox"]
    row: JsonObject = {"id": number, "image_id": image, "category_id": CATEGORY_ID, "iscrowd": 0}
    row["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    points = person.get("keypoints")
    if points is not None:
        fits = isinstance(points, list) and all(isinstance(flag, int) and flag in _FLAGS for flag in points[2::3])
        expect_field(where, person, "keypoints", fits, "x, y and 0 to 3 for each")
        row["keypoints"] = [_FLAGS[value] if place % 3 == 2 else value for place, value in enumerate(points)]
    shapes = person.get("segms")
    if shapes is not None:
        fits = isinstance(shapes, dict) and isinstance(shapes.get("outer"), list)
        expect_field(where, person, "segms", fits, "the polygons of outlines and holes, outer and inner")
        row["segmentation"] = _mask(where, shapes, height, width)
    return row


def _mask(where: str, shapes: JsonObject, height: int, width: int) -> Segmentation:
    """Return polygons, or where there are holes run lengths."""
    outer: Segmentation = shapes["outer"]
    if not shapes.get("inner"):
        return outer
    try:
        body, holes = (checked_segmentation(shapes[kind], height, width) for kind in ("outer", "inner"))
    except ValueError as error:
        raise UserError(f"{where}.segms: {error}") from None
    bits: torch.Tensor = to_mask(body, height, width) & ~to_mask(holes, height, width)
    return to_rle(bits[None])[0]
