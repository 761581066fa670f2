"""DAVIS and YouTube-VOS: videos whose objects are labelled in pictures of numbers. Knows their files, no metric."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bmp.datasets.people import find_root
from bmp.datasets.videos import FrameLabels, LabelledFrame, VideoDataset, boxes_around
from bmp.errors import UserError
from bmp.io import images
from bmp.io.formats.index_masks import read_index_mask
from bmp.io.json_fields import read_json, short
from bmp.registry import VIDEO_DATASETS
from bmp.structures import Frame

VOID = 255
"""Number of pixels that count for nothing, in DAVIS 2017."""


class NumberedVideos(VideoDataset):
    """Videos in folders of pictures, with a PNG of numbers for each labelled picture.

    Args:
        pictures: folder with a folder of pictures a video.
        labels: folder with a folder of PNGs a video, of the same names.
        names: of the videos, which are folders in ``pictures``.
        single: whether all numbers above 0 are one object.

    Raises:
        UserError: for a video without pictures.
    """

    of_people = False

    def __init__(self, pictures: Path, labels: Path, names: Sequence[str], *, single: bool = False) -> None:
        self._pictures, self._labels, self._names, self._single = pictures, labels, list(names), single
        if not self._names:
            raise UserError(f"{self.name}: there is no video in {pictures}; expected folders with pictures")
        for name in self._names:
            if not (pictures / name).is_dir():
                raise UserError(f"{self.name}: {pictures} has no folder {name}; expected all videos of the list in it")

    def __len__(self) -> int:
        return len(self._names)

    def video_name(self, index: int) -> str:
        """Return the name of the folder."""
        return self._names[index]

    def frames(self, index: int) -> Iterator[LabelledFrame]:
        """Read the frames of a video; those without a PNG are not labelled."""
        name = self._names[index]
        files = sorted(path for path in (self._pictures / name).iterdir() if images.is_picture(path))
        if not files:
            raise UserError(f"{self.name}: {self._pictures / name} has no pictures; fetch the data set again")
        for number, path in enumerate(files):
            image = images.load(path)
            frame = Frame(number, number / self.rate, image)
            file = self._labels / name / f"{path.stem}.png"
            yield LabelledFrame(frame, self._read(file, image.height, image.width) if file.is_file() else None)

    def _read(self, file: Path, height: int, width: int) -> FrameLabels:
        numbers = read_index_mask(file)
        if numbers.shape != (height, width):
            raise UserError(
                f"{file}: {numbers.shape[1]}x{numbers.shape[0]} pixels, its picture has {width}x{height}; both have to "
                "be of one resolution"
            )
        return labels_of(numbers, single=self._single)


def labels_of(numbers: npt.NDArray[np.int64], *, single: bool = False) -> FrameLabels:
    """Return the objects of a picture of numbers (H, W), in the order of their numbers.

    Args:
        numbers: 0 for nothing, 255 for pixels that count for nothing.
        single: everything above 0 is object 1, 255 as well, as in DAVIS 2016.
    """
    void = None
    if single:
        numbers = (numbers > 0).astype(np.int64)
    elif (numbers == VOID).any():
        void = numbers == VOID
    ids = np.array([number for number in np.unique(numbers) if number and (single or number != VOID)], np.int64)
    masks = numbers[None] == ids[:, None, None]
    return FrameLabels(ids, masks, boxes_around(masks), void)


@VIDEO_DATASETS.register_module()
class DAVIS(NumberedVideos):
    """DAVIS 2016 (one object a video) or 2017 (several).

    Args:
        root: folder with ``JPEGImages``, ``Annotations`` and ``ImageSets``, as they are published.
        year: 2016 or 2017.
        split: a file in ``ImageSets/<year>``, such as "val".
        resolution: a folder in ``JPEGImages`` and ``Annotations``.

    Raises:
        UserError: for a folder that lacks something.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        year: int = 2017,
        split: str = "val",
        resolution: str = "480p",
    ) -> None:
        if year not in (2016, 2017):
            raise UserError(f"DAVIS: expected year 2016 or 2017, got {year}")
        self.name = f"DAVIS {year} {split}"
        self.published = f"davis_{year}_{split}"
        self.rate = 24.0
        wanted = f"JPEGImages/{resolution}", f"Annotations/{resolution}", f"ImageSets/{year}/{split}.txt"
        folder = find_root(self.name, root, wanted, "as davischallenge.org publishes it")
        names = _listed(folder / wanted[2])
        super().__init__(folder / wanted[0], folder / wanted[1], names, single=year == 2016)


def _listed(path: Path) -> list[str]:
    """Return the videos of a list: a name a line, or as in 2016 the paths of a frame and its annotation."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read, {getattr(error, 'strerror', None) or 'it is no text'}") from None
    entries = [line.split()[0] for line in lines if line.split()]
    return list(dict.fromkeys(Path(entry).parent.name if "/" in entry else entry for entry in entries))


@VIDEO_DATASETS.register_module()
class YouTubeVOS(NumberedVideos):
    """YouTube-VOS 2018 or 2019, in which each fifth frame is labelled, in "valid" only the first of each object.

    Args:
        root: folder with ``train`` and ``valid``, each with ``JPEGImages``, ``Annotations`` and ``meta.json``.
        split: one of them.

    Raises:
        UserError: for a folder that lacks something, and a broken ``meta.json``.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, split: str = "valid") -> None:
        self.name = f"YouTube-VOS {split}"
        self.published = f"youtube_vos_{split}"
        self.rate = 6.0  # each fifth frame of 30 a second
        wanted = f"{split}/JPEGImages", f"{split}/Annotations", f"{split}/meta.json"
        folder = find_root(self.name, root, wanted, "as youtube-vos.org publishes it")
        meta = read_json(folder / wanted[2])
        videos = meta.get("videos") if isinstance(meta, dict) else None
        if not isinstance(videos, dict):
            raise UserError(f"{folder / wanted[2]}: expected an object with videos by name, got {short(meta)}")
        super().__init__(folder / wanted[0], folder / wanted[1], sorted(videos))
