"""Compares the loop of one image encoder for all stages with loops of separate networks, on drawn crowds.

    python benchmarks/one_encoder.py --scenes 100 --curve docs/images/one_encoder.png

By round: precision and recall of boxes at IoU 0.5, recall at the precision of the first loop after the same round, and
average precision. Known people are taken out of the one encoder's features in three ways, see ``bmp.detectors.sam``.
Then the time of a scene with five people, by stage, and of given people from 1 to 100. Seconds are those that the
processor worked for this process, on one thread, so that other work on the machine does not count. People are kept in
output/one_encoder by what found them, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch
from claims_arms import fingerprint
from common import Timing, as_command, write

import bmp
from bmp.api import BMP
from bmp.config import load_config
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.evaluation.metrics.coco import Kind, evaluate_coco, to_results
from bmp.evaluation.metrics.matching import Matches, match, precision, recall, recall_at_equal_precision
from bmp.evaluation.timing import machine
from bmp.io.annotations import Annotation, to_annotations
from bmp.structures import Detections, Image

SEPARATE = "nano.py"
LOOPS: Mapping[str, tuple[str, dict[str, Any]]] = {
    SEPARATE: (SEPARATE, {}),
    "nano_samp.py": ("nano_samp.py", {}),
    **{
        f"nano_one.py, {known}": ("nano_one.py", {"pipeline.detector.known": known})
        for known in ("fill", "suppress", "repaint")
    },
}
ROUNDS = 2
KINDS: tuple[Kind, ...] = ("bbox", "segm", "keypoints")
PEOPLE = (1, 5, 20, 100)
_BATCH = 8


def main() -> None:
    options = _options()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    models = {name: bmp.load(LOOPS[name][0], device="cpu", overrides=_overrides(name, options)) for name in LOOPS}
    settings = {name: getattr(options, name) for name in ("splits", "scenes", "repeats", "weights", "threshold")}
    results: dict[str, Any] = {"settings": settings, "machine": machine("cpu"), "accuracy": {}}
    results["seconds"] = _times(models, SynthCrowd("test-hard", 60), options.repeats)
    for name, stages in results["seconds"].items():
        share = stages["all"].median / results["seconds"][SEPARATE]["all"].median
        listed = ", ".join(f"{stage} {timing.median:.3f}" for stage, timing in stages.items())
        print(f"{name:24} {100 * share:4.0f} % of {SEPARATE}'s time; {listed}", flush=True)
    for split in options.splits:
        dataset = SynthCrowd(split, options.scenes)
        found = {name: _people(name, model, dataset, options) for name, model in models.items()}
        results["accuracy"][split] = _compare(dataset, found)
        _show(split, results["accuracy"][split])
    if options.curve:
        results["curve"] = _curve(models, SynthCrowd("test-hard", 1).load(0))
        _draw(results["curve"], options.curve)
    if options.output:
        write(options.output, results)


def _overrides(name: str, options: argparse.Namespace) -> dict[str, Any]:
    overrides = LOOPS[name][1]
    if options.weights and "nano_one" in name:
        overrides = overrides | {"pipeline.detector.checkpoint": str(options.weights)}
    if "nano_one" in name and options.threshold is not None:
        overrides = overrides | {"pipeline.detector.score_threshold": options.threshold}
    return overrides


def _people(name: str, model: BMP, dataset: SynthCrowd, options: argparse.Namespace) -> list[list[Annotation]]:
    """Return the rows of everybody known after each round, from a file where it was done before."""
    count = len(dataset.ground_truth["images"])
    pipeline = load_config(LOOPS[name][0], _overrides(name, options)).pipeline.to_dict()
    digest = fingerprint([pipeline, dataset.ground_truth["info"], count])[:16]
    file = options.folder / f"{name.replace(', ', '_')}-{digest}.json"
    if file.exists():
        return json.loads(file.read_text())  # type: ignore[no-any-return]
    rounds: list[list[Annotation]] = [[] for _ in range(ROUNDS)]
    for start in range(0, count, _BATCH):
        places = range(start, min(start + _BATCH, count))
        for result in model.run([dataset.load(place) for place in places], trace=True):
            image_id = dataset.ground_truth["images"][places[result.index]]["id"]
            for number in range(ROUNDS):
                people = result.trace[min(number, len(result.trace) - 1)].people
                rounds[number] += to_annotations(people, image_id, model.pose.keypoints, exact=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rounds))
    return rounds


def _compare(dataset: SynthCrowd, found: Mapping[str, Sequence[list[Annotation]]]) -> dict[str, list[dict[str, Any]]]:
    truth = dataset.ground_truth
    first: list[Matches] = [match(truth, rows, "bbox") for rows in found[SEPARATE]]
    table: dict[str, list[dict[str, Any]]] = {}
    for name, rounds in found.items():
        table[name] = []
        for rows, separate in zip(rounds, first, strict=True):
            own = match(truth, rows, "bbox")
            equal = recall_at_equal_precision(separate, own)
            aps: dict[str, float | None] = {
                kind: evaluate_coco(truth, to_results(rows, kind), kind).ap for kind in KINDS
            }
            table[name].append(
                {"precision": precision(own), "recall": recall(own), "recall_at_its_precision": equal.second, **aps}
            )
    return table


def _show(split: str, table: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    print(f"{split}: by round, in per cent")
    names = ["precision", "recall", "recall_at_its_precision", *KINDS]
    print(f"{'':26} " + " ".join(f"{name[:10]:>10}" for name in names))
    for name, rounds in table.items():
        for number, row in enumerate(rounds, 1):
            values = " ".join(f"{'-' if row[key] is None else format(100 * row[key], '.1f'):>10}" for key in names)
            print(f"{name:24} {number} {values}", flush=True)


def _times(models: Mapping[str, BMP], dataset: SynthCrowd, repeats: int) -> dict[str, dict[str, Timing]]:
    """Return the seconds of a scene with five people by stage, and "all" of them."""
    people = Counter(row["image_id"] for row in dataset.ground_truth["annotations"])
    places = [place for place, image in enumerate(dataset.ground_truth["images"]) if people[image["id"]] == 5]
    scenes = [dataset.load(place) for place in places[:repeats]]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for model in models.values():
        list(model.run(scenes[:1]))
    for scene in scenes:
        for name, model in models.items():
            # Another object: encoders know images that they have seen.
            runs[name].append(_seconds(model, Image(scene.pixels)))
    stages = {name: dict.fromkeys(stage for run in rows for stage in run) for name, rows in runs.items()}
    return {
        name: {stage: Timing.of([run.get(stage, 0.0) for run in rows]) for stage in stages[name]}
        for name, rows in runs.items()
    }


def _seconds(model: BMP, image: Image, people: Detections | None = None) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def clock(stage: str, images: int) -> Iterator[None]:
        start = time.process_time()
        yield
        seconds[stage] += time.process_time() - start

    before, model.clock = model.clock, clock
    with clock("all", 1):
        list(model.run([image], None if people is None else [people], only_given=people is not None))
    model.clock = before
    return seconds


def _curve(models: Mapping[str, BMP], scene: Image) -> dict[str, dict[int, dict[str, float]]]:
    """Return the seconds of an image in which so many people are given, by stage: the medians of three runs."""
    curve: dict[str, dict[int, dict[str, float]]] = {}
    for name in (SEPARATE, "nano_samp.py"):
        curve[name] = {}
        for count in PEOPLE:
            people = _crowd(count, scene)
            runs = [_seconds(models[name], Image(scene.pixels), people) for _ in range(3)]
            medians = {stage: Timing.of([run[stage] for run in runs]).median for stage in runs[0]}
            curve[name][count] = medians
            print(f"{name:24} {count:3} people: " + ", ".join(f"{key} {value:.3f}" for key, value in medians.items()))
    return curve


def _crowd(count: int, scene: Image) -> Detections:
    """Return people of a third of the image's height, with oval masks, scattered with a fixed seed."""
    corners = torch.rand(count, 2, generator=torch.Generator().manual_seed(count)) * 0.6 * scene.height
    sizes = torch.tensor([scene.height / 6, scene.height / 3])
    boxes = torch.cat((corners, corners + sizes), dim=1)
    y, x = torch.meshgrid(torch.arange(scene.height), torch.arange(scene.width), indexing="ij")
    middles = (corners + sizes / 2)[:, :, None, None]
    apart = ((x - middles[:, 0]) / (sizes[0] / 2)) ** 2 + ((y - middles[:, 1]) / (sizes[1] / 2)) ** 2
    return Detections(boxes, torch.ones(count), apart < 1)


def _draw(curve: Mapping[str, Mapping[int, Mapping[str, float]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for name, seconds in curve.items():
        for stage, words, style in (("all", "all", "-"), ("pose", "poses", "--")):
            values = [own[stage] for own in seconds.values()]
            colour = axes.lines[-1].get_color() if stage == "pose" else None
            axes.plot(list(seconds), values, style, marker="o", label=f"{name}, {words}", color=colour)
    axes.set(xscale="log", yscale="log", xlabel="people", ylabel="seconds an image, one thread")
    axes.set_xticks(PEOPLE, [str(count) for count in PEOPLE])
    marks = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"drawn to {path}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="*", default=["test", "test-hard"])
    parser.add_argument("--scenes", type=int, default=100, help="of each split, the first ones")
    parser.add_argument("--repeats", type=int, default=10, help="scenes with five people that are timed")
    parser.add_argument("--weights", type=Path, help="of the detector, instead of those in the package")
    parser.add_argument("--threshold", type=float, help="of the detector's scores, instead of the preset's")
    parser.add_argument("--folder", type=Path, default=Path("output/one_encoder"), help="for the people found")
    parser.add_argument("--curve", type=Path, metavar="PNG", help="draw the time over the number of people")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
