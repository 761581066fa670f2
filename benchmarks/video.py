"""Measures people and objects in videos: masks, identities, point tracks, speed, memory, and what each part is worth.

    python benchmarks/video.py --config nano.py --split video-val --count 2
    python benchmarks/video.py --config bmp_v2.py --dataset DAVIS --part root=/data/DAVIS --arms "^objects: SAM"

Prints a table a question, in which each row changes one thing about the first, and writes numbers and settings. True
motion is known of drawn videos alone.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import write

import bmp
from bmp.build import build_part
from bmp.config import parse_overrides
from bmp.datasets.synthcrowd_video import SynthCrowdVideo, labelled
from bmp.datasets.videos import VideoDataset
from bmp.errors import UserError
from bmp.evaluation.ablations.true_motion import TrueMotion
from bmp.evaluation.timing import forget_peak, machine, peak_memory
from bmp.evaluation.video_benchmark import columns
from bmp.evaluation.video_finders import by_byte_track, by_frames_alone, by_loop, by_points
from bmp.evaluation.videos import (
    ClickNumbers,
    ObjectNumbers,
    PeopleNumbers,
    measure_clicks,
    measure_objects,
    measure_people,
    measure_points,
)
from bmp.registry import VIDEO_DATASETS
from bmp.sam_pt import SAMPT, Clicks
from bmp.segmenters.sam_pt import SAMPTPrompts
from bmp.segmenters.tracked import TrackedKeypoints
from bmp.stages import PointTracker
from bmp.trackers.lucas_kanade import LucasKanade
from bmp.tracking.identities import Identities

_NEVER = 10**6
_NO_RETURN = Identities(same_look=1.1, memory=0)
# Light networks, as the paper has it for its smallest ones.
_REFINEMENTS = 3


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    dataset = _dataset(options)
    model = bmp.load(options.config, device=options.device, overrides=parse_overrides(options.set))
    truth = _true_motion(dataset) if isinstance(dataset, SynthCrowdVideo) else None
    results: dict[str, Any] = {}
    for name, arms in (
        ("people", _people_arms(model, truth, dataset)),
        ("objects", _object_arms(model, truth, dataset)),
        ("clicks", _click_arms(model, truth, dataset)),
        ("points", _point_arms(truth, dataset)),
    ):
        if truth is None:
            arms = {arm: run for arm, run in arms.items() if not arm.startswith("true motion")}
        wanted = {arm: run for arm, run in arms.items() if re.search(options.arms, f"{name}: {arm}")}
        if wanted:
            results[name] = _table(name, wanted)
    if options.output:
        write(options.output, {"settings": vars(options), "machine": machine(options.device), "results": results})


def _dataset(options: argparse.Namespace) -> VideoDataset:
    parts = parse_overrides(options.part)
    if options.dataset == SynthCrowdVideo.__name__:
        parts = {"split": options.split, "count": options.count, "seed": options.seed, **parts}
    dataset: VideoDataset = build_part({"type": options.dataset, **parts}, VIDEO_DATASETS, where="--dataset")
    if isinstance(dataset, SynthCrowdVideo):  # drawing takes as long as following does: once is enough for all rows
        every = functools.cache(lambda index: list(SynthCrowdVideo.frames(dataset, index)))
        dataset.frames = lambda index: iter(every(index))  # type: ignore[method-assign]
    return dataset


def _true_motion(dataset: SynthCrowdVideo) -> TrueMotion:
    return TrueMotion(
        (drawn, labelled(drawn).frame.image) for index in range(len(dataset)) for drawn in dataset.plan(index)
    )


def _people_arms(
    model: bmp.BMP, truth: PointTracker | None, dataset: VideoDataset
) -> dict[str, Callable[[], PeopleNumbers]]:
    """Everybody is found by the program itself."""

    def loop(**changes: Any) -> Callable[[], PeopleNumbers]:
        changed = copy.copy(model.video_loop)
        vars(changed).update(changes)
        return lambda: measure_people(dataset, by_loop(model, changed))

    return {
        "the loop of the preset": loop(),
        "true motion": loop(tracker=truth),
        "keyframe every 12": loop(keyframe_every=12),
        "keyframe every 24": loop(keyframe_every=24),
        "keyframe never": loop(keyframe_every=_NEVER),
        "nobody comes back by colours": loop(identities=_NO_RETURN),
        "a mask in each frame": loop(mask_every=1),
        "three joints as prompts": loop(prompts=TrackedKeypoints(count=3)),
        "SAM-PT's prompts, 3 refinements": loop(prompts=SAMPTPrompts(refinements=_REFINEMENTS)),
        "each frame a photo, ByteTrack on boxes": lambda: measure_people(dataset, by_byte_track(model, dataset.rate)),
        "each frame a photo, Hungarian on masks": lambda: measure_people(dataset, by_frames_alone(model)),
    }


def _object_arms(
    model: bmp.BMP, truth: PointTracker | None, dataset: VideoDataset
) -> dict[str, Callable[[], ObjectNumbers]]:
    """The masks of the first frame are given."""

    def follow(tracker: PointTracker | None, joints: bool = False, **changes: Any) -> Callable[[], ObjectNumbers]:
        settings = {"refinements": _REFINEMENTS, **changes}
        return lambda: measure_objects(
            dataset, by_points(SAMPT(tracker or kanade, model.segmenter, **settings), joints)
        )

    kanade = LucasKanade()
    return {
        "SAM-PT, 16 k-medoids, 3 refinements": follow(kanade),
        "true motion": follow(truth),
        "joints before k-medoids": follow(kanade, joints=True),
        "no refinement": follow(kanade, refinements=0),
        "12 refinements": follow(kanade, refinements=12),
        "no points of others": follow(kanade, others=False),
    }


def _click_arms(
    model: bmp.BMP, truth: PointTracker | None, dataset: VideoDataset
) -> dict[str, Callable[[], ClickNumbers]]:
    """Masks are corrected by simulated clicks."""

    def clicked(tracker: PointTracker | None, **changes: Any) -> Callable[[], ClickNumbers]:
        return lambda: measure_clicks(
            dataset,
            SAMPT(tracker or LucasKanade(), model.segmenter, refinements=_REFINEMENTS, min_score=0.0),
            Clicks(**changes),
        )

    return {
        "up to 4 clicks a frame, until IoU 0.95": clicked(None),
        "true motion": clicked(truth),
        "1 click a frame": clicked(None, per_frame=1),
        "until IoU 0.8": clicked(None, enough=0.8),
    }


def _point_arms(truth: PointTracker | None, dataset: VideoDataset) -> dict[str, Callable[[], Any]]:
    return (
        {}
        if truth is None
        else {
            "Lucas-Kanade": lambda: measure_points(dataset, LucasKanade()),
            "true motion": lambda: measure_points(dataset, truth),
        }
    )


def _table(name: str, arms: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Run the arms, print a row of each as soon as it is known, and return all numbers."""
    found: dict[str, Any] = {}
    for arm, run in arms.items():
        forget_peak()
        started = time.perf_counter()
        numbers = run()
        row = {**columns(numbers), "s": f"{time.perf_counter() - started:.0f}", "MiB": f"{peak_memory() / 2**20:.0f}"}
        if not found:
            print(f"\n| {name} | {' | '.join(row)} |\n| --- |{' ---: |' * len(row)}")
        print(f"| {arm} | {' | '.join(row.values())} |", flush=True)
        found[arm] = dataclasses.asdict(numbers) | {"peak_bytes": peak_memory()}
    return found


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--dataset", default=SynthCrowdVideo.__name__, help="a class of bmp.registry.VIDEO_DATASETS")
    parser.add_argument("--part", action="append", default=[], metavar="KEY=VALUE", help="what the class takes")
    parser.add_argument("--split", default="video-val", help="of SynthCrowd in motion")
    parser.add_argument("--count", type=int, default=2, help="drawn videos, the first ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--arms",
        default="",
        help="a regular expression for 'people: ...', 'objects: ...', 'clicks: ...', 'points: ...'",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of the config"
    )
    parser.add_argument("--output", type=Path, help="JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"video: {error}", file=sys.stderr)
        sys.exit(2)
