"""Times every stage of a config, reading and drawing, and what the loop itself adds.

    python benchmarks/speed.py --config lite.py --input photo.jpg [more ...]

Stages are timed where the loop calls them, so their pre- and post-processing counts as theirs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from common import Stopwatch, TimedStage, machine, repeat, write

from bmp import build, images
from bmp.export import to_annotations
from bmp.people import BMP, People

STAGES = {
    "detector": {"detect": "detector"},
    "redetector": {"detect": "detector"},
    "pose": {"estimate": "pose"},
    "segmenter": {"open": "segmenter: encode", "segment": "segmenter: decode"},
    "suppressor": {"keep": "suppressor"},
}


def main() -> None:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = build.load_config(options.config, build.parse_overrides(options.set))
    model = build.build(config, options.device)
    paths = images.find(options.input or [_sample_photo()])
    count = 0

    def run(stopwatch: Stopwatch) -> None:
        nonlocal count
        count = 0
        for start in range(0, len(paths), options.batch_size):
            with stopwatch.time("read"):
                pictures = [images.load(path) for path in paths[start : start + options.batch_size]]
            with stopwatch.time("loop"):
                results = list(_timed(model, stopwatch).run(pictures))
            for result in results:
                people = People(pictures[result.index], result.people, model.pose.keypoints)
                count += len(people)
                with stopwatch.time("export"):
                    to_annotations(people.instances, 1, people.keypoint_set)
                with stopwatch.time("draw"):
                    people.plot()

    timings = repeat(run, options.warmup, options.repeats)
    total = timings["total"].median
    loop = timings["loop"].median
    stages = [name for names in STAGES.values() for name in names.values() if name in timings]
    overhead = loop - sum(timings[name].median for name in dict.fromkeys(stages))
    print(f"{len(paths)} images, {count} people, batches of {options.batch_size}, {options.device}; all together:")
    for name, timing in sorted(timings.items(), key=lambda item: -item[1].median):
        print(f"  {name:20} {timing}  {timing.median / total:6.1%} of the total")
    print(f"  {'loop itself':20} {overhead:8.3f} s          {overhead / loop:6.1%} of the loop")
    if options.output:
        write(
            options.output,
            {
                "config": options.config,
                "images": len(paths),
                "people": count,
                "batch_size": options.batch_size,
                "repeats": options.repeats,
                "machine": machine(options.device),
                "timings": timings,
                "loop_itself": overhead,
            },
        )


def _timed(model: BMP, stopwatch: Stopwatch) -> BMP:
    parts = {name: TimedStage(getattr(model, name), stopwatch, methods) for name, methods in STAGES.items()}
    return BMP(**parts, rounds=model.rounds, repose=model.repose, device=model.device)


def _sample_photo() -> str:
    from matplotlib import cbook

    return str(cbook._get_data_path("sample_data/grace_hopper.jpg"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="lite.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--input", nargs="+", metavar="PATH", help="photos, folders, globs (default: a sample photo)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
