"""Draws precision against recall of several evaluations, and sorts what the last of them gets wrong into kinds.

    python benchmarks/failures.py --dataset people.json --results before=output/old now=output/new --min-score 0.37 \\
        --output curves.png

Each result is the folder of an evaluation (``bmp --dataset``). Everything is counted as average precision is: results
choose in the order of their scores, each the free person it overlaps most, from IoU 0.5 on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from common import as_command
from numpy.typing import NDArray

from bmp.evaluation.metrics.coco import Kind
from bmp.evaluation.metrics.matching import Matches, match
from bmp.io.annotations import Annotation, CocoDataset
from bmp.io.coco_json import read_labels
from bmp.ops.boxes import iou, xywh_to_xyxy

Array = NDArray[np.float32]
TINY = 24.0  # edge in pixels, as the square root of the box's area, below which a person is tiny
SMALL = 48.0
CUT = 0.01  # of the image's edge: a person whose box ends as near to it as this is cut off
CROWDED = 0.3  # IoU of two people's boxes from which they are entangled
LITTLE = 0.1  # IoU with any person up to which a false positive is background
PART = 0.7  # share of a false positive within a person's box from which it is a part of that person
HELD = 0.5  # share of a person's box within a false positive from which it holds that person


def main() -> None:
    options = _options()
    labels = read_labels(options.dataset).dataset
    found = {name: json.loads((folder / "results.json").read_text()) for name, folder in options.results}
    if options.output:
        draw(labels, found, options.min_score, options.output)
    name, rows = list(found.items())[-1]
    print(f"{name}, from a score of {options.min_score} on")
    for title, counts in (
        ("people who are missed", missed(labels, rows, options.min_score)),
        ("false positives", false_positives(labels, rows, options.min_score)),
        ("masks below IoU 0.5 in boxes that are right", poor_masks(labels, rows, options.min_score)),
    ):
        total = sum(counts.values())
        print(f"{title}: {total}")
        for kind, count in counts.most_common():
            print(f"  {count:4}  {100 * count / total:3.0f} %  {kind}")


def draw(labels: CocoDataset, found: dict[str, list[Annotation]], min_score: float, path: Path) -> None:
    """Draw the curves of boxes and masks; a dot stands at ``min_score`` on the last result's."""
    mpl.use("agg")
    from matplotlib import pyplot

    kinds: tuple[Kind, Kind] = ("bbox", "segm")
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
    for axis, kind, title in zip(axes, kinds, ("boxes", "masks"), strict=True):
        for name, rows in found.items():
            matches = match(labels, rows, kind)  # type: ignore[arg-type]
            recall, precision = curve(matches)
            (line,) = axis.plot(recall, precision, label=name, linewidth=1.6)
        if kind == "bbox" and (count := int((matches.scores[~matches.ignored] >= min_score).sum())):
            axis.plot(recall[count - 1], precision[count - 1], "o", color=line.get_color())
            axis.annotate(f"min_score {min_score:g}", (recall[count - 1], precision[count - 1]), (6, 6),
                          textcoords="offset points", fontsize=8)  # fmt: skip
        axis.set(title=f"{title}, IoU 0.5", xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("precision")
    axes[0].legend(loc="lower left")
    figure.savefig(path, dpi=100)


def curve(matches: Matches) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recall and precision, (D,) each, of the surest result, the two surest, and so on."""
    hits = matches.person[~matches.ignored] >= 0
    right = np.cumsum(hits)
    return right / max(len(matches.people), 1), right / np.arange(1, len(hits) + 1)


def missed(labels: CocoDataset, rows: Sequence[Annotation], min_score: float) -> Counter[str]:
    """Sort the people of whom no box of at least ``min_score`` is, by the first reason that holds."""
    matches = match(labels, rows)
    gone = set(matches.people.tolist()) - set(matches.found(min_score).tolist())
    unsure = set(matches.found().tolist())
    return Counter(
        ("found with a lower score; " if index in unsure else "not found; ") + person_kind(labels, index)
        for index in gone
    )


def false_positives(labels: CocoDataset, rows: Sequence[Annotation], min_score: float) -> Counter[str]:
    """Sort the boxes of at least ``min_score`` that are nobody's, those in labelled crowds left out."""
    matches = match(labels, rows)
    wrong = (matches.person < 0) & ~matches.ignored & (matches.scores >= min_score)
    kinds: Counter[str] = Counter()
    for row in matches.rows[wrong]:
        box = _boxes([rows[row]])
        people = _boxes([each for each in labels["annotations"]
                         if each["image_id"] == rows[row]["image_id"] and not each["iscrowd"]])  # fmt: skip
        overlap = iou(torch.from_numpy(box), torch.from_numpy(people)).numpy()[0]
        within, held = _shared(box, people), _shared(people, box)
        if not (overlap > LITTLE).any() and not (within > PART).any():
            kinds["background"] += 1
        elif (overlap >= 0.5).any():
            kinds["somebody who was found already"] += 1
        elif (held > HELD).sum() >= 2:
            kinds["several people"] += 1
        elif (within > PART).any():
            kinds["a part of a person"] += 1
        else:
            kinds["a person, but the box does not fit"] += 1
    return kinds


def poor_masks(labels: CocoDataset, rows: Sequence[Annotation], min_score: float) -> Counter[str]:
    """Sort the people whose box is right and whose mask has an IoU below one half."""
    boxes = match(labels, rows)
    right = set(boxes.found(min_score).tolist())
    masks = set(match(labels, rows, "segm").found().tolist())
    return Counter(person_kind(labels, index) for index in right - masks)


def person_kind(labels: CocoDataset, index: int) -> str:
    """Return what makes a labelled person hard, the first reason that holds."""
    person = labels["annotations"][index]
    image = next(each for each in labels["images"] if each["id"] == person["image_id"])
    box = _boxes([person])
    others = _boxes(
        [
            each
            for number, each in enumerate(labels["annotations"])
            if each["image_id"] == person["image_id"] and number != index and not each["iscrowd"]
        ]
    )
    edge = float(np.sqrt(np.prod(box[0, 2:] - box[0, :2])))
    limit = np.array([image["width"], image["height"]])
    if edge < TINY:
        return f"tiny, below {TINY:g} pixels"
    if edge < SMALL:
        return f"small, below {SMALL:g} pixels"
    if (iou(torch.from_numpy(box), torch.from_numpy(others)) > CROWDED).any():
        return "entangled with somebody"
    if (box[0, :2] < CUT * limit).any() or (box[0, 2:] > (1 - CUT) * limit).any():
        return "cut off by the image"
    return "none of these"


def _shared(boxes: Array, others: Array) -> Array:
    """Return which share of each of ``boxes`` lies within each of ``others``, one against many; (N,)."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    return np.asarray(np.clip(high - low, 0, None).prod(axis=1) / areas, dtype=np.float32)


def _boxes(rows: Sequence[Annotation]) -> Array:
    return xywh_to_xyxy(torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)).numpy()


def _result(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=DIR")
    return name, Path(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, metavar="JSON")
    parser.add_argument("--results", type=_result, nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--min-score", type=float, default=0.0, metavar="S")
    parser.add_argument("--output", type=Path, metavar="PNG")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
