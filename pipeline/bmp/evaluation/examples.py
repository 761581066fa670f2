"""Pictures of the best, median and worst images of an evaluation; computes no metric and writes no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.evaluation.metrics.matching import Matches
from bmp.evaluation.metrics.poses import PoseSets
from bmp.io.annotations import Annotation, CocoDataset, to_instances
from bmp.visualize import numbers_like, overlay

_EXAMPLES, _PANEL, _TITLE, _GAP = 3, 480, 22, 6
_PAPER, _INK = (32, 32, 32), (235, 235, 235)


def image_qualities(ground_truth: CocoDataset, matches: Matches) -> dict[int | str, float]:
    """Return for each image with people the mean IoU of its people with who shows them, 0 for those not found.

    By id of the image, in [0, 1]; crowd regions are no people.
    """
    overlaps = np.zeros(len(ground_truth["annotations"]))
    hits = matches.person >= 0
    overlaps[matches.person[hits]] = matches.overlaps[hits]
    people: dict[int | str, list[float]] = {}
    for index in matches.people.tolist():
        people.setdefault(ground_truth["annotations"][index]["image_id"], []).append(float(overlaps[index]))
    return {image_id: sum(values) / len(values) for image_id, values in people.items()}


def example_sheet(
    dataset: PeopleDataset,
    rows: Iterable[Annotation],
    qualities: Mapping[int | str, float],
    sets: PoseSets | None = None,
) -> PIL.Image.Image | None:
    """Draw the images of best, median and worst quality, three of each at most, ground truth beside results.

    sets: what the keypoints of labels and results mean; COCO's if None. Returns None where there is no image to choose
    from; images that cannot be read any more are left out.
    """
    sets = PoseSets() if sets is None else sets
    chosen = _chosen(qualities)
    found: dict[int | str, list[Annotation]] = {image_id: [] for image_id in chosen}
    for row in rows:
        if row["image_id"] in found:
            found[row["image_id"]].append(row)
    labels: dict[int | str, list[Annotation]] = {image_id: [] for image_id in chosen}
    for row in dataset.ground_truth["annotations"]:
        if row["image_id"] in labels and not row.get("iscrowd"):
            labels[row["image_id"]].append(row)
    indices = {image["id"]: index for index, image in enumerate(dataset.ground_truth["images"])}
    lines = []
    for image_id, place in chosen.items():
        try:
            image = dataset.load(indices[image_id])
        except UserError:
            continue
        labelled = to_instances(labels[image_id], image, sets.labelled)
        shown = to_instances(found[image_id], image, sets.estimated)
        numbers = numbers_like(labelled.masks, shown.masks)
        pictures = [
            overlay(image, labelled, sets.labelled),
            overlay(image, shown, sets.estimated, numbers=numbers),
        ]
        name = dataset.file_name(indices[image_id])
        title = f"{place}: {name}, {qualities[image_id]:.2f}"
        lines.append([(f"{title}: ground truth", pictures[0]), (f"found: {len(found[image_id])}", pictures[1])])
    return _sheet(lines) if lines else None


def _chosen(qualities: Mapping[int | str, float]) -> dict[int | str, str]:
    """Return ids of images with the kind of example they are; each once, ties in the order of the data set."""
    order = sorted(qualities, key=lambda image_id: -qualities[image_id])
    count = min(_EXAMPLES, max(1, len(order) // 3))
    middle = max(0, (len(order) - count) // 2)
    groups = {"best": order[:count], "worst": order[-count:], "median": order[middle : middle + count]}
    chosen: dict[int | str, str] = {}
    for place, ids in groups.items():
        for image_id in ids:
            chosen.setdefault(image_id, place)
    return {image_id: chosen[image_id] for image_id in order if image_id in chosen}


def _sheet(pairs: Sequence[Sequence[tuple[str, PIL.Image.Image]]]) -> PIL.Image.Image:
    """Put pairs of pictures beside and below each other, each picture under its title and at most 480 pixels high."""
    font = PIL.ImageFont.load_default(13)
    widths = []
    for pair in pairs:
        for _, picture in pair:
            picture.thumbnail((_PANEL, _PANEL))
        widths.append([max(picture.width, round(font.getlength(title))) + _GAP for title, picture in pair])
    widest = max(2 * (2 * _PANEL + 2 * _GAP), *map(sum, widths))
    places, left, top, height = [], _GAP, _GAP, 0
    for pair, (first, second) in zip(pairs, widths, strict=True):
        if left + first + second > widest + _GAP:
            left, top, height = _GAP, top + height, 0
        places.append(((left, top), (left + first, top)))
        height = max(height, _TITLE + max(picture.height for _, picture in pair) + _GAP)
        left += first + second
    right = max(second[0] + width for (_, second), (_, width) in zip(places, widths, strict=True))
    sheet = PIL.Image.new("RGB", (right, top + height), _PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    for pair, corners in zip(pairs, places, strict=True):
        for (title, picture), (x, y) in zip(pair, corners, strict=True):
            pen.text((x, y + _TITLE / 2), title, _INK, font, anchor="lm")
            sheet.paste(picture, (x, y + _TITLE))
    return sheet
