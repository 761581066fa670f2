"""A PNG a photo whose pixels are numbers of people, from 1, and 0 for nobody; knows no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from bmp.io.atomic import replacing_path, writing
from bmp.io.coco_json import Labels
from bmp.io.formats.index_masks import read_index_mask, write_index_mask
from bmp.io.formats.label_rows import LabelRows, files_beside, mask_of, people_by_photo, relative_name
from bmp.io.images import find
from bmp.io.json_fields import JsonObject
from bmp.io.outlines import to_bits, to_runs
from bmp.label_sets import COCO_KEYPOINTS

_MOST_IN_PALETTE = 255


def write_masks(labels: Labels, folder: Path) -> list[str]:
    """Write a picture for each photo, in the colours of DAVIS, or in 16-bit grey for more than 255 people.

    Boxes and keypoints have no place in it. Return what was left out.
    """
    pairs = list(people_by_photo(labels))
    without = shared = covered = 0
    for path, (image, people) in zip(files_beside([image for image, _ in pairs], folder, ".png"), pairs, strict=True):
        numbers = np.zeros((image["height"], image["width"]), dtype=np.uint16)
        for number, row in enumerate(people, 1):
            mask = mask_of(row, image)
            if mask is None:
                without += 1
                continue
            bits = to_bits(mask)
            shared += int((numbers[bits] > 0).sum())
            numbers[bits] = number
        covered += sum(mask_of(row, image) is not None for row in people) - len(np.unique(numbers[numbers > 0]))
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if len(people) <= _MOST_IN_PALETTE:
            write_index_mask(path, numbers)
        else:
            with writing(path), replacing_path(path) as temporary:
                PIL.Image.fromarray(numbers).save(temporary, format="PNG")
    lost = [f"{without} people without a mask"] if without else []
    if shared:
        lost.append(f"{shared} pixels of people who share them with others, the last of whom has them")
    if covered:
        lost.append(f"{covered} people of whom others have every pixel")
    return lost


def read_masks(folder: Path, images: Path | None) -> tuple[JsonObject, list[str]]:
    """Read the pictures below a folder; photos are called as in ``images``, or else as the pictures are."""
    rows = LabelRows(COCO_KEYPOINTS)
    names = [] if images is None else [path.relative_to(images).as_posix() for path in find(images).paths]
    photos = {relative_name(name).with_suffix("").as_posix(): name for name in names}
    for path in sorted(folder.rglob("*.png")):
        numbers = read_index_mask(path)
        relative = path.relative_to(folder)
        image_id = rows.add_image(photos.get(relative.with_suffix("").as_posix(), relative.as_posix()), *numbers.shape)
        for number in np.unique(numbers[numbers > 0]).tolist():
            rows.add_person(image_id, mask=to_runs(numbers == number))
    return rows.dataset(), []
