"""LIP and PASCAL-Person-Part: photos with maps of body parts; knows no metric and no network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from bmp.console import progress
from bmp.datasets.part_maps import IGNORED, label_map, labelled_parts
from bmp.datasets.people import PeopleDataset, find_root
from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID, Annotation, ImageRow
from bmp.label_sets.part_sets import LIP as LIP_PARTS
from bmp.label_sets.part_sets import PPP as PPP_PARTS
from bmp.label_sets.part_sets import PartSet
from bmp.ops.masks import to_boxes, to_rle
from bmp.registry import DATASETS
from bmp.structures import Parts


class _Maps(PeopleDataset):
    """A split as a list of names, a folder of photos and one of label maps."""

    def _read(
        self, name: str, names: Sequence[str], images: Path, maps: Path, label_set: PartSet, person: bool
    ) -> None:
        """Set what the attributes of the base need. person: all labelled pixels of a photo are one person's."""
        self.name, self.part_set = name, label_set
        self._folder, self._maps = images, maps
        self._files = [f"{each}.jpg" for each in names]
        self._refused = {}
        self._one_person = person
        rows: list[Annotation] = []
        entries: list[ImageRow] = []
        with (
            progress(False, len(names), title=f"reading {name}", stderr=True) as (_, advance),
            ThreadPoolExecutor() as pool,
        ):
            for number, (entry, own) in enumerate(pool.map(self._entry, names), 1):
                advance()
                entries.append({"id": number, **entry})  # type: ignore[typeddict-item]
                rows += [{**row, "id": len(rows) + 1, "image_id": number} for row in own]
        self.ground_truth = {
            "info": {"description": name},
            "images": entries,
            "annotations": rows,
            "categories": [{"id": CATEGORY_ID, "name": "person", "supercategory": "person"}],
        }

    def _entry(self, name: str) -> tuple[dict[str, object], list[Annotation]]:
        """Return an image's row without its id, and its people."""
        try:
            with PIL.Image.open(self._folder / f"{name}.jpg") as picture:
                width, height = picture.size
        except OSError as error:
            raise UserError(
                f"{self._folder / name}.jpg: {error.strerror or error}; extract the archive again"
            ) from None
        labels = label_map(self._maps / f"{name}.png", height, width, self._labels())
        entry: dict[str, object] = {"file_name": f"{name}.jpg", "height": height, "width": width}
        bits = torch.from_numpy((labels > 0) & (labels != IGNORED))[None]
        if not self._one_person or not bool(bits.any()):
            return entry, []
        x1, y1, x2, y2 = to_boxes(bits)[0].tolist()
        person: Annotation = {
            "id": 0,
            "image_id": 0,
            "category_id": CATEGORY_ID,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": float(bits.sum()),
            "iscrowd": 0,
            "segmentation": to_rle(bits)[0],
        }
        return entry, [person]

    def _labels(self) -> PartSet:
        assert self.part_set is not None  # set before anything is read
        return self.part_set

    def parts(self, index: int) -> Parts:
        """Return the labelled parts of image ``index``; where people are not told apart, all pixels are nobody's."""
        row = self.ground_truth["images"][index]
        path = self._maps / Path(row["file_name"]).with_suffix(".png")
        labels = label_map(path, row["height"], row["width"], self._labels())
        there = (labels > 0) & (labels != IGNORED)
        owners = there.astype(np.int64) * self._one_person
        return labelled_parts(labels, owners, int(owners.max(initial=0)), self._labels())


@DATASETS.register_module()
class LIP(_Maps):
    """LIP val or train: crops of one person each, with 20 labels.

    Args:
        root: folder with ``TrainVal_images/{split}_images/*.jpg``,
            ``TrainVal_parsing_annotations/{split}_segmentations/*.png`` and ``{split}_id.txt``.
        split: "val" or "train"; the labels of the test split are not public.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, split: str = "val") -> None:
        if split not in ("val", "train"):
            raise UserError(f"LIP: there is no split {split!r} with labels; there is: val, train")
        images, maps = f"TrainVal_images/{split}_images", f"TrainVal_parsing_annotations/{split}_segmentations"
        folder = find_root(f"LIP {split}", root, [images, maps, f"{split}_id.txt"], "as LIP's authors publish it")
        names = _listed(folder / f"{split}_id.txt")
        self._read(f"LIP {split}", names, folder / images, folder / maps, LIP_PARTS, person=True)
        self.published = "lip_val" if split == "val" else None


@DATASETS.register_module()
class PascalPersonPart(_Maps):
    """PASCAL-Person-Part test or train: photos of PASCAL VOC with 7 labels, whose people are not told apart.

    So maps are compared, and not people.

    Args:
        root: folder with ``JPEGImages/*.jpg``, ``maps`` and ``lists``.
        split: the name of a list, such as "val" (1,817 photos) or "train" (1,716).
        maps: folder of label maps, below the root.
        lists: folder of the lists ``{split}.txt``, below the root.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "val",
        maps: str = "pascal_person_part_gt",
        lists: str = "pascal_person_part_trainval_list",
    ) -> None:
        name = f"PASCAL-Person-Part {split}"
        folder = find_root(name, root, ["JPEGImages", maps, f"{lists}/{split}.txt"], "made from VOC's part annotations")
        names = _listed(folder / lists / f"{split}.txt")
        self._read(name, names, folder / "JPEGImages", folder / maps, PPP_PARTS, person=False)
        self.published = "ppp_test" if split in ("val", "test") else None


def _listed(file: Path) -> list[str]:
    """Return the names in a list, one a line, without endings and folders."""
    names = [Path(line.split()[0]).stem for line in file.read_text().splitlines() if line.strip()]
    if not names:
        raise UserError(f"{file}: expected a name a line, found none; extract the archive again")
    if len(set(names)) != len(names):
        raise UserError(f"{file}: a name stands in it twice; extract the archive again")
    return names
