"""Writes people in videos as COCO JSON with a table of videos; frames are its images, and load as photos do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bmp.io.annotations import category
from bmp.io.atomic import replacing, writing
from bmp.io.formats.video_rows import VideoRows
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet


def write_coco(
    path: Path,
    videos: Sequence[VideoRows],
    *,
    keypoints: KeypointSet = COCO_KEYPOINTS,
    info: Mapping[str, object] | None = None,
    about: Sequence[Mapping[str, object]] = (),
) -> None:
    """Write one file for all videos, which ``pycocotools.coco.COCO`` loads.

    ``videos`` have id, name, width, height, length and fps; ``images`` have video_id, and frame_id from 0 within the
    video; ``annotations`` have track_id and video_id.

    Args:
        path: the file.
        videos: in their order, with ids from 1.
        keypoints: what those of the people mean.
        info: for the file's ``info``.
        about: for each video further fields of its entry, or nothing.
    """
    with writing(path), replacing(path) as file:
        counts = [0] * len(videos)
        file.write(f'{{"info": {json.dumps(dict(info or {}))}, "categories": {json.dumps([category(keypoints)])},\n')
        file.write('"images": [')
        image_id = 0
        for number, video in enumerate(videos):
            for row in video.rows():
                image_id += 1
                height, width = video.size(row)
                image = {
                    "id": image_id,
                    "file_name": video.file_name(row),
                    "height": height,
                    "width": width,
                    "video_id": number + 1,
                    "frame_id": counts[number],
                    "time": row["time"],
                    "cut": row["cut"],
                }
                counts[number] += 1
                file.write(f"{',' if image_id > 1 else ''}\n{json.dumps(image)}")
        file.write('\n],\n"videos": [')
        for number, video in enumerate(videos):
            entry = {
                "id": number + 1,
                "name": video.name,
                "width": video.width,
                "height": video.height,
                "length": counts[number],
                "fps": video.rate,
                **(about[number] if about else {}),
            }
            file.write(f"{',' if number else ''}\n{json.dumps(entry)}")
        file.write('\n],\n"annotations": [')
        image_id = annotation_id = 0
        for number, video in enumerate(videos):
            for row in video.rows():
                image_id += 1
                for person in row["people"]:
                    annotation_id += 1
                    entry = {**person, "id": annotation_id, "image_id": image_id, "video_id": number + 1}
                    file.write(f"{',' if annotation_id > 1 else ''}\n{json.dumps(entry)}")
        file.write("\n]}\n")
