"""Measures speed and peak memory of following people through videos of different lengths, which must not matter.

    python benchmarks/video_length.py --config nano.py --lengths 60 600 6000

Each length is a process of its own. The video goes through one of SynthCrowd's forwards and backwards, again and again.
Speed is said apart for frames in which people are looked for and for those between, in which they are followed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import write

import bmp
from bmp.config import parse_overrides
from bmp.evaluation.timing import machine, peak_memory
from bmp.structures import Frame, Image
from bmp.synthcrowd.videos import plan_video

_RATE = 25.0
_WARM = 5  # frames that are not timed


def main() -> None:
    options = _options()
    run = partial(_follow, options.config, options.set, options.threads, options.seed)
    results: dict[str, dict[str, Any]] = {}
    print("| frames | frames/s between | frames/s when looking | people | peak MiB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for length in options.lengths:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(run, (length,))
        results[str(length)] = found
        print(
            f"| {length} | {found['between']:.1f} | {found['looking']:.1f} | {found['people']:.1f} "
            f"| {found['peak'] / 2**20:.0f} |",
            flush=True,
        )
    peaks = [found["peak"] for found in results.values()]
    print(f"\nlargest difference of the peaks: {(max(peaks) - min(peaks)) / 2**20:.1f} MiB")
    if options.output:
        write(options.output, {"settings": vars(options), "machine": machine("cpu"), "results": results})


def _follow(config: str, overrides: Sequence[str], threads: int, seed: int, length: int) -> dict[str, float]:
    """Return frames a second by their medians, the mean number of people, and the peak in bytes."""
    torch.set_num_threads(threads)
    model = bmp.load(config, device="cpu", overrides=parse_overrides(overrides))
    state = model.video_loop.begin(model)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    people = 0
    for number, frame in enumerate(_frames(seed, length)):
        started = time.perf_counter()
        found = model.video_loop.step(model, state, frame)
        if number >= _WARM:
            seconds[found.detected].append(time.perf_counter() - started)
        people += len(found.people)
    between, looking = (1 / statistics.fmean(seconds[kind] or [float("inf")]) for kind in (False, True))
    peak = peak_memory()
    return {"between": between, "looking": looking, "people": people / length, "peak": peak}


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
    parser.add_argument("--lengths", type=int, nargs="+", default=[60, 600, 6000], metavar="FRAMES")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of the video")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
