"""Measures people and objects in videos: masks, identities, point tracks, speed, memory, and what each part is worth.

    python benchmarks/video.py --config nano.py --split video-val --count 2
    python benchmarks/video.py --config bmp_v2.py --dataset DAVIS --part root=/data/DAVIS --arms "^objects: SAM"

Prints a table a question, in which each row changes one thing about the first, and writes numbers and settings after
each row, so that a run that is interrupted goes on with --resume. True motion is known of drawn videos alone. Two rows
for people are compared video by video: in how many of them a row has fewer switches of identities than the first, and
in how many more.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import as_command, write
from scipy.optimize import linear_sum_assignment

import bmp
from bmp.build import build_part
from bmp.config import parse_overrides
from bmp.datasets.synthcrowd_video import SynthCrowdVideo, labelled
from bmp.datasets.videos import VideoDataset
from bmp.errors import UserError
from bmp.evaluation.ablations.true_motion import TrueMotion
from bmp.evaluation.metrics.tracks import TrackNumbers
from bmp.evaluation.timing import forget_peak, machine, peak_memory
from bmp.evaluation.video_benchmark import columns
from bmp.evaluation.video_finders import by_byte_track, by_frames_alone, by_loop, by_points
from bmp.evaluation.videos import (
    ClickNumbers,
    ObjectNumbers,
    PeopleFinder,
    PeopleNumbers,
    measure_clicks,
    measure_objects,
    measure_people,
    measure_points,
)
from bmp.registry import VIDEO_DATASETS
from bmp.sam_pt import SAMPT, Clicks
from bmp.segmenters.prompted import promptable
from bmp.segmenters.sam_pt import SAMPTPrompts
from bmp.segmenters.tracked import TrackedKeypoints
from bmp.stages import PointTracker
from bmp.structures import Detections, Image, Instances, TrackedPeople
from bmp.trackers.lucas_kanade import LucasKanade
from bmp.tracking.identities import Identities, overlap

_NEVER = 10**6
# Light networks, as the paper has it for its smallest ones.
_REFINEMENTS = 3


@dataclasses.dataclass(frozen=True)
class _PeopleByVideo:
    """How well people were found, and how many switches of identities each video has."""

    numbers: PeopleNumbers
    switches: list[int]


class _ByMasks(Identities):
    """Pairs people by the overlap of their masks alone; nobody who is lost comes back."""

    def match(
        self, tracked: TrackedPeople, found: Instances, looks: torch.Tensor, sigmas: torch.Tensor
    ) -> torch.Tensor:
        matched = torch.full((len(found),), -1, dtype=torch.int64)
        if len(found) and len(tracked):
            shared = overlap(tracked.instances, found).cpu() * tracked.present.cpu()[:, None]
            for row, column in zip(*linear_sum_assignment(shared.numpy(), maximize=True), strict=True):
                if shared[row, column] >= self.threshold:
                    matched[column] = int(row)
        return matched


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    dataset = _dataset(options)
    model = bmp.load(options.config, device=options.device, overrides=parse_overrides(options.set))
    truth = _true_motion(dataset) if isinstance(dataset, SynthCrowdVideo) else None
    if options.remember:
        remember(model)
    settings = {key: value for key, value in vars(options).items() if key not in ("output", "resume", "arms")}
    results = Results(options.output, json.loads(json.dumps(settings, default=str)), options.resume)
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
            _print_table(name, wanted, results, timed=not options.remember)


class Results:
    """The rows that are known, in a file that is written anew with each of them; ``path`` None keeps no file.

    Raises:
        UserError: the file is of other settings.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any], resume: bool) -> None:
        self._path, self._settings = path, settings
        self._rows: dict[str, dict[str, Any]] = {}
        if path is not None and resume and path.exists():
            known = json.loads(path.read_text())
            if known["settings"] != settings:
                raise UserError(f"{path}: is of other settings; choose another --output, or leave --resume out")
            self._rows = known["rows"]

    def row(self, table: str, arm: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a row, and make it where it is not known."""
        rows = self._rows.setdefault(table, {})
        if arm not in rows:
            rows[arm] = run()
            if self._path is not None:
                where = machine(self._settings["device"])
                write(self._path, {"settings": self._settings, "machine": where, "rows": self._rows}, say=False)
        row: dict[str, Any] = rows[arm]
        return row


def remember(model: bmp.BMP) -> None:
    """Let the networks that see whole frames, which no row changes, answer what they were asked before from memory."""
    part, _ = promptable(model.segmenter)
    detect, estimate, encode = model.detector.detect, model.pose.estimate, part.open
    found: dict[bytes, Any] = {}

    def known(asked: Callable[..., Any], image: Image, people: Detections | None = None) -> Any:
        digest = hashlib.blake2b(asked.__qualname__.encode())
        asked_of = [] if people is None else [people.boxes, people.scores, people.masks]
        for tensor in (image.pixels, *asked_of):
            digest.update(b"-" if tensor is None else tensor.cpu().numpy().tobytes())
        if digest.digest() not in found:
            found[digest.digest()] = asked([image])[0] if people is None else asked([image], [people])[0]
        return found[digest.digest()]

    def detect_once(images: Sequence[Image]) -> list[Any]:
        return [known(detect, image) for image in images]

    def estimate_once(images: Sequence[Image], people: Sequence[Detections]) -> list[Any]:
        return [known(estimate, image, few) for image, few in zip(images, people, strict=True)]

    def encode_once(images: Sequence[Image]) -> list[Any]:
        return [known(encode, image) for image in images]

    model.detector.detect = detect_once  # type: ignore[method-assign]
    model.pose.estimate = estimate_once  # type: ignore[method-assign]
    part.open = encode_once  # type: ignore[method-assign]


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
) -> dict[str, Callable[[], _PeopleByVideo]]:
    """Everybody is found by the program itself."""

    def measured(find: Callable[[], PeopleFinder]) -> Callable[[], _PeopleByVideo]:
        def run() -> _PeopleByVideo:
            each: list[TrackNumbers] = []
            return _PeopleByVideo(measure_people(dataset, find(), each.append), [one.switches for one in each])

        return run

    def loop(**changes: Any) -> Callable[[], _PeopleByVideo]:
        changed = copy.copy(model.video_loop)
        vars(changed).update(changes)
        return measured(lambda: by_loop(model, changed))

    rules = model.video_loop.identities
    return {
        "the loop of the preset": loop(),
        "true motion": loop(tracker=truth),
        **{f"keyframe every {every}": loop(keyframe_every=every) for every in (6, 12, 24)},
        "keyframe never": loop(keyframe_every=_NEVER),
        "nobody comes back by colours": loop(identities=dataclasses.replace(rules, same_look=1.1, memory=0)),
        "lost people are not waited for": loop(patience=0),
        "somebody found twice is two": loop(identities=dataclasses.replace(rules, same_pose=1.0, same_mask=1.0)),
        "pairs by masks alone": loop(identities=_ByMasks()),
        "a mask in each frame": loop(mask_every=1),
        "three joints as prompts": loop(prompts=TrackedKeypoints(count=3)),
        "SAM-PT's prompts, 3 refinements": loop(prompts=SAMPTPrompts(refinements=_REFINEMENTS)),
        "each frame a photo, ByteTrack on boxes": measured(lambda: by_byte_track(model, dataset.rate)),
        "each frame a photo, Hungarian on masks": measured(lambda: by_frames_alone(model)),
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


def _print_table(name: str, arms: dict[str, Callable[[], Any]], results: Results, *, timed: bool) -> None:
    """Print a row of each arm as soon as it is known."""
    first: list[int] | None = None
    for number, (arm, run) in enumerate(arms.items()):
        row = results.row(name, arm, functools.partial(_row, run, timed))
        cells, switches = dict(row["cells"]), row["switches"]
        if switches is not None:
            first = switches if first is None else first
            pairs = list(zip(switches, first, strict=True))
            cells["fewer, more"] = (
                f"{sum(own < other for own, other in pairs)}, {sum(own > other for own, other in pairs)}"
            )
        if not number:
            print(f"\n| {name} | {' | '.join(cells)} |\n| --- |{' ---: |' * len(cells)}")
        print(f"| {arm} | {' | '.join(cells.values())} |", flush=True)


def _row(run: Callable[[], Any], timed: bool) -> dict[str, Any]:
    """Return what stands in a row, all its numbers, and for people the switches of each video."""
    forget_peak()
    started = time.perf_counter()
    answer = run()
    by_video = isinstance(answer, _PeopleByVideo)
    numbers, switches = (answer.numbers, answer.switches) if by_video else (answer, None)
    cells = {head: cell for head, cell in columns(numbers).items() if timed or head != "frames/s"}
    if timed:
        cells |= {"s": f"{time.perf_counter() - started:.0f}", "MiB": f"{peak_memory() / 2**20:.0f}"}
    return {"cells": cells, "switches": switches, **dataclasses.asdict(numbers), "peak_bytes": peak_memory()}


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
    parser.add_argument(
        "--remember", action="store_true", help="keep what the networks answer from row to row; speeds are not shown"
    )
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--resume", action="store_true", help="go on with the rows of --output")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(as_command(main))
