"""Times every stage of a config, reading and drawing, and what the loop itself adds.

    python benchmarks/speed.py --config lite.py --input photo.jpg [more ...]

Stages are timed where the loop calls them, so their pre- and post-processing counts as theirs.

With ``--people N`` it times a crowd of known size instead, N people in round 1 and one more in round 2 of a 686 x 948
photo, against the published schedule with the same networks, in the same run:

    python benchmarks/speed.py --config bmp_v2.py --people 4 --random-weights

``--random-weights`` spares the download of the official ones, which take as long. ``--set`` changes our side only:
its effect on speed is in the ratio, on accuracy in the differences from the published schedule in float32.

``--engines torch openvino openvino:bfloat16`` runs our side by each of these in turn, where a stage has the choice: the
engine, and the number format after a colon. ``--beside modern.py`` times another config on the same crowd, by the first
engine, in the same run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import Timing, as_command, repeat, warn_of_load, write

from bmp.api import People
from bmp.build import build, resolve_device
from bmp.checkpoints.sources import RANDOM
from bmp.config import load_config, parse_overrides
from bmp.evaluation.timing import Stopwatch, machine, timed
from bmp.io import images
from bmp.io.annotations import to_annotations
from bmp.loop import STAGES, Loop, Result
from bmp.structures import Image, Instances

PHOTO = (686, 948)
_CLOCKS = {"time": time.perf_counter, "processors": time.process_time}
_WITH_ENGINES = {
    *("MMDetDetector", "MMPoseEstimator", "SAM2Segmenter", "SAM2Encoder"),
    *("TransformersPose", "TransformersSegmenter"),
}
# What made-up weights of transformers need in place of the file beside the official ones; sizes are modern.py's.
_MADE_UP: dict[str, Any] = {
    "TransformersDetector": dict(
        architectures=["RfDetrForInstanceSegmentation"],
        backbone_config=dict(model_type="rf_detr_dinov2", image_size=384, patch_size=12, num_windows=2),
        id2label={"0": "nothing", "1": "person"},
        decoder_layers=4,
        num_queries=100,
    ),
    "TransformersPose": dict(
        architectures=["VitPoseForPoseEstimation"],
        backbone_config=dict(
            model_type="vitpose_backbone", hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
            image_size=[256, 192], out_indices=[12], num_experts=6, part_features=192,
        ),
        num_labels=17,
        use_simple_decoder=False,
    ),
    "TransformersSegmenter": "sam2.1_hiera_b+",
}  # fmt: skip


def main() -> None:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.device = resolve_device(options.device)
    load_at_start = warn_of_load()
    results = compare(options) if options.people else profile(options)
    if options.output:
        settings = {name: str(value) for name, value in vars(options).items() if name != "output"}
        load = {"load": load_at_start}
        write(options.output, {"settings": settings, "machine": machine(options.device) | load, **results})


def profile(options: argparse.Namespace) -> dict[str, Any]:
    """Time a config on given photos, by each engine, and hold the results against those of the first."""
    paths = images.find(options.input or [_sample_photo()]).sources
    found: dict[str, list[Instances]] = {}

    def function(engine: str) -> Callable[[Stopwatch], None]:
        model = build(_config(options, ours=True, engine=engine), options.device)

        def run(stopwatch: Stopwatch) -> None:
            found[engine] = []
            for start in range(0, len(paths), options.batch_size):
                with stopwatch.time("read"):
                    pictures = [images.load(path) for path in paths[start : start + options.batch_size]]
                for result in sorted(_run(model, pictures, stopwatch), key=lambda result: result.index):
                    people = People(pictures[result.index], result.people, model.pose.keypoints)
                    found[engine].append(people.instances)
                    with stopwatch.time("export"):
                        to_annotations(people.instances, 1, people.keypoint_set)
                    with stopwatch.time("draw"):
                        people.plot()

        return run

    timings = repeat(
        {engine: function(engine) for engine in options.engines},
        options.warmup,
        options.repeats,
        _CLOCKS[options.clock],
    )
    first = options.engines[0]
    results: dict[str, Any] = {"images": len(paths), "engines": {}}
    for engine, rows in timings.items():
        people = sum(map(len, found[engine]))
        print(
            f"{engine}: {len(paths)} images, {people} people, batches of {options.batch_size}, {options.device}; "
            "all together:"
        )
        _report(rows)
        results["engines"][engine] = {"people": people, "timings": rows}
        if engine != first:
            ratios = {
                stage: timings[first][stage].median / rows[stage].median for stage in STAGES if rows[stage].median > 0
            }
            print(f"  {first}/{engine}: {', '.join(f'{stage} {ratio:.2f}' for stage, ratio in ratios.items())}")
            results["engines"][engine]["ratios"] = ratios
            pairs = list(zip(found[first], found[engine], strict=True))
            alike = [(a, b) for a, b in pairs if len(a) == len(b)]
            print(f"  images with as many people as {first} finds: {len(alike)} of {len(pairs)}")
            differences = _differences([a for a, _ in alike], [b for _, b in alike]) if alike else {}
            for what, value in differences.items():
                print(f"  {what}: {value:.3g}")
            results["engines"][engine]["differences"] = {"images with as many people": len(alike), **differences}
    return results


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time our schedule and the published one on the same crowd, and hold their results against each other."""
    import published

    height, width = PHOTO
    photo = images.load(_sample_photo()).pixels.permute(2, 0, 1)[None].float()
    pixels = torch.nn.functional.interpolate(photo, PHOTO, mode="bilinear", antialias=True)[0]
    image = Image(pixels.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous())
    everybody = published.crowd(options.people + 1, height, width)
    rounds = [everybody[: options.people], everybody[options.people :]]

    ours = {engine: build(_config(options, ours=True, engine=engine), options.device) for engine in options.engines}
    beside = {
        name: build(_config(options, ours=False, engine=options.engines[0], preset=name), options.device)
        for name in options.beside
    }
    theirs = Loop(
        **published.stages(_config(options, ours=False)["pipeline"], options.device),
        suppressor=published.KeepEverybody(),
        rounds=2,
    )
    for model in (*ours.values(), *beside.values(), theirs):
        model.detector = model.redetector = published.FixedPeople(model.detector, rounds)
        model.suppressor, model.rounds = published.KeepEverybody(), 2
    batch = [image] * options.batch_size

    found: dict[str, list[Instances]] = {}

    def together(name: str, model: Loop) -> Callable[[Stopwatch], None]:
        def run(stopwatch: Stopwatch) -> None:
            # Images of their own: an encoder that stages share remembers those that it has seen.
            results = sorted(_run(model, list(map(replace, batch)), stopwatch), key=lambda result: result.index)
            found[name] = [result.people for result in results]

        return run

    def one_by_one(stopwatch: Stopwatch) -> None:
        found["published"] = [result.people for image in batch for result in _run(theirs, [replace(image)], stopwatch)]

    sides = {**{name: together(name, model) for name, model in (ours | beside).items()}, "published": one_by_one}
    timings = repeat(sides, options.warmup, options.repeats, _CLOCKS[options.clock])
    for name, rows in timings.items():
        print(f"{name}: {len(batch)} images, {options.people} + 1 people each, {options.device}; all together:")
        _report(rows)
    differences = {engine: _differences(found[engine], found["published"]) for engine in ours}
    ratios = {name: timings["published"]["loop"].median / timings[name]["loop"].median for name in ours | beside}
    for name, ratio in ratios.items():
        print(f"{name}, ratio published/this: {ratio:.2f}")
        for what, value in differences.get(name, {}).items():
            print(f"  {what}: {value:.3g}")
    if options.device.startswith("cuda"):
        print(f"peak GPU memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    return {"timings": timings, "differences": differences, "ratios": ratios}


def _differences(ours: Sequence[Instances], theirs: Sequence[Instances]) -> dict[str, float]:
    """What differs between the results of two schedules, over all images."""
    pairs = [(a.to("cpu"), b.to("cpu")) for a, b in zip(ours, theirs, strict=True)]
    moved = torch.cat([(a.poses.keypoints - b.poses.keypoints).norm(dim=-1).flatten() for a, b in pairs])
    union = sum(int((a.masks.bits | b.masks.bits).sum()) for a, b in pairs)
    differ = sum(int((a.masks.bits ^ b.masks.bits).sum()) for a, b in pairs)
    prompts = [(a.masks.prompts, b.masks.prompts) for a, b in pairs]
    same = [bool((p.keypoints == q.keypoints).all()) for p, q in prompts if p is not None and q is not None]
    return {
        "images with the same prompts": sum(same) / max(len(same), 1),
        "keypoints that moved by more than half a pixel": float((moved > 0.5).float().mean()),
        "median distance of keypoints in pixels": float(moved.median()),
        "mask pixels that differ, of those in either": differ / max(union, 1),
    }


def _report(timings: dict[str, Timing]) -> None:
    """Print the timings, the longest first."""
    total = timings["total"].median
    for name, timing in sorted(timings.items(), key=lambda item: -item[1].median):
        print(f"  {name:20} {timing}  {timing.median / total:6.1%} of the total")


def _config(options: argparse.Namespace, ours: bool, engine: str = "torch", preset: str = "") -> Any:
    preset = preset or options.config
    overrides: dict[str, Any] = {}
    if options.random_weights:
        for stage in ("detector", "pose", "segmenter"):
            overrides[f"pipeline.{stage}.checkpoint"] = RANDOM
            if (config := _MADE_UP.get(load_config(preset).pipeline[stage].type)) is not None:
                overrides[f"pipeline.{stage}.config"] = config
    if options.people:
        # The clean-up of masks is left out on both sides: the library's own needs a CUDA extension.
        overrides |= {"pipeline.segmenter.hole_area": 0, "pipeline.segmenter.speck_area": 0}
    config = load_config(preset, overrides | (parse_overrides(options.set) if ours else {}))
    if not ours:
        _by_engine(config.pipeline, {"dtype": "float32"})  # on CUDA it would not be
    if engine != "torch":
        name, _, number_format = engine.partition(":")
        _by_engine(config.pipeline, {"engine": name, **({"dtype": number_format} if number_format else {})})
    return config


def _by_engine(part: Any, choice: dict[str, str]) -> None:
    """Give the choice to all stages of a section that have it."""
    if isinstance(part, dict):
        if part.get("type") in _WITH_ENGINES:
            part.update(choice)
        for value in part.values():
            _by_engine(value, choice)


def _run(model: Loop, pictures: Sequence[Image], stopwatch: Stopwatch) -> list[Result]:
    """Send pictures through the loop and time it, its stages, and what it does between them."""
    loop = timed(model, stopwatch)
    whole = Stopwatch(stopwatch.clock)
    before = sum(stopwatch.seconds[name] for name in STAGES)
    with whole.time("loop"):
        results = list(loop.run(pictures))
    inside = sum(stopwatch.seconds[name] for name in STAGES) - before
    stopwatch.seconds["loop"] += whole.seconds["loop"]
    stopwatch.seconds["loop itself"] += whole.seconds["loop"] - inside
    return results


def _sample_photo() -> str:
    from matplotlib import cbook

    return str(cbook._get_data_path("sample_data/grace_hopper.jpg"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="lite.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--input", nargs="+", metavar="PATH", help="photos, folders, globs (default: a sample photo)")
    parser.add_argument("--people", type=int, metavar="N", help="time a made-up crowd against the published schedule")
    parser.add_argument("--random-weights", action="store_true", help="make up the weights instead of fetching them")
    parser.add_argument(
        "--engines", nargs="+", default=["torch"], metavar="ENGINE[:DTYPE]", help="to compare, see above"
    )
    parser.add_argument(
        "--beside", nargs="+", default=[], metavar="CONFIG", help="with --people: other configs, on the same crowd"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    parser.add_argument("--batch-size", type=int, help="images at a time (default: 4, or 1 with --people)")
    parser.add_argument(
        "--clock", choices=_CLOCKS, default="time", help="seconds of time, or those that processors worked"
    )
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, metavar="JSON")
    options = parser.parse_args()
    options.batch_size = options.batch_size or (1 if options.people else 4)
    return options


if __name__ == "__main__":
    sys.exit(as_command(main))
