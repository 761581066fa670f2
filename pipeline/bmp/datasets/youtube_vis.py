"""YouTube-VIS and OVIS: videos whose objects have run lengths, frame by frame, in one JSON. Knows no metric."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bmp.datasets.videos import FrameLabels, LabelledFrame, VideoDataset, boxes_around
from bmp.errors import UserError, choices
from bmp.io import images
from bmp.io.json_fields import JsonObject, expect, expect_field, is_file_name, is_id, is_whole, read_json, rows_of
from bmp.io.segmentations import MOST_PIXELS, checked_segmentation, to_mask
from bmp.registry import VIDEO_DATASETS
from bmp.structures import Frame


@VIDEO_DATASETS.register_module()
class YouTubeVIS(VideoDataset):
    """YouTube-VIS 2019, 2021 and 2022, OVIS, and what ``bmp.io.formats.youtube_vis`` writes as ground truth.

    Args:
        annotations: the JSON.
        images: the folder from which its ``file_names`` start.
        category: name of the only category that counts, such as "person" or in OVIS "Person"; None for all.
        name: for reports; the name of the file by default.

    Raises:
        UserError: the file cannot be read or something in it is not of the format.
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        category: str | None = "person",
        name: str | None = None,
    ) -> None:
        self._path, self._folder = Path(annotations).expanduser(), Path(images).expanduser()
        self.name = name or self._path.stem
        if not self._folder.is_dir():
            raise UserError(f"{self.name}: {self._folder} is not a folder; give the one that file_names start from")
        data = read_json(self._path)
        expect(isinstance(data, dict), str(self._path), "expected an object with videos, annotations and categories")
        wanted = self._categories(data, category)
        self._videos = [self._video(location, row) for location, row in rows_of(self._path, data, "videos")]
        lengths = {row["id"]: row for row in self._videos}
        self._objects: dict[int | str, list[JsonObject]] = defaultdict(list)
        for location, row in rows_of(self._path, data, "annotations"):
            expect_field(location, row, "video_id", row.get("video_id") in lengths, "the id of one of the videos")
            if wanted is None or row.get("category_id") in wanted:
                video = lengths[row["video_id"]]
                self._objects[video["id"]].append(self._object(location, row, video))

    def __len__(self) -> int:
        return len(self._videos)

    def video_name(self, index: int) -> str:
        """Return the folder of the video's pictures."""
        return Path(self._videos[index]["file_names"][0]).parent.as_posix()

    def frames(self, index: int) -> Iterator[LabelledFrame]:
        """Read the frames of a video, all of which are labelled. Crowds are void."""
        video = self._videos[index]
        height, width = video["height"], video["width"]
        for number, name in enumerate(video["file_names"]):
            image = images.load(self._folder / name)
            if (image.height, image.width) != (height, width):
                raise UserError(
                    f"{self._folder / name}: {image.width}x{image.height} pixels, its labels are for {width}x{height}"
                )
            ids, bits = [], []
            void = np.zeros((height, width), np.bool_)
            for row in self._objects[video["id"]]:
                shape = row["segmentations"][number]
                if shape is None:
                    continue
                mask = to_mask(checked_segmentation(shape, height, width), height, width)
                if row.get("iscrowd"):
                    void |= mask.numpy()
                else:
                    ids.append(row["id"])
                    bits.append(mask)
            masks = torch.stack(bits).numpy() if bits else np.zeros((0, height, width), np.bool_)
            labels = FrameLabels(np.array(ids, np.int64), masks, boxes_around(masks), void if void.any() else None)
            yield LabelledFrame(Frame(number, number / self.rate, image), labels)

    def _categories(self, data: JsonObject, wanted: str | None) -> set[object] | None:
        if wanted is None:
            return None
        names = {row.get("id"): str(row.get("name")) for _, row in rows_of(self._path, data, "categories")}
        found = {number for number, name in names.items() if name.casefold() == wanted.casefold()}
        if not found:
            raise UserError(f"{self._path}: there is no category {wanted!r}; {choices(wanted, names.values())}")
        return found

    def _video(self, location: str, row: JsonObject) -> JsonObject:
        expect_field(location, row, "id", is_id(row.get("id")), "a number or a name")
        files = row.get("file_names")
        fits = isinstance(files, list) and bool(files) and all(map(is_file_name, files))
        expect_field(location, row, "file_names", fits, "a list of names of pictures")
        for name in row["file_names"]:
            outside = Path(name).is_absolute() or ".." in Path(name).parts
            expect(not outside, location, f"{name!r} leads out of the folder of pictures")
        for side in ("height", "width"):
            expect_field(location, row, side, is_whole(row.get(side)) and row[side] > 0, "a number of pixels")
        expect(row["height"] * row["width"] <= MOST_PIXELS, location, "its frames are larger than pictures can be")
        return row

    def _object(self, location: str, row: JsonObject, video: JsonObject) -> JsonObject:
        expect_field(location, row, "id", is_whole(row.get("id")), "a whole number")
        shapes = row.get("segmentations")
        fits = isinstance(shapes, list) and len(shapes) == len(video["file_names"])
        expect_field(location, row, "segmentations", fits, f"a list with {len(video['file_names'])} entries, a frame")
        for number, shape in enumerate(row["segmentations"]):
            if shape is not None:
                try:
                    checked_segmentation(shape, video["height"], video["width"])
                except ValueError as error:
                    raise UserError(f"{location}: frame {number}: {error}") from None
        return row
