"""Breaks data sets, boxes and results of people, and sees that each is used or refused in one line.

    python tests/fuzz/labels.py --count 1500 --seed 0

It needs the package on the path. A file that is taken goes all the way: pictures are loaded, everybody is drawn and
measured against their own labels, since a value that is let in too easily does its harm there.
"""

from __future__ import annotations

import io
import json
import random
import sys
from pathlib import Path

import frame
import mutations
import numpy as np
import PIL.Image
from pycocotools import mask as coco_mask

from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import truly_posed
from bmp.errors import UserError
from bmp.evaluation.metrics.coco import evaluate_coco
from bmp.evaluation.metrics.matching import match
from bmp.evaluation.rounds import labelled_kinds
from bmp.io.annotations import labelled_mask, to_instances
from bmp.io.boxes_file import load_boxes
from bmp.label_sets import COCO_KEYPOINTS

HEIGHT, WIDTH = 48, 64
NAMES = ("000.png", "b/é 1.png", "002.jpg")
POINTS = [20, 20, 2, 22, 18, 1, 0, 0, 0] + [24.5, 30, 2] * 14


def run_lengths(compressed: bool) -> dict[str, object]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[10:40, 30:50] = 1
    mask[20:22, 33:35] = 0
    counts = coco_mask.encode(mask)["counts"].decode()
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=1 - mask[0, 0], append=2))).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": counts if compressed else runs}


def dataset() -> dict[str, object]:
    box = {"iscrowd": 0, "category_id": 1, "bbox": [5, 5, 20, 30], "area": 600}
    return {
        "info": {"description": "small"},
        "images": [{"id": n, "file_name": name, "height": HEIGHT, "width": WIDTH} for n, name in enumerate(NAMES)],
        "annotations": [
            {"id": 1, "image_id": 0, **box, "segmentation": [[5, 5, 25, 5, 25, 35, 5.5, 35]], "keypoints": POINTS, "num_keypoints": 16},
            {"id": 2, "image_id": 0, **box, "bbox": [30.5, 10, 20, 30], "segmentation": run_lengths(True)},
            {"id": 3, "image_id": 1, **box, "iscrowd": 1, "segmentation": run_lengths(False)},
            {"id": 4, "image_id": 2, **box, "category_id": 18},
            {"id": 5, "image_id": 2, **box, "segmentation": run_lengths(False), "score": 0.5},
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_KEYPOINTS.names), "skeleton": [[1, 2]]}, {"id": 18, "name": "dog"}],
    }  # fmt: skip


def picture(name: str) -> bytes:
    file = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    PIL.Image.new("RGB", (WIDTH, HEIGHT), "grey").save(file, "PNG" if name.endswith("png") else "JPEG", exif=exif)
    return file.getvalue()


DATASET, PICTURES = dataset(), {name: picture(name) for name in NAMES}
RESULTS = [
    {"image_id": name, "category_id": 1, "bbox": [5.5, 5, 20, 30], "score": 0.75, "segmentation": run_lengths(True)}
    for name in ("000", 2, "b/é 1.png")
]
MMDETECTION = {
    "labels": [0, 0, 16],
    "scores": [0.9, 0.5, 0.4],
    "bboxes": [[1, 2, 30, 40.5], [0, 0, 64, 48], [3, 3, 5, 5]],
    "masks": [],
}
MMPOSE = [
    {"keypoints": [[3.5, 4]] * 17, "keypoint_scores": [0.5] * 17, "bbox": [[1, 2, 30, 40]], "bbox_score": 0.9}
] * 2


def refusal(error: UserError) -> str:
    """Return a word for an answer to the user that is what it has to be."""
    text = str(error)
    assert text
    assert "\n" not in text, text
    assert len(text) < 1500, f"{len(text)} characters: {text[:200]}"
    text.encode()  # can be printed
    return "refused"


def try_dataset(chance: random.Random, folder: Path) -> str:
    for name, content in PICTURES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    path = folder / "labels.json"
    path.write_bytes(mutations.mutate(DATASET, chance))
    try:
        data = PeopleDataset(path, folder, labels_in=chance.choice(("upright", "stored")))
    except UserError as error:
        return refusal(error)
    for line in data.notices:
        assert "\n" not in line, line
        line.encode()
    json.dumps(data.ground_truth, sort_keys=True)
    people, word = data.people(), "read"
    for index, image in enumerate(data.ground_truth["images"]):
        rows = people.get(image["id"], [])
        try:
            picture = data.load(index)
        except UserError as error:
            refusal(error)
            word = "read but for an image"
            continue
        to_instances(rows, picture, data.keypoints)
        for row in rows:
            if "segmentation" in row:
                assert labelled_mask(row, picture).shape == (picture.height, picture.width)
        if rows:
            truly_posed(picture, rows, 0.5, data.keypoints)
    results = [{**row, "score": 0.5} for row in data.ground_truth["annotations"] if not row["iscrowd"]]
    for kind in labelled_kinds(data.ground_truth):
        evaluate_coco(data.ground_truth, results, kind, keypoints=data.keypoints)
    match(data.ground_truth, [{**row, "mask_score": 1.0} for row in results], "bbox")
    return word


def try_boxes(chance: random.Random, folder: Path) -> str:
    for number, (name, content) in enumerate(PICTURES.items()):
        if number < 2:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    path = folder / "000.json"
    valid = chance.choice((DATASET, RESULTS, MMDETECTION, MMPOSE, {"instance_info": MMPOSE}))
    path.write_bytes(mutations.mutate(valid, chance))
    names = None
    if valid is RESULTS and chance.random() < 0.3:
        names = folder / "names.json"
        names.write_bytes(mutations.mutate(DATASET, chance))
    try:
        given = load_boxes(
            path, NAMES, [folder / name for name in NAMES], names=names, labels_in=chance.choice(("upright", "stored"))
        )
    except UserError as error:
        return refusal(error)
    assert set(given.boxes) | set(given.failures()) == set(NAMES)
    for line in [*given.notices, *given.failures().values()]:
        assert "\n" not in line, line
        line.encode()
    for people in given.boxes.values():
        assert (people.boxes.abs() < 1e7).all()
        assert (people.boxes[:, 2:] > people.boxes[:, :2]).all()
        assert ((people.scores >= 0) & (people.scores <= 1)).all()
    return "read" if not given.failures() else "read but for an image"


TRIALS = {"data sets": try_dataset, "boxes": try_boxes}

if __name__ == "__main__":
    sys.exit(frame.main(TRIALS))
