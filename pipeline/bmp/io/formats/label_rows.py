"""What the formats of labelled photos share: people by photo, names of files beside photos, rows with ids.

Knows no format.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID, Annotation, ImageRow, category
from bmp.io.coco_json import Labels
from bmp.io.images import find
from bmp.io.json_fields import JsonObject, expect, is_file_name, short
from bmp.io.orientation import read_orientation
from bmp.io.outlines import filled, to_bits
from bmp.io.segmentations import LARGEST_SIDE, MOST_PIXELS, to_run_lengths
from bmp.label_sets import KeypointSet
from bmp.ops.masks import RunLengths

SCORES = ("score", "mask_score", "agreement")
"""Numbers in [0, 1] that people who were found have."""


def people_by_photo(labels: Labels) -> Iterator[tuple[ImageRow, list[Annotation]]]:
    """Yield each photo with its people, in the order of the file; crowd regions are nobody."""
    people: dict[int | str, list[Annotation]] = defaultdict(list)
    for row in labels.dataset["annotations"]:
        if not row["iscrowd"]:
            people[row["image_id"]].append(row)
    for image in labels.dataset["images"]:
        yield image, people[image["id"]]


def mask_of(row: Annotation, image: ImageRow) -> RunLengths | None:
    """Return the mask of a person; None where there is none, or one of no pixels."""
    shape = row.get("segmentation")
    if shape is None:
        return None
    runs = to_run_lengths(shape, image["height"], image["width"])
    return runs if coco_mask.area(runs) else None


def points_of(row: Annotation) -> list[tuple[float, float, int]]:
    """Return x, y, v of each keypoint of a person; none where nobody has labelled them."""
    values = row.get("keypoints", [])
    return [(x, y, int(v)) for x, y, v in zip(values[::3], values[1::3], values[2::3], strict=True)]


def files_beside(images: Sequence[ImageRow], folder: Path, suffix: str) -> list[Path]:
    """Return a file for each photo: its path below ``folder``, with another suffix.

    Raises:
        UserError: a name leads out of the folder, or two photos differ in nothing but their suffixes.
    """
    files = [folder / relative_name(image["file_name"]).with_suffix(suffix) for image in images]
    again = [path for path, count in Counter(files).items() if count > 1]
    if again:
        raise UserError(
            f"{again[0]}: two photos have this file of labels, since their names differ in the suffix alone; rename one"
        )
    return files


def relative_name(file_name: str) -> PurePosixPath:
    """Return the name of a photo as a path within a folder; ``UserError`` where it leads out of it."""
    path = PureWindowsPath(file_name)  # its parts are those of either system
    if path.anchor or ".." in path.parts:
        raise UserError(f"{short(file_name)} leads out of the folder of photos; give names within it")
    return PurePosixPath(*path.parts)


def read_text(path: Path) -> str:
    """Return what is in a text file; ``UserError`` where it cannot be read or is no text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read, {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8") from None


def polygon_mask(corners: Sequence[float], size: tuple[int, int], location: str) -> npt.NDArray[np.bool_]:
    """Return the mask, bool (H, W), of a polygon x, y, x, y, ...; ``UserError`` for one that cannot be an outline."""
    try:
        return to_bits(filled(corners, *size))
    except ValueError as error:
        raise UserError(f"{location}: {error}") from None


def photos_in(folder: Path | None, remedy: str) -> dict[str, tuple[int, int] | None]:
    """Return height and width of each photo in a folder, upright, by its name below the folder, in order.

    None for one that cannot be read.

    Raises:
        UserError: there is no folder, which ``remedy`` says how to give, or it holds no photos.
    """
    if folder is None or not folder.is_dir():
        raise UserError(f"the sizes of the photos are not in this format; {remedy}")
    found = {}
    for path in find(folder).paths:
        stored = read_orientation(path)
        found[path.relative_to(folder).as_posix()] = None if stored is None else stored.upright_size
    return found


@dataclass
class LabelRows:
    """Rows of a COCO dataset while a file of another format is read; ids are given in order.

    keypoints: what those of the people mean. left_out: how often something was left out, by what.
    """

    keypoints: KeypointSet
    images: list[JsonObject] = field(default_factory=list)
    annotations: list[JsonObject] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add_image(self, file_name: str, height: int, width: int) -> int:
        """Add a photo and return its id; ``UserError`` for what cannot be its name or size.

        Masks are made in this size, so it is checked before there are any.
        """
        name = short(file_name)
        expect(is_file_name(file_name), name, "expected the name of a photo")
        fits = 0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE and height * width <= MOST_PIXELS
        expect(fits, name, f"expected the size of a photo in pixels, got {short(height)} high and {short(width)} wide")
        self.images.append({"id": len(self.images) + 1, "file_name": file_name, "height": height, "width": width})
        return len(self.images)

    def add_person(
        self,
        image_id: int,
        box: Sequence[float] | None = None,
        mask: RunLengths | None = None,
        points: Sequence[tuple[float, float, int]] | None = None,
        **more: Any,
    ) -> None:
        """Add a person of a photo.

        box: [x, y, width, height]; that of the mask by default, or else that around the labelled keypoints. points: x,
        y, v of each keypoint. more: further fields of the annotation.
        """
        row: JsonObject = {"id": len(self.annotations) + 1, "image_id": image_id, "category_id": CATEGORY_ID}
        if box is None and mask is not None:
            box = coco_mask.toBbox(mask).tolist()
        if box is None:
            labelled = [(x, y) for x, y, v in points or () if v > 0]
            if not labelled:
                self.left_out["people of whom there is nothing"] += 1
                return
            xs, ys = zip(*labelled, strict=True)
            box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        row["bbox"] = [round(float(value), 2) for value in box]
        row["area"] = int(coco_mask.area(mask)) if mask is not None else round(box[2] * box[3], 2)
        row["iscrowd"] = 0
        if mask is not None:
            row["segmentation"] = dict(mask)
        if points:
            row["keypoints"] = [value for x, y, v in points for value in (round(x, 2), round(y, 2), v)]
            row["num_keypoints"] = sum(v > 0 for _, _, v in points)
        self.annotations.append({**row, **{name: value for name, value in more.items() if value is not None}})

    def dataset(self) -> JsonObject:
        """Return the COCO dataset."""
        return {"images": self.images, "annotations": self.annotations, "categories": [category(self.keypoints)]}
