"""PoseTrack 2018: videos with the poses of people, a JSON a video. Knows its files and no metric."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bmp.datasets.people import find_root
from bmp.datasets.videos import FrameLabels, LabelledFrame, VideoDataset
from bmp.errors import UserError
from bmp.io import images
from bmp.io.json_fields import (
    JsonObject,
    are_numbers,
    expect,
    expect_field,
    is_file_name,
    is_id,
    is_whole,
    read_json,
    rows_of,
)
from bmp.label_sets import keypoint_set
from bmp.registry import VIDEO_DATASETS
from bmp.structures import Frame

_FAR = 1e6  # pixels that a coordinate may be away


@VIDEO_DATASETS.register_module()
class PoseTrack18Videos(VideoDataset):
    """PoseTrack 2018: people have boxes, keypoints and ids, and no masks; most frames are not labelled.

    Args:
        root: folder with ``annotations/<split>/*.json`` and ``images``.
        split: "train" or "val".

    Raises:
        UserError: for a folder that lacks something, and a JSON that is not of the format.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, split: str = "val") -> None:
        self.name = f"PoseTrack18 {split}"
        self.published = f"posetrack18_{split}"
        self.keypoints = keypoint_set("posetrack18")
        self._root = find_root(self.name, root, (f"annotations/{split}", "images"), "as posetrack.net publishes it")
        self._files = sorted((self._root / "annotations" / split).glob("*.json"))
        if not self._files:
            raise UserError(f"{self.name}: {self._root / 'annotations' / split} has no JSON; fetch the annotations")

    def __len__(self) -> int:
        return len(self._files)

    def video_name(self, index: int) -> str:
        """Return the name of the JSON, such as 000342_mpii_test."""
        return self._files[index].stem

    def frames(self, index: int) -> Iterator[LabelledFrame]:
        """Read the frames of a video; regions that are to be ignored are void."""
        path = self._files[index]
        data = read_json(path)
        expect(isinstance(data, dict), str(path), "expected an object with images and annotations")
        pictures = [self._picture(location, row) for location, row in rows_of(path, data, "images")]
        people: dict[int | str, list[JsonObject]] = defaultdict(list)
        known = {row["id"] for row in pictures}
        for location, row in rows_of(path, data, "annotations"):
            expect_field(location, row, "image_id", row.get("image_id") in known, "the id of one of the images")
            people[row["image_id"]].append(self._person(location, row))
        for number, row in enumerate(pictures):
            image = images.load(self._root / row["file_name"])
            labels = None
            if row.get("is_labeled"):
                labels = self._labels(people[row["id"]], _ignored(row, image.height, image.width))
            yield LabelledFrame(Frame(number, number / self.rate, image), labels)

    def _picture(self, location: str, row: JsonObject) -> JsonObject:
        expect_field(location, row, "id", is_id(row.get("id")), "a number or a name")
        expect_field(location, row, "file_name", is_file_name(row.get("file_name")), "the name of a picture")
        outside = Path(row["file_name"]).is_absolute() or ".." in Path(row["file_name"]).parts
        expect(not outside, location, f"{row['file_name']!r} leads out of the folder of pictures")
        for axis in ("ignore_regions_x", "ignore_regions_y"):
            regions = row.get(axis, [])
            fits = isinstance(regions, list) and all(are_numbers(one, -_FAR, _FAR) for one in regions)
            expect_field(location, row, axis, fits, "lists of numbers")
        across, down = (list(map(len, row.get(f"ignore_regions_{axis}", []))) for axis in "xy")
        expect(across == down, location, "its regions to be ignored have not as many x as y; mend them")
        return row

    def _person(self, location: str, row: JsonObject) -> JsonObject:
        expect_field(location, row, "track_id", is_whole(row.get("track_id")), "a whole number")
        points = row.get("keypoints", [0.0] * 3 * len(self.keypoints))
        fits = are_numbers(points, -_FAR, _FAR) and len(points) == 3 * len(self.keypoints)
        expect_field(location, row, "keypoints", fits, f"x, y, v of {len(self.keypoints)} keypoints")
        box = row.get("bbox")
        fits = box is None or (are_numbers(box, -_FAR, _FAR) and len(box) == 4)
        expect_field(location, row, "bbox", fits, "[x, y, width, height]")
        return {**row, "keypoints": points}

    def _labels(self, people: list[JsonObject], void: npt.NDArray[np.bool_] | None) -> FrameLabels:
        points = np.array([row["keypoints"] for row in people], np.float32).reshape(len(people), -1, 3)
        if not people:
            points = np.zeros((0, len(self.keypoints), 3), np.float32)
        boxes = np.array([_box(row, own) for row, own in zip(people, points, strict=True)], np.float32).reshape(-1, 4)
        ids = np.array([row["track_id"] for row in people], np.int64)
        return FrameLabels(ids, None, boxes, void, points)


def _box(row: JsonObject, points: npt.NDArray[np.float32]) -> list[float]:
    """Return xyxy edges: the labelled box, else that around the labelled keypoints."""
    if row.get("bbox") is not None:
        x, y, width, height = row["bbox"]
        return [x, y, x + width, y + height]
    known = points[points[:, 2] > 0, :2]
    return [*known.min(axis=0).tolist(), *known.max(axis=0).tolist()] if len(known) else [0.0] * 4


def _ignored(row: JsonObject, height: int, width: int) -> npt.NDArray[np.bool_] | None:
    columns, rows = row.get("ignore_regions_x", []), row.get("ignore_regions_y", [])
    if not columns:
        return None
    painted = np.zeros((height, width), np.uint8)
    for x, y in zip(columns, rows, strict=True):
        corners = np.array([x, y], np.float64).T.reshape(-1, 1, 2)
        if len(corners) >= 3:
            cv2.fillPoly(painted, [np.rint(corners).astype(np.int32)], 1)
    return painted > 0
