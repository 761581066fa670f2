"""A part of a data set that training never sees, to choose between checkpoints by; knows no network and no file.

Checkpoints that are chosen on a benchmark have seen it. So they are chosen on images of the training set that are held
out. Which these are depends on their ids and a seed alone, so that training, validation and any other program agree on
them without a list, in any order of the files, and also where images are added.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.io.annotations import CocoDataset
from bmp.registry import DATASETS
from bmp.structures import Image

SHARE = 0.02
"""Of COCO train2017 these are about 2,400 images, 1,300 of them with people: as many as half of val2017."""

Part = Literal["held_out", "rest"]


def is_held_out(image_id: int | str, share: float = SHARE, seed: int = 0) -> bool:
    """Say whether an image is held out: the SHA-256 of "SEED/ID", as a number in [0, 1), is below ``share``."""
    digest = hashlib.sha256(f"{seed}/{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def part_of(ground_truth: CocoDataset, part: Part = "held_out", share: float = SHARE, seed: int = 0) -> CocoDataset:
    """Return the held-out images of a COCO dict with their annotations, or all others; the dict stays as it is.

    Raises ``UserError`` for a part that there is not, a share outside (0, 1), and where no image is left.
    """
    if part not in ("held_out", "rest"):
        raise UserError(f"part: expected 'held_out' or 'rest', got {part!r}")
    if not 0 < share < 1:
        raise UserError(f"share: expected a share of the images between 0 and 1, got {share}")
    images = [
        image for image in ground_truth["images"] if is_held_out(image["id"], share, seed) == (part == "held_out")
    ]
    if not images:
        raise UserError(
            f"{part}: none of the {len(ground_truth['images'])} images is left at a share of {share}; choose another "
            "share or seed"
        )
    known = {image["id"] for image in images}
    rows = [row for row in ground_truth["annotations"] if row["image_id"] in known]
    return {**ground_truth, "images": images, "annotations": rows}


@DATASETS.register_module()
class HeldOut(PeopleDataset):
    """The images of a data set that are held out, or all others.

    Args:
        dataset: the whole.
        part: "held_out", to validate on, or "rest", to train on.
        share: how much is held out, between 0 and 1.
        seed: another one holds other images out.

    Raises:
        UserError: as ``part_of`` does.
    """

    def __init__(self, dataset: PeopleDataset, part: Part = "held_out", share: float = SHARE, seed: int = 0) -> None:
        self._whole = dataset
        self.ground_truth = part_of(dataset.ground_truth, part, share, seed)
        places = {image["id"]: index for index, image in enumerate(dataset.ground_truth["images"])}
        self._places = [places[image["id"]] for image in self.ground_truth["images"]]
        words = f"{100 * share:g} % held out"
        self.name = f"{dataset.name}, {words}" if part == "held_out" else f"{dataset.name} without {words}"
        self.notices = dataset.notices
        self.labels_in = dataset.labels_in
        self.keypoints, self.unknown_keypoints = dataset.keypoints, dataset.unknown_keypoints

    def turned_photos(self) -> list[str]:
        """Return the names of photos that are seen otherwise than they are stored; see ``PeopleDataset``."""
        own = {image["file_name"] for image in self.ground_truth["images"]}
        return [name for name in self._whole.turned_photos() if name in own]

    def load(self, index: int) -> Image:
        """Read image ``index``; see ``PeopleDataset``."""
        return self._whole.load(self._places[index])

    def load_with_checksum(self, index: int) -> tuple[Image, str | None]:
        """Read image ``index`` and return it with the sha256 of its photo; see ``PeopleDataset``."""
        return self._whole.load_with_checksum(self._places[index])

    def checksum(self, index: int) -> str | None:
        """Return the sha256 of a photo; see ``PeopleDataset``."""
        return self._whole.checksum(self._places[index])
