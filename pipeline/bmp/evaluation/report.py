"""Says what came out of an evaluation: tables for people, JSON for programs, pictures; computes no metric itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageDraw

from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.evaluation.metrics.coco import Kind, to_results
from bmp.evaluation.metrics.matching import Matches
from bmp.evaluation.published import Published
from bmp.evaluation.rounds import Comparison, Overlap, Round
from bmp.io.annotations import to_instances
from bmp.io.atomic import replacing
from bmp.label_sets import COCO_KEYPOINTS
from bmp.visualize import overlay

if TYPE_CHECKING:
    import rich.table

NO_NUMBER = "no number"
"""Stands where nobody is labelled for what would be compared, or nobody was found to compare."""

SEGM_SCORE_WORDS = {
    "detection": "detection score",
    "iou": "predicted IoU",
    "detection_times_iou": "detection score x predicted IoU",
}
_KINDS: dict[Kind, str] = {"bbox": "boxes", "segm": "masks", "keypoints": "poses"}
_PROTOCOLS = {
    "loop": "people detected",
    "detected_poses": "labelled boxes, poses estimated",
    "ground_truth_poses": "labelled poses",
}
_EXAMPLES, _PANEL, _TITLE, _GAP = 3, 480, 22, 6
_PAPER, _INK = (32, 32, 32), (235, 235, 235)


@dataclass(frozen=True)
class TextTable:
    """Rows of text under a title, for Markdown and for the terminal; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return it as Markdown, under a heading."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1)), *self.rows]
        return f"## {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def rich(self) -> rich.table.Table:
        """Return it for ``rich`` to print."""
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left")
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def precision_table(comparison: Comparison) -> TextTable:
    """Return the average precisions after each round in per cent, with the change from the first to the last."""
    rows: list[tuple[str, ...]] = []
    first, last = comparison.rounds[0], comparison.rounds[-1]
    for kind, name in _KINDS.items():
        rows += [
            (name, f"round {entry.number}", str(entry.people), *map(_percent, _precisions(entry, kind)))
            for entry in comparison.rounds
        ]
        changes = map(_change, _precisions(first, kind), _precisions(last, kind))
        rows.append((name, _span(comparison), f"{last.people - first.people:+d}", *changes))
    return TextTable("Average precision", ("AP of", "after", "people", "mean", "at 0.50", "at 0.75"), tuple(rows))


def _precisions(entry: Round, kind: Kind) -> tuple[float | None, float | None, float | None]:
    found = entry.coco.get(kind)
    return (None, None, None) if found is None else (found.ap, found.ap50, found.ap75)


def people_table(comparison: Comparison) -> TextTable:
    """Return who was found after each round, by boxes and by masks, with the change; shares in per cent."""
    rows: list[tuple[str, ...]] = []
    overlaps: dict[str, list[Overlap | None]] = {
        "boxes": [entry.boxes for entry in comparison.rounds],
        "masks": [entry.masks for entry in comparison.rounds],
    }
    for name, column in overlaps.items():
        known = [overlap for overlap in column if overlap is not None]
        for entry, overlap in zip(comparison.rounds, known, strict=False):
            counts = str(overlap.found), str(overlap.lost)
            rows.append((name, f"round {entry.number}", *map(_percent, _shares(overlap)), *counts))
        if known:
            changes = map(_change, _shares(known[0]), _shares(known[-1]))
            counts = str(sum(overlap.found for overlap in known[1:])), str(sum(overlap.lost for overlap in known[1:]))
            rows.append((name, _span(comparison), *changes, *counts))
        else:
            rows.append((name, *[NO_NUMBER] * 6))
    header = ("overlap of", "after", "recall", "precision", "mean IoU", "found", "lost")
    return TextTable("People found and lost, at IoU 0.5", header, tuple(rows))


def equal_precision_sentence(comparison: Comparison) -> str:
    """Say what the later rounds add to the recall of boxes if they may not be less precise than the first."""
    equal = comparison.box_recall
    return (
        f"Box recall after round 1 is {_percent(equal.first)} at precision {_percent(equal.precision)}; after round "
        f"{comparison.rounds[-1].number}, with as many of the best results as keep that precision, it is "
        f"{_percent(equal.second)} ({_change(equal.first, equal.second)})."
    )


def published_table(numbers: Sequence[Published]) -> TextTable:
    """Return published average precisions in per cent."""
    rows = [
        (
            number.method,
            number.prompts,
            f"AP of {_KINDS[number.kind]}",
            f"{number.value:.1f}",
            _PROTOCOLS[number.protocol],
            number.source if number.verified else f"{number.source}, not verified",
            number.note,
        )
        for number in numbers
    ]
    header = ("method", "prompts", "what", "value", "protocol", "source", "note")
    return TextTable("Published", header, tuple(rows))


def seconds_table(seconds: Mapping[str, float], images: int) -> TextTable:
    """Return where the time went, all processes together; ``seconds`` has a name "all" for everything."""
    whole = seconds.get("all", 0.0)
    stages = {name: value for name, value in seconds.items() if name != "all"}
    stages["loop, reading, writing"] = whole - sum(stages.values())
    rows = [
        (name, f"{value:.1f}", f"{value / max(images, 1):.3f}", _percent(value / whole if whole else None))
        for name, value in [*sorted(stages.items(), key=lambda item: -item[1]), ("all", whole)]
    ]
    return TextTable("Seconds", ("stage", "seconds", "an image", "per cent"), tuple(rows))


def write_results(path: Path, rows: Iterable[Mapping[str, Any]], segm_score: str) -> None:
    """Write COCO results, a person a line, that serve for boxes, masks and poses.

    ``score`` is that of the box; ``segm_score`` and ``keypoints_score`` are those of mask and pose. Raises ``OSError``.
    """
    with replacing(path) as file:
        separator = "["
        for row in rows:
            masks, poses = (to_results([row], kind, segm_score)[0]["score"] for kind in ("segm", "keypoints"))
            file.write(f"{separator}\n{json.dumps({**row, 'segm_score': masks, 'keypoints_score': poses})}")
            separator = ","
        file.write("\n]\n" if separator == "," else "[]\n")


def numbers(comparison: Comparison) -> dict[str, Any]:
    """Return all numbers of a comparison as plain values; shares are in [0, 1], and None means no number."""
    return {
        "rounds": [
            {
                "round": entry.number,
                "people": entry.people,
                **{kind: asdict(entry.coco[kind]) if kind in entry.coco else None for kind in _KINDS},
                "boxes_at_iou_50": asdict(entry.boxes),
                "masks_at_iou_50": None if entry.masks is None else asdict(entry.masks),
            }
            for entry in comparison.rounds
        ],
        "box_recall_at_equal_precision": asdict(comparison.box_recall),
    }


def image_qualities(ground_truth: Mapping[str, Any], matches: Matches) -> dict[Any, float]:
    """Return for each image with people the mean IoU of its people with who shows them, 0 for those not found.

    By id of the image, in [0, 1]; crowd regions are no people.
    """
    overlaps = np.zeros(len(ground_truth["annotations"]))
    hits = matches.person >= 0
    overlaps[matches.person[hits]] = matches.overlaps[hits]
    people: dict[Any, list[float]] = {}
    for index in matches.people.tolist():
        people.setdefault(ground_truth["annotations"][index]["image_id"], []).append(float(overlaps[index]))
    return {image_id: sum(values) / len(values) for image_id, values in people.items()}


def contact_sheet(
    dataset: PeopleDataset, rows: Iterable[Mapping[str, Any]], qualities: Mapping[Any, float]
) -> PIL.Image.Image | None:
    """Draw the images of best, median and worst quality, three of each at most, ground truth beside results.

    Returns None where there is no image to choose from; images that cannot be read any more are left out.
    """
    chosen = _chosen(qualities)
    found: dict[Any, list[Mapping[str, Any]]] = {image_id: [] for image_id in chosen}
    for row in rows:
        if row["image_id"] in found:
            found[row["image_id"]].append(row)
    labels: dict[Any, list[Mapping[str, Any]]] = {image_id: [] for image_id in chosen}
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
        pictures = [overlay(image, to_instances(people[image_id], image), COCO_KEYPOINTS) for people in (labels, found)]
        name = dataset.file_name(indices[image_id])
        title = f"{place}: {name}, {qualities[image_id]:.2f}"
        lines.append([(f"{title}: ground truth", pictures[0]), (f"found: {len(found[image_id])}", pictures[1])])
    return _sheet(lines) if lines else None


def _chosen(qualities: Mapping[Any, float]) -> dict[Any, str]:
    """Return ids of images with what they are examples of; each once, ties in the order of the data set."""
    order = sorted(qualities, key=lambda image_id: -qualities[image_id])
    count = min(_EXAMPLES, max(1, len(order) // 3))
    middle = max(0, (len(order) - count) // 2)
    groups = {"best": order[:count], "worst": order[-count:], "median": order[middle : middle + count]}
    chosen: dict[Any, str] = {}
    for place, ids in groups.items():
        for image_id in ids:
            chosen.setdefault(image_id, place)
    return {image_id: chosen[image_id] for image_id in order if image_id in chosen}


def _sheet(lines: Sequence[Sequence[tuple[str, PIL.Image.Image]]]) -> PIL.Image.Image:
    """Put pictures in rows, each under its title and at most 480 pixels wide and high."""
    for line in lines:
        for _, picture in line:
            picture.thumbnail((_PANEL, _PANEL))
    heights = [_TITLE + max(picture.height for _, picture in line) + _GAP for line in lines]
    columns = max(map(len, lines))
    sheet = PIL.Image.new("RGB", (columns * (_PANEL + _GAP) + _GAP, sum(heights) + _GAP), _PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    top = _GAP
    for line, height in zip(lines, heights, strict=True):
        for column, (title, picture) in enumerate(line):
            left = _GAP + column * (_PANEL + _GAP)
            pen.text((left, top + 3), title, fill=_INK)
            sheet.paste(picture, (left, top + _TITLE))
        top += height
    return sheet


def _shares(overlap: Overlap) -> tuple[float | None, float | None, float | None]:
    return overlap.recall, overlap.precision, overlap.mean_iou


def _span(comparison: Comparison) -> str:
    return f"change 1 to {comparison.rounds[-1].number}"


def _percent(value: float | None) -> str:
    return NO_NUMBER if value is None else f"{100 * value:.1f}"


def _change(first: float | None, last: float | None) -> str:
    return NO_NUMBER if first is None or last is None else f"{100 * (last - first):+.1f}"
