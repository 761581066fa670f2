"""Measures the peak memory of the whole loop on one large photo with many people (made-up boxes, made-up photo).

    python benchmarks/memory.py --config bmp_v2.py --people 100 --random-weights

Prints what the process held before the photo (networks, libraries), the peak, and the masks' own size.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from common import as_command, write
from torch import Tensor

import bmp
from bmp.checkpoints.sources import RANDOM
from bmp.config import parse_overrides
from bmp.evaluation.timing import machine, peak_memory
from bmp.structures import Detections, Image

STAGES = ("detector", "pose", "segmenter")


def main() -> None:
    options = _options()
    overrides = {f"pipeline.{stage}.checkpoint": RANDOM for stage in STAGES} if options.random_weights else {}
    # One round: made-up detections of a second one would say nothing.
    overrides |= {"pipeline.rounds": 1, "pipeline.suppressor.threshold": 1.0} | parse_overrides(options.set)
    model = bmp.load(options.config, device="cpu", overrides=overrides)
    generator = torch.Generator().manual_seed(0)
    size = (options.height, options.width)
    image = Image(torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator))
    before = peak_memory()
    (result,) = model.run([image], [_people(options.people, *size, masked=options.masks)])
    found = len(result.people)
    sizes = {"before": before, "peak": peak_memory(), "masks": found * options.height * options.width}
    print(f"{options.config}: {found} people in {options.width} x {options.height} pixels")
    for name, value in sizes.items():
        print(f"  {name:8} {value / 2**30:6.2f} GiB")
    if options.output:
        write(options.output, {"settings": vars(options), "machine": machine("cpu"), "bytes": sizes})


def _people(count: int, height: int, width: int, *, masked: bool) -> Detections:
    """``count`` boxes of a third of the height, scattered with a fixed seed; masks fill them."""
    generator = torch.Generator().manual_seed(1)
    size = torch.tensor([height / 6, height / 3])
    corners = torch.rand(count, 2, generator=generator) * (torch.tensor([width, height]) - size)
    boxes = torch.cat([corners, corners + size], dim=1)
    return Detections(boxes, torch.ones(count), _filled(boxes, height, width) if masked else None)


def _filled(boxes: Tensor, height: int, width: int) -> Tensor:
    left, top, right, bottom = boxes[:, :, None, None].unbind(1)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return (left <= columns) & (columns < right) & (top <= rows) & (rows < bottom)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="bmp_v2.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument(
        "--masks", action="store_true", help="as detectors with masks find them, for presets that use these"
    )
    parser.add_argument("--height", type=int, default=2160)
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--random-weights", action="store_true", help="make up the weights instead of fetching them")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
