"""Reads boxes of people for the pictures of a run, from COCO JSON or what detectors write; knows no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID
from bmp.io.coco_json import UNSIZED, Categories, checked_box, person_rows, read_images
from bmp.io.file_names import Name, match_names
from bmp.io.json_fields import (
    JsonObject,
    Notices,
    expect,
    expect_field,
    is_id,
    is_number,
    is_whole,
    read_json,
    rows_of,
    short,
)
from bmp.io.orientation import LabelsIn, Orientation, checked_size, read_orientation
from bmp.io.segmentations import LARGEST_SIDE, checked_segmentation, margin, mask_box
from bmp.ops.boxes import xywh_to_xyxy
from bmp.structures import Detections

_NOBODY = "says nothing of this picture; add it, or have people detected there (--without-boxes detect)"


@dataclass(frozen=True)
class GivenBoxes:
    """What a file of boxes says of the pictures of a run.

    boxes: by picture; zero rows where the file knows the picture and has nobody in it. silent: pictures that it says
    nothing of. refused: why the boxes of a picture cannot be used, one line each. notices: what was left out or is
    worth knowing, one line each.
    """

    boxes: dict[str, Detections]
    silent: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    source: str = ""

    def failures(self, detect_silent: bool = False) -> dict[str, str]:
        """Return why pictures cannot be done, by picture; silent ones are none if people shall be detected there."""
        silent = {} if detect_silent else dict.fromkeys(self.silent, f"{self.source}: {_NOBODY}")
        return {**silent, **self.refused}


@dataclass
class _Picture:
    """What a file says of one picture: rows of left, top, width, height, score; its size, if the file has it."""

    rows: list[list[float]] = field(default_factory=list)
    size: tuple[int, int] | None = None


def load_boxes(
    path: str | Path,
    file_names: Sequence[str],
    pictures: Sequence[str | Path] | None = None,
    *,
    names: str | Path | None = None,
    labels_in: LabelsIn = "upright",
) -> GivenBoxes:
    """Read the boxes of persons for the pictures of a run.

    ``path`` is one of

    - a COCO dataset (``images`` and ``annotations``), such as ``instances_val2017.json`` or our own people.json;
    - a list of COCO results ``{"image_id": ..., "bbox": [x, y, width, height], "score": ...}``. ``image_id`` is a file
      name, with or without extension, or the number in it, or an id that the dataset ``names`` explains;
    - what MMDetection's and MMPose's inferencers and demos write for one picture (``bboxes`` with ``labels``, of which
      0 is a person; ``instance_info``; or a list of people with ``bbox``), called like the picture; or a folder of such
      files.

    Crowd regions, other categories than person (in results: than 1, or as ``names`` says), boxes without size and boxes
    outside their picture are left out and counted. Without a score, a box counts as certain. How names are compared
    says ``bmp.io.file_names.match_names``.

    Args:
        path: see above.
        file_names: what the pictures of the run are called.
        pictures: where they are, to compare sizes; what is not a file on this machine is not compared.
        names: a COCO dataset whose ``images`` say which file an ``image_id`` is, and whose ``categories`` what a
            ``category_id`` is.
        labels_in: which pixels the boxes are for, see ``bmp.io.orientation``.

    Raises:
        UserError: for a file that cannot be read or used, and if no name fits at all.
    """
    path = Path(path)
    notices = Notices(str(path))
    known = _read(path, None if names is None else Path(names), notices)
    if known is None:
        notices.add(
            "pictures without anybody, since the list of results is empty",
            file_names[0] if file_names else "none",
            len(file_names),
        )
        return GivenBoxes({name: Detections.empty() for name in file_names}, notices=notices.lines(), source=str(path))
    matches = match_names(str(path), known, file_names)
    if not matches.names and file_names:
        example = short(next(iter(known))) if known else "no images"
        raise UserError(f"{path}: speaks of none of the inputs; it has {example}, the inputs have {file_names[0]!r}")
    if matches.silent:
        notices.add("inputs that it says nothing of", matches.silent[0], len(matches.silent))
    if matches.loose:
        first = f"{short(matches.names[matches.loose[0]])} for {matches.loose[0]}"
        notices.add("inputs found by a name that is spelled otherwise", first, len(matches.loose))
    if matches.unused:
        notices.add("pictures in it that are no inputs", short(matches.unused[0]), len(matches.unused))
    files = dict(zip(file_names, pictures, strict=True)) if pictures is not None else {}
    boxes: dict[str, Detections] = {}
    refused: dict[str, str] = {}
    for name, key in matches.names.items():
        orientation = read_orientation(Path(files[name])) if name in files else None
        try:
            boxes[name] = _for_picture(name, known[key], orientation, labels_in, notices)
        except UserError as error:
            refused[name] = f"boxes of {path}: {error}"
    return GivenBoxes(boxes, matches.silent, refused, notices.lines(), str(path))


def _for_picture(
    name: str, given: _Picture, orientation: Orientation | None, labels_in: LabelsIn, notices: Notices
) -> Detections:
    """Return the boxes in pixels of the upright picture, those that lie in it; ``UserError`` for another size."""
    rows = np.array(given.rows, dtype=np.float64).reshape(-1, 5)
    size = given.size
    if orientation is not None:
        size = checked_size(given.size, orientation, labels_in)
        if orientation.tag > 1 and labels_in == "stored":
            rows[:, :4] = orientation.boxes(rows[:, :4])
        elif orientation.tag > 1 and (
            given.size is None or not orientation.turned or orientation.height == orientation.width
        ):
            notices.add("photos with an EXIF orientation, whose boxes are taken to be for the upright photo", name)
    width, height = (np.inf, np.inf) if size is None else size[::-1]
    x, y, across, down = rows[:, :4].T
    sized = (across > 0) & (down > 0)
    inside = (x < width) & (y < height) & (x + across > 0) & (y + down > 0)
    for words, wrong in (
        ("boxes without size, left out", ~sized),
        ("boxes outside their picture, left out", sized & ~inside),
    ):
        if wrong.any():
            notices.add(words, name, int(wrong.sum()))
    kept = torch.from_numpy(rows[sized & inside]).float()
    return Detections(xywh_to_xyxy(kept[:, :4]), kept[:, 4].contiguous())


def _read(path: Path, names: Path | None, notices: Notices) -> dict[Name, _Picture] | None:
    """Return what each name in a file stands for; None for an empty list of results."""
    if path.expanduser().is_dir():
        files = sorted(file for file in path.expanduser().iterdir() if file.suffix.lower() == ".json")
        if not files:
            raise UserError(f"{path}: a folder without JSON files; give it as a detector wrote it, a file a picture")
        pictures: dict[Name, _Picture] = {}
        for file in files:
            one = _of_one_picture(file, read_json(file), notices)
            if one is None:
                raise UserError(f"{file}: not what MMDetection or MMPose writes for a picture; give other files alone")
            pictures[_picture_of(file)] = one
        return pictures
    data = read_json(path)
    one = _of_one_picture(path, data, notices)
    if one is not None:
        return {_picture_of(path): one}
    if isinstance(data, dict):
        return _of_dataset(path, data, notices)
    if isinstance(data, list):
        return _of_results(path, data, names, notices) if data else None
    raise UserError(f"{path}: expected a COCO dataset or a list of results, got {type(data).__name__}")


def _picture_of(file: Path) -> str:
    """Return what the picture is called whose people are in a file of its own."""
    return file.stem.removeprefix("results_")


def _of_dataset(path: Path, data: JsonObject, notices: Notices) -> dict[Name, _Picture]:
    images = read_images(path, data, sized=False)
    pictures = {number: _Picture() for number in images}
    for number, image in images.items():
        if "height" in image:
            pictures[number].size = image["height"], image["width"]
    for location, row in person_rows(path, data, Categories.of(path, data), notices):
        image_id: object = row.get("image_id")
        known = is_id(image_id) and image_id in images
        expect(known, location, f"image_id {short(image_id)} is not the id of any of its images")
        picture = pictures[cast("int | str", image_id)]
        if row["iscrowd"]:
            notices.add("crowd regions left out", location)
        else:
            picture.rows.append(_box_and_score(location, row, picture.size))
    return {images[number]["file_name"]: picture for number, picture in pictures.items()}


def _of_results(path: Path, data: list[Any], names: Path | None, notices: Notices) -> dict[Name, _Picture]:
    pictures: dict[Name, _Picture] = {}
    images, persons = ({}, frozenset([CATEGORY_ID])) if names is None else _explained(names)
    others: dict[object, int] = {}
    first = ""
    for location, row in rows_of(path, {"results": data}, "results"):
        expect_field(location, row, "image_id", is_id(row.get("image_id")), "a name or whole number")
        key = row["image_id"]
        if images:
            expect(key in images, location, f"image_id {short(key)} is not the id of any image in {names}")
        picture = pictures.setdefault(
            images[key][0] if images else key, _Picture(size=images[key][1] if images else None)
        )
        number = row.get("category_id")
        expect_field(location, row, "category_id", number is None or is_id(number), "a whole number")
        if number is not None and persons is not None and number not in persons:
            expect(
                is_whole(number) or names is not None,
                location,
                f"category_id {short(number)} is no number; write 1 for persons",
            )
            others[number] = others.get(number, 0) + 1
            first = first or location
        else:
            picture.rows.append(_box_and_score(location, row, picture.size))
    told = ", ".join(map(short, others))
    if others and sum(others.values()) == len(data):
        raise UserError(
            f"{path}: all {len(data)} rows are of category {told:.100}, persons are "
            f"{', '.join(map(short, persons or ()))}; write that number, or leave category_id out where all are persons"
        )
    if others:
        notices.add(f"rows of other categories left out ({told:.100})", first, sum(others.values()))
    return pictures


def _explained(names: Path) -> tuple[dict[Name, tuple[str, tuple[int, int] | None]], frozenset[int | str] | None]:
    """Return file and size of each image of a dataset, and the ids of its persons."""
    data = read_json(names)
    if not isinstance(data, dict):
        raise UserError(f"{names}: expected a COCO dataset whose images say which file an id is, got {short(data)}")
    images = read_images(names, data, sized=False)
    if not images:
        raise UserError(f"{names}: has no images that would say which file an id is")
    found: dict[Name, tuple[str, tuple[int, int] | None]] = {
        number: (image["file_name"], (image["height"], image["width"]) if "height" in image else None)
        for number, image in images.items()
    }
    return found, Categories.of(names, data).persons


def _of_one_picture(path: Path, data: Any, notices: Notices) -> _Picture | None:
    """Return the people in what MMDetection or MMPose writes for a picture; None for anything else."""
    if isinstance(data, dict) and isinstance(data.get("instance_info"), list):
        data = data["instance_info"]
    elif isinstance(data, dict) and {"bboxes", "scores", "labels"} <= data.keys():
        return _Picture(list(_of_mmdetection(path, data, notices)))
    elif not (isinstance(data, list) and data and isinstance(data[0], dict) and "image_id" not in data[0]):
        return None
    people = data
    if any(isinstance(row, dict) and "instances" in row for row in people):
        raise UserError(f"{path}: has the people of the frames of a video; boxes are given for pictures")
    if not all(isinstance(row, dict) and "keypoints" in row and "bbox" in row for row in people):
        return None
    picture = _Picture()
    for location, row in rows_of(path, {"people": people}, "people"):
        box = row["bbox"]
        box = box[0] if isinstance(box, list) and len(box) == 1 and isinstance(box[0], list) else box
        score = row.get("bbox_score", 1.0)
        score = score[0] if isinstance(score, list) and len(score) == 1 else score
        picture.rows.append(_of_edges(location, box, score))
    return picture


def _of_mmdetection(path: Path, data: JsonObject, notices: Notices) -> list[list[float]]:
    columns = [data[name] for name in ("bboxes", "scores", "labels")]
    fits = all(isinstance(column, list) for column in columns) and len(set(map(len, columns))) == 1
    expect(fits, str(path), "expected bboxes, scores and labels to be lists of one length, as MMDetection writes them")
    rows = []
    for index, (box, score, label) in enumerate(zip(*columns, strict=True)):
        location = f"{path}: bboxes[{index}]"
        expect(is_whole(label), location, f"its label is {short(label)}, no whole number")
        if label == 0:
            rows.append(_of_edges(location, box, score))
        else:
            notices.add("boxes of other labels than 0, which is a person's, left out", location)
    return rows


def _of_edges(location: str, box: object, score: object) -> list[float]:
    """Return a row of a box given by its edges."""
    edges = (
        box
        if isinstance(box, list) and len(box) == 4 and all(is_number(edge, -UNSIZED, UNSIZED) for edge in box)
        else None
    )
    expect_field(location, {"bbox": box}, "bbox", edges is not None, "[left, top, right, bottom] in pixels")
    x1, y1, x2, y2 = cast("list[float]", edges)
    return _box_and_score(location, {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}, None)


def _box_and_score(location: str, row: JsonObject, size: tuple[int, int] | None) -> list[float]:
    if "bbox" not in row and "segmentation" in row:
        row = {**row, "bbox": _box_of_mask(location, row["segmentation"], size)}
    box = checked_box(location, row, size, UNSIZED if size is None else margin(*size))
    score: object = row.get("score", 1.0)
    expect_field(location, row, "score", is_number(score, 0, 1), "a number in [0, 1]")
    return [*box, cast("float", score)]


def _box_of_mask(location: str, shape: object, size: tuple[int, int] | None) -> list[float] | None:
    """Return the box of a mask that comes without one, None if it is empty; run lengths know their own size."""
    own = shape.get("size") if isinstance(shape, dict) else None
    if (
        size is None
        and isinstance(own, list)
        and len(own) == 2
        and all(is_whole(side) and 1 <= side <= LARGEST_SIDE for side in own)
    ):
        size = own[0], own[1]
    if size is None:
        return None
    try:
        checked = checked_segmentation(shape, *size)
    except ValueError as error:
        raise UserError(f"{location}: {error}") from None
    return None if checked is None else mask_box(checked, *size)
