"""CIHP: photos of groups of people with masks, and the converter from its label maps; knows nothing of evaluation.

``python -m bmp.datasets.cihp --root DIR --split val --output FILE`` writes the COCO JSON of a split.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image
import torch
from pycocotools import mask as coco_mask

from bmp.checkpoints.sources import cache_folder
from bmp.console import Parser, progress, run_command
from bmp.datasets.part_maps import IGNORED, instance_map, label_map, labelled_parts, number_map
from bmp.datasets.people import PeopleDataset, find_root
from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID
from bmp.io.atomic import replacing, writing
from bmp.io.json_fields import JsonObject
from bmp.label_sets import CIHP_PARTS
from bmp.label_sets.part_sets import CIHP as CIHP_SET
from bmp.ops.masks import to_rle
from bmp.registry import DATASETS
from bmp.structures import Parts

_VERSION = 1  # of what the converter writes; a file of another version is made anew
_FOLDERS = {"val": "Validation", "train": "Training"}
_ARCHIVE = "instance-level_human_parsing"
_SOURCE = (
    f"as the authors of CIHP publish it in {_ARCHIVE} (Gong et al., Instance-level Human Parsing via Part Grouping "
    "Network, ECCV 2018)"
)


class _Folders(NamedTuple):
    images: Path
    humans: Path
    categories: Path


@DATASETS.register_module()
class CIHP(PeopleDataset):
    """CIHP val or train: masks of everybody, no keypoints; annotations have ``parts`` besides, see ``convert``.

    The label maps are converted on first use. The result stays as ``cihp_{split}.json`` beside them, or in the cache
    folder of ``bmp.checkpoints.sources`` where that place cannot be written, until the list of images changes.

    Args:
        root: folder with ``Validation/`` (``Training/``), in it ``Images/*.jpg``, ``Human_ids/*.png`` and
            ``Category_ids/*.png`` (or ``Human`` and ``Categories``), or the folder above it.
        split: "val" or "train".
        maps: where ``parts`` reads them: "category", or "instance" for ``Instance_ids/*.png`` with a list beside each,
            which number every part of everybody.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "val",
        maps: Literal["category", "instance"] = "category",
    ) -> None:
        if maps not in ("category", "instance"):
            raise UserError(f"maps: expected 'category' or 'instance', got {maps!r}")
        folders = _locate(root, split)
        file = _kept(folders.images.parent, split)
        if not _is_current(file, folders):
            _write(file, convert(root, split))
        super().__init__(file, folders.images, f"CIHP {split}")
        self.published = "cihp_val" if split == "val" else None
        self.part_set = CIHP_SET
        self._maps, self._folders = maps, folders

    def parts(self, index: int) -> Parts:
        """Return the labelled parts of the people of image ``index``, see ``PeopleDataset.parts``."""
        row = self.ground_truth["images"][index]
        name, size = Path(row["file_name"]).with_suffix(".png").name, (row["height"], row["width"])
        humans = number_map(self._folders.humans / name, *size)
        if self._maps == "category":
            labels = label_map(self._folders.categories / name, *size, CIHP_SET)
        else:
            labels, _ = instance_map(self._folders.images.parent / "Instance_ids" / name, *size, CIHP_SET)
        numbers = np.unique(humans[humans > 0])
        owners = np.searchsorted(numbers, humans) + 1
        owners[humans == 0] = 0
        return labelled_parts(labels, owners, len(numbers), CIHP_SET)


def convert(root: str | os.PathLike[str] | None, split: str) -> JsonObject:
    """Return a split of CIHP as a COCO dataset; ``root`` and ``split`` as for ``CIHP``.

    A person is all pixels of one number in the map of humans: the visible mask, as compressed RLE. ``bbox`` is the
    box around it, ``area`` its pixels, ``parts`` the ascending numbers (1 to 19, see ``CIHP_PARTS``) that the map of
    categories has in it. Images and people have ids from 1, by file name and by number.

    Raises ``UserError`` for missing and broken files, and for maps that are no label maps or of another size.
    """
    folders = _locate(root, split)
    names = _image_names(folders.images)
    images: list[JsonObject] = []
    annotations: list[JsonObject] = []
    bar = progress(False, len(names), title=f"converting CIHP {split}", stderr=True)
    with bar as (_, advance), ThreadPoolExecutor() as pool:
        for entry, people in pool.map(lambda name: _convert_image(folders, name), names):
            advance()
            images.append({"id": len(images) + 1, **entry})
            for person in people:
                annotations.append({"id": len(annotations) + 1, "image_id": len(images), **person})
    return {
        "info": {"description": f"CIHP {split}", "parts": CIHP_PARTS, "version": _VERSION},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": CATEGORY_ID, "name": "person", "supercategory": "person"}],
    }


def _locate(root: str | os.PathLike[str] | None, split: str) -> _Folders:
    if split not in _FOLDERS:
        raise UserError(f"CIHP: there is no split {split!r}; there is: {', '.join(_FOLDERS)}")
    top = _FOLDERS[split]
    if root is not None and (Path(root).expanduser() / _ARCHIVE).is_dir():
        root = Path(root) / _ARCHIVE
    names = [f"{top}/Images"]
    for kind in (("Human_ids", "Human"), ("Category_ids", "Categories")):
        here = [name for name in kind if root is not None and (Path(root).expanduser() / top / name).is_dir()]
        names.append(f"{top}/{(here or kind)[0]}")
    folder = find_root(f"CIHP {split}", root, names, _SOURCE)
    return _Folders(*(folder / name for name in names))


def _image_names(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not names:
        raise UserError(f"{folder}: expected the photos of CIHP, found none; extract the archive again")
    return names


def _convert_image(folders: _Folders, name: str) -> tuple[JsonObject, list[JsonObject]]:
    """Return an image's entry and those of its people, without ids."""
    width, height = _size(folders.images / name)
    human_file, category_file = ((folder / name).with_suffix(".png") for folder in (folders.humans, folders.categories))
    humans, categories = number_map(human_file, height, width), label_map(category_file, height, width, CIHP_SET)
    categories[categories == IGNORED] = 0
    numbers = np.unique(humans[humans > 0])
    codes = np.unique(humans * len(CIHP_PARTS) + categories)
    pairs = [divmod(code, len(CIHP_PARTS)) for code in codes.tolist()]
    rles = to_rle(torch.from_numpy(humans == numbers[:, None, None]))
    people = [
        {
            "category_id": CATEGORY_ID,
            "bbox": coco_mask.toBbox(rle).tolist(),
            "area": int(coco_mask.area(rle)),
            "segmentation": rle,
            "iscrowd": 0,
            "parts": [part for owner, part in pairs if owner == number and part > 0],
        }
        for number, rle in zip(numbers, rles, strict=True)
    ]
    return {"file_name": name, "height": height, "width": width}, people


def _size(path: Path) -> tuple[int, int]:
    """Return width and height of a photo from its header."""
    try:
        with PIL.Image.open(path) as picture:
            return picture.size
    except Exception as error:  # decoders meet broken data with exceptions of any kind
        raise UserError(f"{path}: {_reason(error)}; extract the archive again") from None


def _reason(error: Exception) -> str:
    missing = isinstance(error, FileNotFoundError)
    return "is missing" if missing else f"cannot be read as a picture, {' '.join(str(error).split())}"


def _kept(folder: Path, split: str) -> Path:
    """Return where the converted ``folder`` is kept."""
    if os.access(folder.parent, os.W_OK):
        return folder.parent / f"cihp_{split}.json"
    # The hash keeps apart two copies of the data set.
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "datasets" / f"cihp_{split}_{place}.json"


def _is_current(file: Path, folders: _Folders) -> bool:
    """Tell whether a converted file is up to date, by its list of images."""
    try:
        data = json.loads(file.read_bytes())
        names = [image["file_name"] for image in data["images"]]
        return data["info"]["version"] == _VERSION and names == _image_names(folders.images)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(file: Path, data: JsonObject) -> None:
    """Write JSON in one step: several processes may convert the same data set, and none sees half a file."""
    with writing(file, "make room or write elsewhere"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, shared=True) as text:
            text.write(json.dumps(data))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    parser = Parser("python -m bmp.datasets.cihp", description="Convert CIHP to COCO JSON.")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help=f"{_ARCHIVE}, or the folder above it")
    parser.add_argument("--split", default="val", choices=list(_FOLDERS), help="(default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="JSON to write, in place of an old one"
    )
    return run_command(parser, _convert_and_write, arguments, interrupted="nothing was written")


def _convert_and_write(options: argparse.Namespace) -> int:
    data = convert(options.root, options.split)
    _write(options.output, data)
    print(f"{len(data['annotations'])} people in {len(data['images'])} images: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
