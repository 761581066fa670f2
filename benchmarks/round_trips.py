"""Takes labels to each format of ``bmp convert`` and back, and prints what has changed, as a table in Markdown.

    python benchmarks/round_trips.py                          # drawn crowds, with scores and ends of boxes by lot
    python benchmarks/round_trips.py people.json photos/      # labels of yours

Differences are the largest of any person: of boxes and of labelled keypoints in pixels, of masks in pixels that are not
the same, of v in keypoints, of scores as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import as_command

from bmp.errors import UserError
from bmp.io.annotations import Annotation
from bmp.io.coco_json import Labels, read_labels
from bmp.io.convert import formats, read_any
from bmp.io.segmentations import to_mask
from bmp.synthcrowd.files import render
from bmp.synthcrowd.splits import find_split

_COLUMNS = ("boxes", "masks", "keypoints", "v", "scores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, nargs="?", help="people.json or any COCO file")
    parser.add_argument("photos", type=Path, nargs="?", help="folder of its photos")
    parser.add_argument("--count", type=int, default=20, help="drawn crowds, where no labels are named")
    options = parser.parse_args()
    if options.labels and not options.photos:
        parser.error("name the folder of the photos, too: YOLO's labels and pictures of masks are read back with them")
    with tempfile.TemporaryDirectory() as folder:
        if not options.labels:
            options.labels, options.photos = draw(Path(folder) / "drawn", options.count)
        before = read_labels(options.labels)
        people = sum(map(len, by_photo(before).values()))
        print(f"{people} people in {len(before.dataset['images'])} photos\n")
        print(f"| format | people | {' | '.join(_COLUMNS)} |\n| --- | ---: |{' ---: |' * len(_COLUMNS)}")
        for name, form in formats().items():
            path = Path(folder) / name / form.output.rstrip("/")
            path.parent.mkdir()
            form.write(before, path)
            try:
                after, _ = read_any(path, name, options.photos)
            except UserError as error:
                print(f"| `{name}` | {error} |")
                continue
            cells = compared(before, after, form.lacks)
            print(f"| `{name}` | {' | '.join(cells)} |")


def draw(folder: Path, count: int) -> tuple[Path, Path]:
    """Write drawn crowds with their labels; return the file of labels and the folder of photos."""
    folder.mkdir()
    dataset, contents = render("test", find_split("test").settings, count, 0)
    generator = np.random.default_rng(0)
    for row in dataset["annotations"]:
        row["score"] = round(float(generator.uniform()), 4)
        x, y, w, h = row["bbox"]  # whole pixels; what a model finds is not
        left, top, right, bottom = generator.uniform(0, min(w, h, 2) / 2, 4).round(2).tolist()
        box = (x + left, y + top, w - left - right, h - top - bottom)
        row["bbox"] = [round(value, 2) for value in box]
    for image, content in zip(dataset["images"], contents, strict=True):
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "people.json").write_text(json.dumps(dataset))
    return folder / "people.json", folder


def by_photo(labels: Labels) -> dict[tuple[str, int, int], list[Annotation]]:
    """Return the people of each photo, crowd regions left out, by its name and size."""
    keys = {image["id"]: (image["file_name"], image["height"], image["width"]) for image in labels.dataset["images"]}
    people: dict[tuple[str, int, int], list[Annotation]] = {key: [] for key in keys.values()}
    for row in labels.dataset["annotations"]:
        if not row["iscrowd"]:
            people[keys[row["image_id"]]].append(row)
    return people


def compared(before: Labels, after: Labels, lacks: tuple[str, ...]) -> list[str]:
    """Return the cells of a row: how many people came back, and how far each part of them is from what it was."""
    worst = dict.fromkeys(_COLUMNS, 0.0)
    unknown = set(lacks) | ({"v"} if "keypoints" in lacks else set())
    names = [labels.keypoints.names if labels.keypoints else () for labels in (before, after)]
    shared = [[each.index(name) for name in names[0] if name in names[1]] for each in names]
    count, returned = 0, by_photo(after)
    for (name, height, width), people in by_photo(before).items():
        found = returned.get((name, height, width), [])
        count += len(found)
        for one, other in zip(people, found, strict=False):
            for column, difference in differences(one, other, height, width, shared).items():
                if difference is None:
                    unknown.add(column)
                else:
                    worst[column] = max(worst[column], difference)
    return [str(count), *("none" if column in unknown else f"{worst[column]:.3g}" for column in _COLUMNS)]


def differences(
    one: Annotation, other: Annotation, height: int, width: int, shared: list[list[int]]
) -> dict[str, float | None]:
    """Return how far a person is from what it was, by column; None for what is not there any more.

    ``shared`` are the numbers of the keypoints that both sets have, in either of them.
    """
    masks = [to_mask(row.get("segmentation"), height, width) for row in (one, other)]
    far: float | None = None
    flags: int | None = None
    if "keypoints" in one and "keypoints" in other:
        points = [np.array(row["keypoints"]).reshape(-1, 3)[own] for row, own in zip((one, other), shared, strict=True)]
        both = (points[0][:, 2] > 0) & (points[1][:, 2] > 0)
        far = float(np.abs(points[0] - points[1])[both, :2].max(initial=0))
        flags = int((points[0][:, 2] != points[1][:, 2]).sum())
    return {
        "boxes": max(abs(a - b) for a, b in zip(one["bbox"], other["bbox"], strict=True)),
        "masks": int((masks[0] ^ masks[1]).sum()),
        "keypoints": far,
        "v": flags,
        "scores": abs(one["score"] - other["score"]) if "score" in one and "score" in other else None,
    }


if __name__ == "__main__":
    sys.exit(as_command(main))
