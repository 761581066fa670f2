"""Measures a config on splits of SynthCrowd, or on folders of labelled photos, in one table.

    python benchmarks/accuracy.py --config nano.py
    python benchmarks/accuracy.py --config lite.py --photos ../shared/data/coco_real ../shared/data/coco_mini

A folder of photos has one file of annotations in COCO's format beside them. Reports go to output/accuracy/CONFIG/NAME;
a run that was stopped goes on where it was. The tables of each data set are those of ``bmp --dataset``; the last one
has all of them, with recall and precision from the config's ``min_score`` on, and also tells every second photo, which
nothing was fitted to, where there are as many as that matters for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from common import as_command, write
from rich.console import Console

from bmp.config import load_config, parse_overrides
from bmp.distributed import Processes
from bmp.errors import UserError
from bmp.evaluation.benchmark import evaluate
from bmp.evaluation.metrics.coco import CocoNumbers, evaluate_coco, to_results
from bmp.evaluation.metrics.matching import match, precision, recall
from bmp.evaluation.report import Outcome, TextTable
from bmp.evaluation.rounds import labelled_kinds
from bmp.evaluation.timing import peak_memory
from bmp.io.annotations import Annotation, CocoDataset
from bmp.io.coco_json import read_labels
from bmp.synthcrowd.splits import SPLITS

HALVED = 20  # photos from which the halves are told, too
HEADER = (
    "photos", "people", "box AP", "AP50", "mask AP", "AP50", "box recall", "precision", "pose AP", "seconds an image",
)  # fmt: skip


def main() -> None:
    options = _options()
    console = Console(width=200, highlight=False)
    datasets = {folder.name: _photos(folder) for folder in options.photos} or {
        split: {"type": "SynthCrowd", "split": split, "count": options.count} for split in options.splits
    }
    numbers: dict[str, Any] = {}
    table: list[tuple[str, ...]] = []
    for name, dataset in datasets.items():
        folder = options.folder / Path(options.config).stem / name
        outcome = measure(options, dataset, folder)
        for each in outcome.tables:
            console.print(each.rich())
        for sentence in outcome.sentences:
            console.print(sentence)
        numbers[name] = json.loads((folder / "metrics.json").read_text())
        if options.photos:
            table += _lines(name, dataset, folder, numbers[name], options)
    if table:
        console.print(TextTable(f"{options.config}, after the last round, in per cent", HEADER, tuple(table)).rich())
    peak = peak_memory() / 2**30
    console.print(f"at most {peak:.2f} GiB of memory")
    if options.output:
        write(options.output, {**numbers, "memory_gib": round(peak, 2)})


def measure(options: argparse.Namespace, dataset: Mapping[str, Any], folder: Path) -> Outcome:
    """Evaluate on one data set; only a folder of the same settings is gone on with, any other is an error."""
    config = load_config(options.config, parse_overrides(options.set))
    config.dataset = dict(dataset)
    outcome = evaluate(
        config,
        folder,
        Processes(),
        _silent,
        device=options.device,
        batch_size=4 if options.photos else 8,
        resume=not options.overwrite,
        overwrite=options.overwrite,
    )
    assert outcome is not None  # this is the first process, the only one
    return outcome


def _photos(folder: Path) -> dict[str, Any]:
    """Return the data set of a folder with one JSON file in it."""
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        raise UserError(f"{folder}: expected one file of annotations, *.json, found {len(files)}; name another folder")
    return {"type": "PeopleDataset", "annotations": str(files[0]), "images": str(folder)}


def _lines(
    name: str, dataset: Mapping[str, Any], folder: Path, numbers: Mapping[str, Any], options: argparse.Namespace
) -> list[tuple[str, ...]]:
    """Return the lines of the last table for one data set: all of it, and every second photo by number."""
    min_score = float(load_config(options.config, parse_overrides(options.set)).get("min_score", 0.0))
    labels = read_labels(dataset["annotations"]).dataset
    rows: list[Annotation] = json.loads((folder / "results.json").read_text())
    seconds = f"{numbers['run']['seconds_by_stage']['all'] / len(labels['images']):.2f}"
    ids = sorted((image["id"] for image in labels["images"]), key=lambda number: str(number).zfill(20))
    parts = {f"{name}, all {len(ids)}": ids}
    if len(ids) >= HALVED:
        parts |= {f"{name}, every second": ids[0::2], f"{name}, the others": ids[1::2]}
    return [(part, *_line(labels, rows, set(chosen), min_score), seconds) for part, chosen in parts.items()]


def _line(labels: CocoDataset, rows: Sequence[Annotation], chosen: set[int | str], min_score: float) -> list[str]:
    """Return the numbers of some photos."""
    ground_truth: CocoDataset = {
        **labels,
        "images": [image for image in labels["images"] if image["id"] in chosen],
        "annotations": [row for row in labels["annotations"] if row["image_id"] in chosen],
    }
    found = [row for row in rows if row["image_id"] in chosen]
    kinds = labelled_kinds(ground_truth)
    coco = {kind: evaluate_coco(ground_truth, to_results(found, kind), kind) for kind in kinds}
    matches = match(ground_truth, found)
    values = [numbers for kind in ("bbox", "segm") for numbers in _both(coco.get(kind))]
    pose = coco["keypoints"].ap if "keypoints" in coco else None
    values += [recall(matches, min_score), precision(matches, min_score), pose]
    return [str(len(matches.people)), *("" if value is None else f"{100 * value:.1f}" for value in values)]


def _both(numbers: CocoNumbers | None) -> tuple[float | None, float | None]:
    return (None, None) if numbers is None else (numbers.ap, numbers.ap50)


def _silent(total: int) -> AbstractContextManager[tuple[Callable[[str], None], Callable[[], None]]]:
    return nullcontext((lambda line: None, lambda: None))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--splits", nargs="+", default=["test", "test-hard", "test-clear"], choices=sorted(SPLITS))
    parser.add_argument("--photos", type=Path, nargs="+", default=[], metavar="DIR", help="in place of the splits")
    parser.add_argument("--count", type=int, metavar="N", help="only the first N scenes of each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("output/accuracy"), metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="start anew where there are results")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
