"""Writes poses in a video as PoseTrack 2018 has them: a JSON file a video, 17 keypoints of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID, category
from bmp.io.atomic import replacing, writing
from bmp.io.formats.video_rows import PersonRow, VideoRows
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, conversion, keypoint_set

POSETRACK = keypoint_set("posetrack18")
_NOSE, _NECK, _TOP = (POSETRACK.names.index(name) for name in ("nose", "head_bottom", "head_top"))
_ABOVE = 0.8  # from nose to crown, as a share of the way from neck to nose


def write_poses(path: Path, video: VideoRows, keypoints: KeypointSet = COCO_KEYPOINTS) -> None:
    """Write ``images`` and ``annotations`` of one video; people without keypoints are not in it.

    Where ``keypoints`` lacks them, the neck (``head_bottom``) is the middle of the shoulders, and the top of the head
    is as far above the nose, away from the neck, as heads usually are; what cannot be told so is 0, 0, 0. Eyes are
    left out. The ids of images are those of the frames.
    """
    length = sum(1 for _ in video.rows())
    with writing(path), replacing(path) as file:
        file.write(f'{{"categories": {json.dumps([category(POSETRACK)])},\n"images": [')
        for position, row in enumerate(video.rows()):
            height, width = video.size(row)
            image = {
                "id": row["frame"],
                "frame_id": row["frame"],
                "file_name": video.file_name(row),
                "vid_id": video.name,
                "nframes": length,
                "is_labeled": True,
                "width": width,
                "height": height,
            }
            file.write(f"{',' if position else ''}\n{json.dumps(image)}")
        file.write('\n],\n"annotations": [')
        number = 0
        for row in video.rows():
            for person in row["people"]:
                if not person.get("keypoints"):
                    continue
                number += 1
                points, scores = to_posetrack(person, keypoints)
                entry = {
                    "id": number,
                    "image_id": row["frame"],
                    "track_id": person["track_id"],
                    "category_id": CATEGORY_ID,
                    "bbox": person["bbox"],
                    "keypoints": points,
                    "scores": scores,
                }
                file.write(f"{',' if number > 1 else ''}\n{json.dumps(entry)}")
        file.write("\n]}\n")


def to_posetrack(person: PersonRow, keypoints: KeypointSet = COCO_KEYPOINTS) -> tuple[list[float], list[float]]:
    """Return PoseTrack's keypoints, x, y, v of each of the 17, and a score for each.

    A keypoint that is computed from several has the least of their flags and scores.
    """
    labels = person["keypoints"]
    if len(labels) != 3 * len(keypoints):
        raise UserError(
            f"person {person['track_id']}: expected {len(keypoints)} keypoints, got {len(labels) / 3:g}; "
            "name the set that they are of"
        )
    given = person.get("keypoint_scores") or [person.get("score", 1.0) if v else 0.0 for v in labels[2::3]]
    way = conversion(keypoints, POSETRACK, approximate=True)
    points = [[0.0, 0.0, 0.0] for _ in POSETRACK.names]
    scores = [0.0] * len(points)
    for target, origin in enumerate(way.origins):
        rows = [labels[3 * number : 3 * number + 3] for number in origin]
        if rows and all(row[2] for row in rows):
            points[target] = [_mean([row[0] for row in rows]), _mean([row[1] for row in rows]), min(r[2] for r in rows)]
            scores[target] = min(given[number] for number in origin)
    nose, neck = points[_NOSE], points[_NECK]
    if not way.origins[_TOP] and nose[2] and neck[2]:
        up = [nose[axis] + _ABOVE * (nose[axis] - neck[axis]) for axis in (0, 1)]
        points[_TOP], scores[_TOP] = [*up, min(nose[2], neck[2])], min(scores[_NOSE], scores[_NECK])
    return [value for point in points for value in point], scores


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
