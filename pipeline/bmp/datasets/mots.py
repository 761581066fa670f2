"""MOTS: videos of streets with masks of pedestrians, in the layouts of MOTSChallenge and KITTI. Knows no metric."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from bmp.datasets.people import find_root
from bmp.datasets.videos import FrameLabels, LabelledFrame, VideoDataset, boxes_around
from bmp.errors import UserError
from bmp.io import images
from bmp.io.formats.mot_challenge import PEDESTRIAN, MotsRow, read_mots
from bmp.ops.masks import from_rle
from bmp.registry import VIDEO_DATASETS
from bmp.structures import Frame

_SOURCE = "as motchallenge.net (MOTS) or the authors of KITTI MOTS publish it"


@VIDEO_DATASETS.register_module()
class MOTS(VideoDataset):
    """MOTSChallenge (``MOTS20-02/img1`` and ``gt/gt.txt``) or KITTI MOTS (``image_02/0002`` and ``instances_txt``).

    Objects of other classes are left out, and regions that are to be ignored are void.

    Args:
        root: folder with a folder a video, each with ``img1`` and ``gt/gt.txt``; or with ``image_02`` and
            ``instances_txt``.
        kind: the class that counts: 2 for pedestrians, 1 for cars.

    Raises:
        UserError: for a folder that lacks something.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, kind: int = PEDESTRIAN) -> None:
        self.name = "MOTS"
        folder = find_root(self.name, root, (), _SOURCE)
        kitti = (folder / "image_02").is_dir()
        if kitti:
            find_root(self.name, root, ("image_02", "instances_txt"), _SOURCE)
            labels = sorted((folder / "instances_txt").glob("*.txt"))
            self._videos = [(path.stem, folder / "image_02" / path.stem, path) for path in labels]
        else:
            labels = sorted(folder.glob("*/gt/gt.txt"))
            self._videos = [(path.parents[1].name, path.parents[1] / "img1", path) for path in labels]
        self.name = "KITTI MOTS" if kitti else "MOTSChallenge"
        self.rate = 10.0 if kitti else 30.0
        self._kind = kind
        if not self._videos:
            raise UserError(f"{self.name}: {folder} has no labels, such as MOTS20-02/gt/gt.txt; give another root")
        for name, pictures, _ in self._videos:
            if not pictures.is_dir():
                raise UserError(f"{self.name}: {name} has labels and no pictures; expected them in {pictures}")

    def __len__(self) -> int:
        return len(self._videos)

    def video_name(self, index: int) -> str:
        """Return what the video is called, such as MOTS20-02 or 0002."""
        return self._videos[index][0]

    def frames(self, index: int) -> Iterator[LabelledFrame]:
        """Read the frames of a video, all of which are labelled; pictures are called by their frames' numbers."""
        _, pictures, path = self._videos[index]
        rows: dict[int, list[MotsRow]] = defaultdict(list)
        for row in read_mots(path):
            rows[row.frame].append(row)
        files = {int(file.stem): file for file in sorted(pictures.iterdir()) if file.stem.isdecimal()}
        missing = sorted(set(rows) - set(files))
        if missing:
            raise UserError(f"{pictures}: frame {missing[0]} is labelled and has no picture; fetch them all")
        for position, number in enumerate(sorted(files)):
            image = images.load(files[number])
            try:
                labels = self._labels(rows[number], image.height, image.width)
            except ValueError as error:
                raise UserError(f"{path}: frame {number}: {error}") from None
            yield LabelledFrame(Frame(position, position / self.rate, image), labels)

    def _labels(self, rows: list[MotsRow], height: int, width: int) -> FrameLabels:
        own = [row for row in rows if row.kind == self._kind]
        masks = from_rle([row.mask for row in own], height, width).numpy()
        ignored = from_rle([row.mask for row in rows if row.ignored], height, width).numpy()
        void = np.asarray(ignored.any(axis=0), np.bool_) if len(ignored) else None
        return FrameLabels(np.array([row.track_id for row in own], np.int64), masks, boxes_around(masks), void)
