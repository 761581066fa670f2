"""Tests the papers' claims on drawn crowds, whose ground truth is exact, and writes docs/claims.md.

    python benchmarks/claims.py                        # all of it, or what is left of it
    python benchmarks/claims.py --plan                 # what that would be, in hours
    python benchmarks/claims.py --only visibility crops --count 100

What needs no training comes first, then one seed of all recipes after the other. After each piece the page is written
anew. Everything is kept in --output and computed once; when interrupted, call it again. Exit codes: 0 done, 1 some of
it failed or lacks data, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from claims_arms import Arm, ComputedArm, MasksArm, PosesArm, Results, Scenes, TruePosesArm, shared_pass
from claims_list import Claim, Nano, claims
from claims_page import Comparer, write_page, write_pictures, write_summary
from claims_training import Training, Trainings, in_order

from bmp.build import resolve_device
from bmp.console import Parser, complain, report_failed, run_command, whole
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.errors import UserError, choices
from bmp.io.atomic import alone_in

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("test-clear", "test-hard")
KEYS = (
    "loop_masks", "second_round", "masks_for_poses", "fine_tuned", "three_points", "visibility", "negative_points",
    "boxes", "crops", "pose_errors", "fair_base", "recipes", "fair_points",
)  # fmt: skip
_SECONDS = {"loop": 1.2, "poses": 0.5, "masks": 0.15, "crop": 0.9}
"""Of one core a scene, for plans on machines that have computed nothing yet: estimates."""
_ARMS_OF_A_RECIPE = 3  # about so many ways to prompt it are compared


@dataclass(frozen=True)
class Pass:
    """Arms that are computed together, with what is missing of them on a split."""

    arms: tuple[ComputedArm, ...]
    scenes: Scenes
    missing: dict[range, list[ComputedArm]]

    @property
    def scenes_left(self) -> int:
        return sum(len(chunk) for chunk in self.missing)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return run_command(_parser(), _run, arguments, interrupted="what was finished is kept; call it again to go on")


def _run(options: argparse.Namespace) -> int:
    for key in options.only:
        if key not in KEYS:
            raise UserError(f"there is no claim {key!r}; {choices(key, KEYS)}")
    options.output.mkdir(parents=True, exist_ok=True)
    nano = Nano.packaged()
    trainings = Trainings(options.output, options.data, options.steps)
    results = Results(options.output / "results", resolve_device(options.device))
    scenes = [Scenes(split, options.count, lambda name, count: SynthCrowd(name, count=count)) for split in SPLITS]
    comparer = Comparer(results, scenes)

    def chosen() -> list[Claim]:
        return [claim for claim in claims(nano, trainings, options.seeds) if claim.key in (options.only or KEYS)]

    wanted = {training for claim in chosen() for training in claim.untrained}
    waiting = [each for each in in_order(options.seeds) if each in wanted]
    if options.plan:
        _print_plan(chosen(), results, scenes, trainings, waiting)
        return 0
    failed: list[str] = []
    with alone_in(options.output):
        while True:
            for each in passes([arm for claim in chosen() for arm in claim.arms], results, scenes):
                for chunk, arms in each.missing.items():
                    seconds = results.compute(arms, each.scenes, chunk)
                    print(f"{each.scenes.split} {chunk.start}-{chunk.stop - 1}: {len(arms)} x {arms[0].words}, "
                          f"{seconds:.0f} s", flush=True)  # fmt: skip
            if options.write:
                # Of all claims, whichever were asked for: what is known of the others is on the disk.
                outcomes = [comparer.outcome(claim) for claim in claims(nano, trainings, options.seeds)]
                write_pictures(outcomes, comparer, ROOT / "docs" / "images" / "claims")
                write_summary(outcomes, options.count, ROOT / "benchmarks" / "results" / "claims_nano.json")
                write_page(outcomes, options.count, ROOT / "docs" / "claims.md")
            training = next((each for each in waiting if not trainings.ready(each)), None)
            if training is None:
                break
            if missing := trainings.missing_data():
                failed.append(f"{len(waiting)} trainings: {missing}")
                break
            print(f"training {training.name}, about {trainings.hours_left(training):.1f} h", flush=True)
            trainings.run(training)
    for claim in chosen():
        print(comparer.outcome(claim).line)
    return report_failed("claims", failed)


def passes(arms: Sequence[Arm], results: Results, scenes: Sequence[Scenes]) -> Iterator[Pass]:
    """Yield what is left to do, in the order of the arms; arms that share a pass are together."""
    groups: dict[object, dict[ComputedArm, None]] = {}
    for arm in arms:
        own = arm.people if isinstance(arm, TruePosesArm) else arm
        groups.setdefault(shared_pass(own), {})[own] = None
    for group in groups.values():
        for split in scenes:
            missing = results.missing(list(group), split)
            if missing:
                yield Pass(tuple(group), split, missing)


def _print_plan(
    known: Sequence[Claim],
    results: Results,
    scenes: Sequence[Scenes],
    trainings: Trainings,
    waiting: Sequence[Training],
) -> None:
    total = 0.0
    for each in passes([arm for claim in known for arm in claim.arms], results, scenes):
        hours = each.scenes_left * _seconds_a_scene(each, results) / 3600
        total += hours
        print(f"{hours:6.2f} h  {each.scenes.split}, {each.scenes_left} of {each.scenes.count} scenes: "
              f"{len(each.arms)} x {each.arms[0].words}")  # fmt: skip
    missing = trainings.missing_data()
    if missing and waiting:
        complain("claims", f"{len(waiting)} trainings: {missing}")
    for training in waiting if missing is None else ():
        hours = trainings.hours_left(training)
        total += hours
        done, steps = trainings.done(training), trainings.total(training)
        state = "done" if trainings.ready(training) else f"{done} of {steps} steps are done"
        print(f"{hours:6.2f} h  training {training.name}: {state}")
    if waiting:
        hours = len(waiting) * _ARMS_OF_A_RECIPE * _SECONDS["masks"] * sum(each.count for each in scenes) / 3600
        total += hours
        print(f"{hours:6.2f} h  measuring what is trained then")
    print(f"{total:6.2f} h  in all")


def _seconds_a_scene(each: Pass, results: Results) -> float:
    """Return what these arms took here, else what their like took elsewhere."""
    done = each.scenes.count - each.scenes_left
    if done:
        return sum(results.seconds(arm, each.scenes) for arm in each.arms) / done
    first = each.arms[0]
    if isinstance(first, MasksArm):
        return _SECONDS["crop"] if first.crop is not None else _SECONDS["masks"] * len(each.arms)
    return _SECONDS["poses" if isinstance(first, PosesArm) else "loop"]


def _parser() -> Parser:
    parser = Parser("python benchmarks/claims.py", description="Test the papers' claims on drawn crowds.")
    parser.add_argument("--only", nargs="+", default=[], metavar="CLAIM", help=f"of {', '.join(KEYS)}")
    parser.add_argument("--count", type=whole(1), default=500, metavar="N", help="scenes of each split (%(default)s)")
    parser.add_argument("--seeds", type=whole(0), nargs="+", default=[0, 1, 2], metavar="S", help="of the trainings")
    parser.add_argument("--plan", action="store_true", help="print what is left to do, in hours, and do nothing")
    parser.add_argument("--output", type=Path, default=Path("output/claims"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--data", type=Path, default=Path("output/claims/synthcrowd"), metavar="DIR",
                        help="SynthCrowd's training scenes with keypoints (%(default)s)")  # fmt: skip
    parser.add_argument("--steps", type=whole(1), metavar="N", help="train shorter, to see whether all is in place")
    parser.add_argument("--no-page", dest="write", action="store_false", help="leave docs/claims.md as it is")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:N or mps (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
