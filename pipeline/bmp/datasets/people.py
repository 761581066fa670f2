"""Photos with labelled people, from any COCO-format file; knows no metric, no network, no data set by name.

Everything that reads ground truth reads it from ``PeopleDataset.ground_truth``: what is wrong with a file is found
where it is read, once.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import numpy as np

from bmp.datasets.part_maps import label_map, labelled_parts
from bmp.errors import UserError
from bmp.io import images as pictures
from bmp.io.annotations import Annotation, CocoDataset, turn_upright
from bmp.io.coco_json import read_labels
from bmp.io.file_names import match_names
from bmp.io.json_fields import short
from bmp.io.orientation import LabelsIn, Orientation, checked_size, read_orientation
from bmp.io.segmentations import to_mask
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.label_sets.part_sets import CIHP, PartSet
from bmp.registry import DATASETS
from bmp.structures import Image, Parts


@DATASETS.register_module()
class PeopleDataset:
    """Images and the people in them.

    A data set that makes its own images is a subclass with an ``__init__`` that sets the attributes below and a
    ``load``; the other methods follow from ``ground_truth``.

    Args:
        annotations: COCO JSON, read as ``bmp.io.coco_json.read_labels`` says.
        images: folder that the file names of the annotations start from. A name that is spelled otherwise there, in
            another Unicode form, in upper case or with percent escapes, is found.
        name: for reports; the name of the annotation file if None.
        min_area: people whose ``area`` (of the annotation, square pixels) is below this are dropped from the ground
            truth, as the paper does for COCO* with 32 squared: detections of them are false positives, and pose to
            mask leaves them out. Crowd regions of all sizes stay: they are no people to be found.
        labels_in: "upright", or "stored" for labels that were made without regard to EXIF; these are turned with their
            photos, see ``bmp.io.orientation``.
        outside: also read images whose names lead out of the folder, absolute ones and those with "..".
        keypoints: which published keypoint set the annotations have, such as "crowdpose", for files that do not say it;
            see ``read_labels``.
        parts: folder of label maps with CIHP's labels, named like the images, for people with masks; as
            ``python -m bmp.synthcrowd --extras`` writes them.

    Attributes:
        name: for reports, such as "OCHuman test".
        ground_truth: COCO dict of persons, see ``read_labels``; image ``i`` of the data set is
            ``ground_truth["images"][i]``.
        published: key of the published numbers for this data set, None where there are none.
        keypoints: what the labelled keypoints mean. unknown_keypoints: why the keypoints of the file were left out, in
            words, "" if they were not.
        notices: what was filled in or left out while the annotations were read, a line each.
        part_set: the labels of ``parts``, None where there are none.

    Raises:
        UserError: for annotations that cannot be used and for images that are not in the folder.
    """

    name: str
    ground_truth: CocoDataset
    published: str | None = None
    keypoints: KeypointSet = COCO_KEYPOINTS
    unknown_keypoints: str = ""
    notices: Sequence[str] = ()
    labels_in: LabelsIn = "upright"
    part_set: PartSet | None = None
    _files: Sequence[str] = ()

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        name: str | None = None,
        min_area: float = 0.0,
        labels_in: LabelsIn = "upright",
        outside: bool = False,
        keypoints: str | None = None,
        parts: str | os.PathLike[str] | None = None,
    ) -> None:
        if labels_in not in ("upright", "stored"):
            raise UserError(f"labels_in: expected 'upright' or 'stored', got {labels_in!r}")
        self.name = name or Path(annotations).stem
        labels = read_labels(annotations, keypoints)
        self.ground_truth = labels.dataset
        self.keypoints, self.unknown_keypoints = labels.keypoints, labels.unknown_keypoints
        self.notices = labels.notices
        self.labels_in = labels_in
        if parts is not None:
            self.part_set, self._part_folder = CIHP, Path(parts).expanduser()
        self._refused: dict[int, str] = {}
        self._folder = Path(images).expanduser()
        names = [image["file_name"] for image in self.ground_truth["images"]]
        if not outside:
            for index, file_name in enumerate(names):
                path = PureWindowsPath(file_name)  # its parts are those of either system
                if path.anchor or ".." in path.parts:
                    raise UserError(
                        f"{annotations}: images[{index}]: {short(file_name)} leads out of the folder of images; "
                        "if you trust this file, say that images may lie outside (--outside, or outside=True)"
                    )
        self._files = self._find(names, annotations)
        if labels_in == "stored":
            self._turn_upright()
        self.ground_truth["annotations"] = [
            row for row in self.ground_truth["annotations"] if row["iscrowd"] or row["area"] >= min_area
        ]

    def turned_photos(self) -> list[str]:
        """Return the names of photos that are seen otherwise than they are stored (EXIF), from the heads of the files.

        Unless labels are for stored pixels, they are taken to be for the photo as it is seen. Where the sides are not
        exchanged, the file does not show which is right.
        """
        names = [image["file_name"] for image in self.ground_truth["images"]]
        stored = (read_orientation(self._folder / file) for file in self._files)
        return [name for name, orientation in zip(names, stored, strict=False) if orientation and orientation.tag > 1]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ground_truth["images"])

    def file_name(self, index: int) -> str:
        """Return what image ``index`` is called in the annotations, a path with forward slashes."""
        return self.ground_truth["images"][index]["file_name"]

    def people(self) -> dict[int | str, list[Annotation]]:
        """Return the annotations of people by the id of their image, crowd regions left out, in the order of the file.

        An image without anybody is not in it.
        """
        people: dict[int | str, list[Annotation]] = defaultdict(list)
        for row in self.ground_truth["annotations"]:
            if not row["iscrowd"]:
                people[row["image_id"]].append(row)
        return dict(people)

    def load(self, index: int) -> Image:
        """Read image ``index``; ``ImageError`` where it is broken or not of the size that its annotations are for."""
        return self._fitting(index, pictures.load(self._photo(index)))

    def load_with_checksum(self, index: int) -> tuple[Image, str | None]:
        """Read image ``index``, see ``load``, and return it with the sha256 of the file that it was read from.

        The file is read once. The checksum is None where there is no file that could change.
        """
        image, checksum = pictures.load_with_checksum(self._photo(index))
        return self._fitting(index, image), checksum

    def parts(self, index: int) -> Parts:
        """Return the labelled parts of the people of image ``index``, in the order of their annotations.

        Labels may be 255 where a pixel does not count. Raises ``UserError`` for maps that are none, and where there are
        none.
        """
        row = self.ground_truth["images"][index]
        if self.part_set is None:
            raise UserError(f"{self.name}: there are no labels of parts; give the folder of their maps (parts=DIR)")
        path = self._part_folder / Path(row["file_name"]).with_suffix(".png").name
        labels = label_map(path, row["height"], row["width"], self.part_set)
        people = self.people().get(row["id"], [])
        owners = np.zeros(labels.shape, np.int64)
        for number, person in reversed(list(enumerate(people, 1))):
            owners[to_mask(person.get("segmentation"), row["height"], row["width"]).numpy()] = number
        return labelled_parts(labels, owners, len(people), self.part_set)

    def checksum(self, index: int) -> str | None:
        """Return the sha256 of the file of image ``index``; None where there is none that could change."""
        return pictures.checksum(self._folder / self._files[index])

    def _photo(self, index: int) -> Path:
        """Return the file of image ``index``; ``ImageError`` where its labels could not be brought to it."""
        path = self._folder / self._files[index]
        if index in self._refused:
            raise pictures.ImageError(f"{path}: {self._refused[index]}")
        return path

    def _fitting(self, index: int, image: Image) -> Image:
        """Return the image; ``ImageError`` where it is not of the size that the annotations of ``index`` are for."""
        path, entry = self._folder / self._files[index], self.ground_truth["images"][index]
        if (image.height, image.width) != (entry["height"], entry["width"]):
            # What is stored tells whether EXIF explains the difference.
            seen = Orientation(image.height, image.width)
            stored = read_orientation(path) if self.labels_in == "upright" else None
            if stored is not None and stored.upright_size == seen.upright_size:
                seen = stored
            try:
                checked_size((entry["height"], entry["width"]), seen, "upright")
            except UserError as error:
                raise pictures.ImageError(f"{path}: {error}") from None
        return image

    def _find(self, names: Sequence[str], annotations: str | os.PathLike[str]) -> list[str]:
        """Return where below the folder the images are."""
        # os.path answers no where pathlib raises, for paths that are too long.
        missing = [name for name in names if not os.path.isfile(self._folder / name)]  # noqa: PTH113
        if not missing:
            return list(names)
        here = (path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file())
        known = set(names)
        found = match_names(str(self._folder), (name for name in here if name not in known), missing, whole_paths=True)
        if found.silent:
            raise UserError(
                f"{self._folder}: {len(found.silent)} of the {len(names)} images in {annotations} are not here, the "
                f"first is {found.silent[0]}; give the folder that these names start from, with all images in it"
            )
        return [str(found.names.get(name, name)) for name in names]

    def _turn_upright(self) -> None:
        """Turn the labels of photos that are not stored as they are seen."""
        turned = {}
        for index, image in enumerate(self.ground_truth["images"]):
            orientation = read_orientation(self._folder / self._files[index])
            if orientation is None:  # loading it says why
                continue
            try:
                size = checked_size((image["height"], image["width"]), orientation, "stored")
            except UserError as error:
                self._refused[index] = str(error)
                continue
            if orientation.tag > 1:
                image["height"], image["width"] = size
                turned[image["id"]] = orientation
        self.ground_truth["annotations"] = [
            turn_upright(row, turned[row["image_id"]], self.keypoints) if row["image_id"] in turned else row
            for row in self.ground_truth["annotations"]
        ]


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
