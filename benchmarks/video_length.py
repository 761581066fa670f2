"""Measures speed and peak memory of following people or objects through videos of any length, which must not matter.

    python benchmarks/video_length.py --config nano.py --lengths 60 600 6000
    python benchmarks/video_length.py --config nano.py --objects --set sam_pt.refinements=0

Each length is a process of its own. The video goes through one of SynthCrowd's forwards and backwards, again and again.
How much a look takes depends on the frame, and which frames are looked at on the length: so all of them are looked at
once before. Speed is said apart for frames in which people are looked for and for those between, in which they are
followed; as frames a second, and as seconds of the processor for a frame, which a busy machine does not change. A
second table says what each stage takes of that, and what reading the frame from a film takes besides.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import as_command, write

import bmp
from bmp.build import build_sam_pt
from bmp.config import load_config, parse_overrides
from bmp.evaluation.timing import machine, peak_memory
from bmp.io.video import VideoReader, video_writer
from bmp.sam_pt import Query
from bmp.segmenters.prompted import promptable
from bmp.structures import Frame, Image
from bmp.synthcrowd.videos import plan_video

_RATE = 25.0
_WARM = 5  # frames that are not timed
_LONGEST = 48  # frames of a video of SynthCrowd
_STAGE = "stage: "


def main() -> None:
    options = _options()
    follow = _follow_objects if options.objects else _follow
    run = partial(follow, options.config, options.set, options.threads, options.seed)
    results: dict[str, dict[str, Any]] = {}
    for length in options.lengths:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(run, (length,))
        row = {
            "frames": str(length),
            **{name: f"{value:.2f}" for name, value in found.items() if name != "peak" and _STAGE not in name},
            "peak MiB": f"{found['peak'] / 2**20:.0f}",
        }
        if not results:
            print(f"| {' | '.join(row)} |\n|{' ---: |' * len(row)}")
        print(f"| {' | '.join(row.values())} |", flush=True)
        results[str(length)] = found
    stages = {name.removeprefix(_STAGE): value for name, value in found.items() if _STAGE in name}
    if stages:
        print("\n| stage | calls a frame | CPU ms a call |\n| --- | ---: | ---: |")
        for name in dict.fromkeys(name.partition(", ")[0] for name in stages):
            print(f"| {name} | {stages[f'{name}, calls']:.2f} | {1000 * stages[f'{name}, s']:.1f} |")
    peaks = [found["peak"] for found in results.values()]
    print(f"\nlargest difference of the peaks: {(max(peaks) - min(peaks)) / 2**20:.1f} MiB")
    if options.output:
        write(options.output, {"settings": vars(options), "machine": machine("cpu"), "results": results})


class _Clock:
    """Seconds of the wall and of the processor for frames of two kinds: those between looks, and looks."""

    def __init__(self) -> None:
        self._wall: dict[str, list[float]] = {"between": [], "looking": []}
        self._processor: dict[str, list[float]] = {"between": [], "looking": []}

    def begin(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def end(self, kind: str) -> None:
        self._wall[kind].append(time.perf_counter() - self._started[0])
        self._processor[kind].append(time.process_time() - self._started[1])

    def numbers(self) -> dict[str, float]:
        kinds = [kind for kind, seconds in self._wall.items() if seconds]
        rates = {f"frames/s {kind}": 1 / statistics.fmean(self._wall[kind]) for kind in kinds}
        return {**rates, **{f"CPU s {kind}": statistics.fmean(self._processor[kind]) for kind in kinds}}


class _Stages:
    """Seconds of the processor that parts of a model take, call by call."""

    def __init__(self, model: bmp.BMP) -> None:
        segmenter, _ = promptable(model.segmenter)
        self._seconds: dict[str, list[float]] = {}
        for name, part, method in (
            ("following points", model.video_loop.tracker, "step"),
            ("encoding the frame", segmenter, "open"),
            ("masks from prompts", segmenter, "logits"),
            ("detector", model.detector, "detect"),
            ("poses", model.pose, "estimate"),
        ):
            setattr(part, method, self._timed(name, getattr(part, method)))

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        seconds = self._seconds[name] = []

        @functools.wraps(call)
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.process_time()
            answer = call(*arguments, **options)
            seconds.append(time.process_time() - started)
            return answer

        return timed

    def read(self, frames: Sequence[Frame]) -> None:
        """Time the frames of a film with these pictures."""
        with tempfile.TemporaryDirectory() as folder:
            film = Path(folder) / "film.mp4"
            with video_writer(film, _RATE) as add:
                for frame in frames:
                    add(frame.image.pixels.numpy(), None)
            with VideoReader(film) as reader:
                read = self._timed("reading the frame from a film", partial(next, iter(reader)))
                for _ in frames:
                    read()

    def forget(self) -> None:
        """Begin to count."""
        for seconds in self._seconds.values():
            seconds.clear()

    def numbers(self, frames: int) -> dict[str, float]:
        """Return calls a frame, and seconds a call, of each stage that was called."""
        numbers = {}
        for name, seconds in self._seconds.items():
            if seconds:
                numbers[f"{_STAGE}{name}, calls"] = len(seconds) / frames
                numbers[f"{_STAGE}{name}, s"] = statistics.fmean(seconds)
        return numbers


def _follow(config: str, overrides: Sequence[str], threads: int, seed: int, length: int) -> dict[str, float]:
    """Follow people, and return speeds, the mean number of people, and the peak in bytes."""
    torch.set_num_threads(threads)
    model = bmp.load(config, device="cpu", overrides=parse_overrides(overrides))
    for frame in _frames(seed, _LONGEST):
        list(model.run([frame.image], rounds=model.video_loop.rounds))
    stages = _Stages(model)
    state, clock, people = model.video_loop.begin(model), _Clock(), 0
    for number, frame in enumerate(_frames(seed, length)):
        clock.begin()
        found = model.video_loop.step(model, state, frame)
        if number >= _WARM:
            clock.end("looking" if found.detected else "between")
        people += len(found.people)
    peak, followed = peak_memory(), stages.numbers(length)
    stages.forget()
    some = list(_frames(seed, min(length, _LONGEST)))
    stages.read(some)
    numbers = {**clock.numbers(), **followed, **stages.numbers(len(some))}
    return {**numbers, "people": people / length, "peak": peak}


def _follow_objects(config: str, overrides: Sequence[str], threads: int, seed: int, length: int) -> dict[str, float]:
    """Follow the people of the first frame as objects, and return speed, their number, and the peak in bytes."""
    torch.set_num_threads(threads)
    model = build_sam_pt(load_config(config, parse_overrides(overrides)), "cpu")
    scene = plan_video(seed, 0).frame(0)
    masks = torch.from_numpy(scene.scene.visible)
    queries = [Query(number, 0, mask) for number, mask in enumerate(masks[masks.flatten(1).any(dim=1)], 1)]
    clock = _Clock()
    found = iter(model.run(lambda start, end: _frames(seed, length), queries))
    for number in range(length):
        clock.begin()
        next(found)
        if number >= _WARM:
            clock.end("between")
    return {**clock.numbers(), "objects": float(len(queries)), "peak": peak_memory()}


def _frames(seed: int, length: int) -> Iterator[Frame]:
    video = plan_video(seed, 0)
    drawn = [Image(torch.from_numpy(video.frame(index).scene.image)) for index in range(min(len(video), length))]
    order = [*range(len(drawn)), *range(len(drawn) - 2, 0, -1)]
    for number in range(length):
        # A copy, as a film gives new pixels with each frame.
        yield Frame(number, number / _RATE, Image(drawn[order[number % len(order)]].pixels.clone()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--objects", action="store_true", help="follow objects by points, as bmp track does")
    parser.add_argument("--lengths", type=int, nargs="+", default=[60, 600, 6000], metavar="FRAMES")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of the video")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
