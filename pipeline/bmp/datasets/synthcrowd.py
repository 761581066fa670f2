"""SynthCrowd as a data set that needs no files; knows no metric and no network."""

from __future__ import annotations

import io
from typing import cast

import numpy as np
import PIL.Image

from bmp.datasets.part_maps import labelled_parts
from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.io import images as pictures
from bmp.io.annotations import CocoDataset
from bmp.label_sets.part_sets import CIHP
from bmp.registry import DATASETS
from bmp.structures import Image, Parts
from bmp.synthcrowd.files import render
from bmp.synthcrowd.scenes import make_scene
from bmp.synthcrowd.splits import find_split


@DATASETS.register_module()
class SynthCrowd(PeopleDataset):
    """Drawn crowds with exact ground truth, made when the data set is, about 40 scenes a second.

    Images and ground truth are those that ``python -m bmp.synthcrowd`` writes for the same split, count and seed,
    JPEG included; the JPEGs are kept in memory, about 40 KB each.

    Args:
        split: one of ``splits.SPLITS``, such as "test", "test-hard" or "test-clear".
        count: how many scenes, the first ones of the split; all if None.
        seed: another one gives other scenes of the same kinds; published numbers are for 0.

    Raises:
        UserError: for a split that does not exist, and a count or seed out of range.
    """

    def __init__(self, split: str, count: int | None = None, seed: int = 0) -> None:
        known = find_split(split)
        if (count is not None and count < 1) or seed < 0:
            raise UserError(f"SynthCrowd: expected a count from 1 and a seed from 0, got {count} and {seed}")
        self.name = f"SynthCrowd {split}"
        self.part_set = CIHP
        self._seed, self._settings = seed, known.settings
        drawn, self._jpegs = render(split, known.settings, known.count if count is None else count, seed)
        self.ground_truth = cast("CocoDataset", drawn)

    def load(self, index: int) -> Image:
        """Return image ``index`` as it would be read from the disk."""
        with PIL.Image.open(io.BytesIO(self._jpegs[index])) as picture:
            return pictures.load(picture)

    def parts(self, index: int) -> Parts:
        """Return the labelled parts of the people of image ``index``: the scene is drawn once more."""
        scene = make_scene(self._seed, index, self._settings)
        owners = np.zeros(scene.parts.shape, np.int64)
        for number, visible in enumerate(scene.visible, 1):
            owners[visible] = number
        return labelled_parts(scene.parts.astype(np.int64), owners, len(scene.visible), CIHP)

    def load_with_checksum(self, index: int) -> tuple[Image, None]:
        """Return image ``index``, and None: it is always the same."""
        return self.load(index), None

    def checksum(self, index: int) -> None:
        """Return None: the scenes of a split and seed are always the same."""
