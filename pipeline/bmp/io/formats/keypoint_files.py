"""COCO's keypoint format as others want it: CrowdPose's 14 joints, and MMPose's data sets. Knows no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bmp.io.annotations import CATEGORY_ID, Annotation, category
from bmp.io.atomic import replacing, writing
from bmp.io.coco_json import Labels
from bmp.io.formats.label_rows import people_by_photo, points_of
from bmp.io.json_fields import JsonObject
from bmp.label_sets import KEYPOINT_SETS, KeypointSet, conversion

ANNOTATIONS, METAINFO = "annotations.json", "metainfo.py"


def write_crowdpose(labels: Labels, path: Path) -> list[str]:
    """Write CrowdPose's JSON: its 14 joints, and how crowded each photo is. Return what was left out.

    Joints that the labels have no place for are not labelled (v = 0): of COCO's the neck and the top of the head.
    """
    joints = KEYPOINT_SETS["crowdpose"]
    reading = conversion(labels.keypoints, joints)
    images: list[JsonObject] = []
    annotations: list[JsonObject] = []
    for image, people in people_by_photo(labels):
        images.append({**image, "crowdIndex": round(_crowd_index(people), 4)})
        for row in people:
            points = [0.0] * (3 * len(joints))
            if row.get("keypoints"):
                values = reading.of_labels(row["keypoints"])
                for place, number in enumerate(reading.known):
                    points[3 * number : 3 * number + 3] = values[3 * place : 3 * place + 3]
            own = {name: value for name, value in row.items() if not name.startswith("keypoint_")}
            labelled = sum(v > 0 for v in points[2::3])
            annotations.append({**own, "keypoints": points, "num_keypoints": labelled})
    _dump(path, {"images": images, "annotations": annotations, "categories": [category(joints)]})
    lost = [name for number, name in enumerate(labels.keypoints.names) if (number,) not in reading.origins]
    return [f"keypoints that CrowdPose lacks: {', '.join(lost)}"] if lost else []


def _crowd_index(people: list[Annotation]) -> float:
    """Return the mean over people of how many keypoints in the box are others', for each own one (CrowdPose, §3)."""
    ratios = []
    for row in people:
        x, y, width, height = row["bbox"]
        inside = [
            other is row
            for other in people
            for px, py, v in points_of(other)
            if v and x <= px <= x + width and y <= py <= y + height
        ]
        if own := sum(inside):
            ratios.append((len(inside) - own) / own)
    return min(1.0, sum(ratios) / len(ratios)) if ratios else 0.0


def write_mmpose(labels: Labels, folder: Path) -> list[str]:
    """Write ``annotations.json`` and ``metainfo.py`` for MMPose's ``CocoDataset``: everybody has keypoints there."""
    count = len(labels.keypoints)
    rows = [
        {"num_keypoints": 0, "keypoints": [0.0] * (3 * count), **row, "category_id": CATEGORY_ID}
        for row in labels.dataset["annotations"]
    ]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _dump(folder / ANNOTATIONS, {**labels.dataset, "annotations": rows})
    with writing(folder / METAINFO), replacing(folder / METAINFO) as file:
        file.write(f"dataset_info = {metainfo(labels.keypoints)!r}\n")
    return []


def metainfo(keypoints: KeypointSet) -> dict[str, Any]:
    """Return what MMPose wants to know of a keypoint set: ``dataset_info``."""
    flips = {a: b for pair in keypoints.flip_pairs for a, b in (pair, pair[::-1])}
    sides = {name: "upper" if number < len(keypoints) / 2 else "lower" for number, name in enumerate(keypoints.names)}
    return {
        "dataset_name": keypoints.name or "people",
        "keypoint_info": {
            number: {
                "name": name,
                "id": number,
                "color": [51, 153, 255],
                "type": sides[name],
                "swap": keypoints.names[flips[number]] if number in flips else "",
            }
            for number, name in enumerate(keypoints.names)
        },
        "skeleton_info": {
            number: {"link": (keypoints.names[a], keypoints.names[b]), "id": number, "color": [0, 255, 0]}
            for number, (a, b) in enumerate(keypoints.skeleton)
        },
        "joint_weights": [1.0] * len(keypoints),
        "sigmas": list(keypoints.sigmas),
    }


def _dump(path: Path, content: object) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            json.dump(content, file)
