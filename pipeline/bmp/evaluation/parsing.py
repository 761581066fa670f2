"""Measures the parts of people that a run has found, and puts published numbers beside. Knows no network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.evaluation.metrics.parsing import (
    IGNORED,
    THRESHOLDS,
    MapNumbers,
    PeopleNumbers,
    PeopleParsing,
    confusion,
    map_numbers,
)
from bmp.io.annotations import Annotation, PartRow
from bmp.io.json_fields import JsonObject
from bmp.label_sets.part_sets import COARSE_PARTS, PartSet
from bmp.ops.masks import from_rle


@dataclass(frozen=True)
class ParsingComparison:
    """The parts of people, found and labelled, compared.

    names: of the labels that were compared. maps: of all pixels together. people: None where the labels do not tell
    people apart. coarse: both sides were brought to ``COARSE_PARTS``, since their label sets differ.
    """

    names: tuple[str, ...]
    maps: MapNumbers
    people: PeopleNumbers | None
    coarse: bool

    def numbers(self) -> JsonObject:
        """Return everything as plain values."""
        people = None
        if self.people is not None:
            people = {
                **asdict(self.people),
                "thresholds": list(THRESHOLDS),
                **{name: getattr(self.people, name) for name in ("ap_vol", "ap_50", "pcp_50", "ap_r_vol")},
            }
        maps = {**asdict(self.maps), "iou": dict(zip(self.names, self.maps.iou, strict=True))}
        return {"coarse": self.coarse, "maps": maps, "people": people}


def person_score(row: Annotation) -> float:
    """Return what ranks a person's parsing: detection score x mask score x mean part score of the pixels."""
    parts = part_rows_of(row)
    pixels = sum(part["area"] for part in parts)
    mean = sum(part["area"] * part["score"] for part in parts) / pixels if pixels else 0.0
    return row.get("score", 1.0) * row.get("mask_score", 1.0) * mean


def part_rows_of(row: Annotation) -> list[PartRow]:
    """Return the parts of a person who was found."""
    return cast("list[PartRow]", row.get("parts", []))


def compare_parts(
    dataset: PeopleDataset, images: int, rows: Iterable[Annotation], label_set: PartSet
) -> ParsingComparison:
    """Compare people with parts against the labelled parts of a data set.

    Args:
        dataset: its first images are measured, those in which nobody was found as well.
        images: how many.
        rows: of everybody found, by image in any order, as ``bmp.io.annotations.to_annotations`` makes them with parts.
        label_set: of the parts that were found.

    Raises:
        UserError: for a data set whose parts are not labelled, and for broken maps.
    """
    if dataset.part_set is None:
        raise UserError(f"{dataset.name}: there are no labels of parts")
    coarse = dataset.part_set.names != label_set.names
    names = COARSE_PARTS if coarse else label_set.names
    tables = [_table(each, coarse) for each in (dataset.part_set, label_set)]
    found: dict[int | str, list[Annotation]] = defaultdict(list)
    for row in rows:
        found[row["image_id"]].append(row)
    counts = np.zeros((len(names), len(names)), np.int64)
    people = PeopleParsing(len(names))
    known_people = False
    for index in range(images):
        image = dataset.ground_truth["images"][index]
        labelled = dataset.parts(index)
        labels = tables[0][labelled.labels.numpy()]
        owners = labelled.owners.numpy()
        answers = [_map_of(row, image["height"], image["width"], tables[1]) for row in found[image["id"]]]
        whole = np.zeros_like(labels)
        for answer in answers:
            whole = np.where(answer > 0, answer, whole)
        counts += confusion(labels, whole, len(names))
        if len(labelled) or not bool((labels > 0).any()):
            known_people |= len(labelled) > 0
            own = [
                np.where((owners == number) | (labels == IGNORED), labels, 0) for number in range(1, len(labelled) + 1)
            ]
            people.add(
                own,
                answers,
                [person_score(row) for row in found[image["id"]]],
                [_part_scores(row, tables[1], len(names)) for row in found[image["id"]]],
            )
    return ParsingComparison(names, map_numbers(counts), people.numbers() if known_people else None, coarse)


def _table(label_set: PartSet, coarse: bool) -> NDArray[np.uint8]:
    """Return which label of the comparison each number of a map is, (256,)."""
    table = np.full(256, IGNORED, np.uint8)
    table[: len(label_set)] = label_set.groups if coarse else range(len(label_set))
    return table


def _map_of(row: Annotation, height: int, width: int, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    labels = np.zeros((height, width), np.uint8)
    parts = part_rows_of(row)
    masks = from_rle([part["segmentation"] for part in parts], height, width).numpy()
    for part, mask in zip(parts, masks, strict=True):
        labels[mask] = table[part["id"]]
    return labels


def _part_scores(row: Annotation, table: NDArray[np.uint8], labels: int) -> list[float]:
    """Return the scores of labels, as ``person_score`` with that of the part; of several parts the highest."""
    scores = [0.0] * labels
    for part in part_rows_of(row):
        label = int(table[part["id"]])
        own = row.get("score", 1.0) * row.get("mask_score", 1.0) * part["score"]
        scores[label] = max(scores[label], own)
    return scores


class PublishedParsing(NamedTuple):
    """Numbers of the literature in per cent; None where the source has none. verified: read in the source itself."""

    method: str
    miou: float | None = None
    ap_50: float | None = None
    ap_vol: float | None = None
    pcp_50: float | None = None
    source: str = ""
    verified: bool = True


_RCNN, _QANET, _SAID = "Parsing R-CNN's repository", "QANet's repository", "secondary sources"
PUBLISHED_PARSING: dict[str, tuple[PublishedParsing, ...]] = {
    "cihp_val": (
        PublishedParsing("Parsing R-CNN R50, 1x", 52.8, 57.2, 51.2, 55.4, _RCNN),
        PublishedParsing("Parsing R-CNN R50, 3x", 56.0, 64.1, 54.1, 60.7, _RCNN),
        PublishedParsing("QANet R50", 62.9, 74.3, 60.1, 68.9, _QANET),
        PublishedParsing("QANet R101", 64.1, 77.9, 62.0, 72.4, _QANET),
        PublishedParsing("QANet HRNet-W48", 66.1, 81.3, 64.5, 75.7, _QANET),
        PublishedParsing("M2FP", 69.2, None, 60.5, None, _SAID, verified=False),
    ),
    "lip_val": (
        PublishedParsing("SCHP", 59.4, source=_SAID, verified=False),
        PublishedParsing("QANet", 59.6, source=_SAID, verified=False),
        PublishedParsing("QANet HRNet-W48", 60.5, source=_SAID, verified=False),
        PublishedParsing("M2FP", 59.9, source=_SAID, verified=False),
    ),
    "ppp_test": (
        PublishedParsing("SCHP", 71.5, source=_SAID, verified=False),
        PublishedParsing("M2FP", 72.5, source=_SAID, verified=False),
    ),
}
"""By key of the data set. SCHNet's own numbers could not be found."""


def published_parsing(dataset: str | None) -> Sequence[PublishedParsing]:
    """Return the published numbers of a data set, none for one without any."""
    return PUBLISHED_PARSING.get(dataset or "", ())
