"""Measures body parts on SynthCrowd, arm by arm: whose masks, which way of asking, and what of the parser is left out.

    python benchmarks/parts.py --config nano_parts.py --split test --limit 100 --output output/parts.json

Every arm has the same images. With true masks people are as labelled, with a score of 1; with the loop's they are as
found. Skeletons alone are beside.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmp.build import build
from bmp.config import load_config, parse_overrides
from bmp.console import Parser, run_command, whole
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.errors import UserError
from bmp.evaluation.parsing import ParsingComparison, compare_parts
from bmp.evaluation.timing import machine
from bmp.io.annotations import Annotation, to_annotations, to_instances
from bmp.label_sets import COCO_KEYPOINTS
from bmp.parsers.schnet import SAMCLIPParser
from bmp.parsers.skeleton import SkeletonParts
from bmp.stages import PartParser
from bmp.structures import Image, Instances


@dataclass(frozen=True)
class Arm:
    """A line of the table: whose masks are parsed, and by what."""

    name: str
    true_masks: bool
    make: Callable[[], PartParser]


def arms(model: Any, parser: SAMCLIPParser) -> list[Arm]:
    """Return the arms; parsers share the network of the config's, and differ in how it is asked."""

    def changed(**attributes: object) -> Callable[[], PartParser]:
        def make() -> PartParser:
            other = object.__new__(SAMCLIPParser)
            vars(other).update(vars(parser), **attributes)
            return other

        return make

    return [
        Arm("by image, the loop's masks", False, changed(_way="image")),
        Arm("by person, the loop's masks", False, changed(_way="person")),
        Arm("by image, true masks", True, changed(_way="image")),
        Arm("by person, true masks", True, changed(_way="person")),
        Arm("by image, true masks, mirrored too", True, changed(_way="image", _flip=True)),
        Arm("by person, true masks, nothing filled", True, changed(_way="person", _fill=False)),
        Arm("by person, true masks, specks left", True, changed(_way="person", _smallest=1)),
        Arm("skeletons alone, the loop's masks", False, lambda: SkeletonParts(model.pose.keypoints)),
        Arm("skeletons alone, true masks and poses", True, SkeletonParts),
    ]


def measure(arm: Arm, dataset: SynthCrowd, found: Sequence[tuple[Image, Instances]]) -> tuple[ParsingComparison, float]:
    """Return the numbers of an arm and its seconds a person."""
    parser, seconds, people = arm.make(), 0.0, 0
    rows: list[Annotation] = []
    for index, (image, instances) in enumerate(found):
        entry = dataset.ground_truth["images"][index]
        if arm.true_masks:
            instances = to_instances(dataset.people().get(entry["id"], []), image)
        started = time.process_time()
        (parts,) = parser.parse([image], [instances])
        seconds += time.process_time() - started
        people += len(instances)
        rows += to_annotations(instances, entry["id"], COCO_KEYPOINTS, exact=True, parts=parts)
    return compare_parts(dataset, len(found), rows, parser.label_set), seconds / max(people, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    parser = Parser("python benchmarks/parts.py", description="Measure body parts on SynthCrowd, arm by arm.")
    parser.add_argument("-c", "--config", default="nano_parts.py", help="a config with pipeline.parts (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument("--split", default="test", help="of SynthCrowd (default: %(default)s)")
    parser.add_argument("--limit", type=whole(1), default=100, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON to write")
    return run_command(parser, _run, arguments, interrupted="nothing was written")


def _run(options: argparse.Namespace) -> int:
    model = build(load_config(options.config, parse_overrides(options.set)), "cpu")
    dataset = SynthCrowd(options.split, count=options.limit)
    images = [dataset.load(index) for index in range(len(dataset))]
    parser = model.parts
    if not isinstance(parser, SAMCLIPParser):
        raise UserError(f"{options.config}: expected pipeline.parts of the type SAMCLIPParser; take nano_parts.py")
    model.parts = None
    found = [(image, model(image).instances) for image in images]
    table = []
    for arm in arms(model, parser):
        comparison, seconds = measure(arm, dataset, found)
        numbers = comparison.numbers()
        people = numbers["people"] or {}
        table.append({"arm": arm.name, "seconds_a_person": seconds, **numbers})
        print(
            f"{arm.name:42} mIoU {100 * numbers['maps']['miou']:5.1f}  AP^p {100 * people['ap_vol']:5.1f}  at 0.5 "
            f"{100 * people['ap_50']:5.1f}  PCP at 0.5 {100 * people['pcp_50']:5.1f}  {1000 * seconds:6.1f} ms"
            f"{'  (4 coarse parts)' if comparison.coarse else ''}",
            flush=True,
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {"config": options.config, "set": options.set, "split": options.split, "images": len(images)}
    options.output.write_text(json.dumps({**settings, "machine": machine("cpu"), "arms": table}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
