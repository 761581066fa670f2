"""Photos with people known to be in them, from any COCO-format file; knows no metric, no network, no data set by name.

Everything that reads ground truth reads it from ``PeopleDataset.ground_truth``: what is wrong with a file is found
here, once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from bmp.errors import UserError
from bmp.io import images as pictures
from bmp.io.annotations import category
from bmp.io.coco_json import (
    CATEGORY_ID,
    are_numbers,
    expect,
    expect_field,
    is_id,
    is_whole,
    person_categories,
    read_json,
    rows_of,
    short,
)
from bmp.label_sets import COCO_KEYPOINTS
from bmp.registry import DATASETS
from bmp.structures import Image

_NUMBERS = 3 * len(COCO_KEYPOINTS)


@DATASETS.register_module()
class PeopleDataset:
    """Images and the people in them.

    A data set that makes its own images is a subclass with an ``__init__`` that sets the attributes below and a
    ``load``; the other methods follow from ``ground_truth``.

    Args:
        annotations: COCO JSON, read as ``read_people`` says.
        images: folder that the file names of the annotations start from.
        name: for reports; the name of the annotation file if None.
        min_area: people whose ``area`` (of the annotation, square pixels) is below this are dropped from the ground
            truth, as the paper does for COCO* with 32 squared: whoever finds them gets false alarms, and pose to mask
            leaves them out. Crowd regions stay whatever their size: they are no people to be found.

    Attributes:
        name: for reports, such as "OCHuman test".
        ground_truth: COCO dict of persons, see ``read_people``; image ``i`` of the data set is
            ``ground_truth["images"][i]``.
        published: key of the published numbers for this data set, None where there are none.

    Raises:
        UserError: for annotations that cannot be used and for images that are not in the folder.
    """

    name: str
    ground_truth: dict[str, Any]
    published: str | None = None

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        name: str | None = None,
        min_area: float = 0.0,
    ) -> None:
        self.name = name or Path(annotations).stem
        self.ground_truth = read_people(annotations)
        self.ground_truth["annotations"] = [
            row for row in self.ground_truth["annotations"] if row["iscrowd"] or row["area"] >= min_area
        ]
        self._folder = Path(images).expanduser()
        names = [image["file_name"] for image in self.ground_truth["images"]]
        missing = [file_name for file_name in names if not (self._folder / file_name).is_file()]
        if missing:
            raise UserError(
                f"{self._folder}: {len(missing)} of the {len(names)} images in {annotations} are not here, the first "
                f"is {missing[0]}; give the folder that these names start from, with all images in it"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ground_truth["images"])

    def file_name(self, index: int) -> str:
        """Return what image ``index`` is called in the annotations, a path with forward slashes."""
        name: str = self.ground_truth["images"][index]["file_name"]
        return name

    def load(self, index: int) -> Image:
        """Read image ``index``; ``ImageError`` where it is broken or not of the size that its annotations are for."""
        entry = self.ground_truth["images"][index]
        path = self._folder / entry["file_name"]
        image = pictures.load(path)
        if (image.height, image.width) != (entry["height"], entry["width"]):
            raise pictures.ImageError(
                f"{path}: expected {entry['width']}x{entry['height']} pixels as annotated, "
                f"got {image.width}x{image.height}; fetch the image that was annotated"
            )
        return image


def read_people(annotations: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the persons of a COCO dataset and check all that evaluation relies on.

    Annotations of other categories than the one called person are left out; a file with one category, or none, speaks
    of persons whatever it is called. All images stay, also those without anybody.

    Returns a dict that ``pycocotools.coco.COCO`` takes as its ``dataset``, with ``info``, one category (id 1, COCO's 17
    keypoints), and in the order of the file

    - ``images``: unique ``id`` (number or name), unique ``file_name``, ``height`` and ``width`` in pixels;
    - ``annotations``: unique integer ``id``, ``image_id``, ``category_id`` 1, ``bbox`` [x, y, width, height] in pixels,
      ``area`` in square pixels, ``iscrowd`` 0 or 1, and where the file has them ``segmentation``, as polygons or
      compressed RLE with ``counts`` str, and ``keypoints`` x, y, v for each of 17 with ``num_keypoints``.

    Other fields stay as they are. Either all annotations have keypoints or none has: where some have, the others get
    17 unlabelled ones, as small people have in COCO. An id 0 is replaced by a free number, since pycocotools takes it
    for "no match".

    Raises ``UserError`` for a file that cannot be read, with the place of the first thing that is wrong.
    """
    path = Path(annotations)
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a COCO dataset, an object with images and annotations, got {short(data)}")
    sizes: dict[str | int, tuple[int, int]] = {}
    images = []
    file_names = set()
    for place, row in rows_of(path, data, "images"):
        images.append(_image(place, row))
        expect(row["id"] not in sizes, place, f"id {row['id']!r} was given to an image before; ids have to be unique")
        expect(row["file_name"] not in file_names, place, f"{row['file_name']} is listed twice; keep one of them")
        sizes[row["id"]] = row["height"], row["width"]
        file_names.add(row["file_name"])
    persons = person_categories(path, data)
    _expect_coco_keypoints(path, data)
    rows = []
    taken = set()
    for place, row in rows_of(path, data, "annotations"):
        if persons is not None and row.get("category_id") not in persons:
            continue
        image_id: Any = row.get("image_id")
        known = isinstance(image_id, str | int) and image_id in sizes
        expect(known, place, f"image_id {image_id!r} is not the id of any of its images; add the image or drop this")
        rows.append(_person(place, row, *sizes[image_id]))
        expect(
            row["id"] not in taken, place, f"id {row['id']!r} was given to an annotation before; ids have to be unique"
        )
        taken.add(row["id"])
    if any("keypoints" in row for row in rows):
        for row in rows:
            row.setdefault("keypoints", [0] * _NUMBERS)
            row.setdefault("num_keypoints", 0)
    for row in rows:
        row["id"] = row["id"] or max(taken) + 1
    info = data.get("info")
    return {
        "info": info if isinstance(info, dict) else {},
        "images": images,
        "annotations": rows,
        "categories": [category(COCO_KEYPOINTS)],
    }


def find_root(name: str, root: str | os.PathLike[str] | None, wanted: Sequence[str], source: str) -> Path:
    """Return the folder of a published data set; ``UserError`` if it is not given or lacks one of ``wanted`` in it.

    name: of the data set. source: words that say where it is published.
    """
    remedy = f"expected a folder with {', '.join(wanted)} in it, {source}; give it with --set dataset.root=DIR"
    if root is None:
        raise UserError(f"{name}: no root is given; {remedy}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"{name}: {folder} is not a folder; {remedy}")
    for entry in wanted:
        if not (folder / entry).exists():
            raise UserError(f"{name}: {folder} has no {entry}; {remedy}")
    return folder


def _expect_coco_keypoints(path: Path, data: Mapping[str, Any]) -> None:
    for _, row in rows_of(path, data, "categories") if "categories" in data else ():
        names = row.get("keypoints")
        if row.get("name") == "person" and names and list(names) != list(COCO_KEYPOINTS.names):
            raise UserError(f"{path}: expected COCO's 17 keypoints in COCO's order, got {short(names)}; convert them")


def _image(place: str, row: dict[str, Any]) -> dict[str, Any]:
    expect_field(place, row, "id", is_id(row.get("id")), "a name or whole number")
    expect_field(place, row, "file_name", bool(row.get("file_name")) and isinstance(row["file_name"], str), "a name")
    for side in ("height", "width"):
        expect_field(place, row, side, is_whole(row.get(side)) and row[side] >= 1, "pixels, a whole number from 1")
    return row


def _person(place: str, row: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Check an annotation and bring it to one form; ``row`` itself is filled in."""
    expect_field(place, row, "id", is_whole(row.get("id")), "a whole number")
    box: Any = row.get("bbox")
    fits = are_numbers(box) and len(box) == 4 and min(box[2:]) >= 0
    expect_field(place, row, "bbox", fits, "[x, y, width, height] in pixels, sizes at least 0")
    expect_field(place, row, "area", are_numbers([row.get("area")]) and row["area"] >= 0, "square pixels, at least 0")
    expect_field(place, row, "iscrowd", row.setdefault("iscrowd", 0) in (0, 1), "0 or 1")
    row["category_id"] = CATEGORY_ID
    row["segmentation"] = _segmentation(place, row, height, width)
    if not row["segmentation"]:
        del row["segmentation"]
    points = row.get("keypoints")
    if points:
        fits = are_numbers(points) and len(points) == _NUMBERS and set(points[2::3]) <= {0, 1, 2, 3}
        expect_field(place, row, "keypoints", fits, f"x, y, v for each of COCO's 17, {_NUMBERS} numbers, v from 0 to 3")
        row.setdefault("num_keypoints", sum(flag > 0 for flag in points[2::3]))
        expect_field(place, row, "num_keypoints", is_whole(row["num_keypoints"]), "a whole number")
    else:
        row.pop("keypoints", None)
        row.pop("num_keypoints", None)
    return row


def _segmentation(place: str, row: Mapping[str, Any], height: int, width: int) -> Any:
    """Return polygons as they are, run lengths compressed, None for none."""
    shape = row.get("segmentation")
    if not shape:
        return None
    if isinstance(shape, list):
        fits = all(are_numbers(polygon) and len(polygon) % 2 == 0 for polygon in shape)
        expect_field(place, row, "segmentation", fits, "polygons, lists x, y, x, y, ...")
        # pycocotools stumbles over pieces of one or two corners, which enclose nothing.
        shape = [polygon for polygon in shape if len(polygon) >= 6]
        expect(bool(shape), place, "none of its polygons has three corners; drop this annotation or draw its mask")
        return shape
    fits = isinstance(shape, dict) and isinstance(shape.get("counts"), str | list) and "size" in shape
    expect_field(place, row, "segmentation", fits, "polygons or run lengths with size and counts")
    fits = shape["size"] == [height, width]
    expect(fits, place, f"its mask is of size {short(shape['size'])}, its image is [{height}, {width}]; mend the sizes")
    if isinstance(shape["counts"], str):
        return shape
    counts = shape["counts"]
    fits = all(map(is_whole, counts)) and min(counts, default=0) >= 0 and sum(counts) == height * width
    expect(fits, place, f"its run lengths do not add up to the {height * width} pixels of the image; mend them")
    rle = coco_mask.frPyObjects(shape, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}
