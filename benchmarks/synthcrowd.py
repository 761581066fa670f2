"""Measures how many scenes of SynthCrowd one core makes in a second: drawing, ground truth, run lengths and JPEG.

    python benchmarks/synthcrowd.py --split train --scenes 200

Seconds are those that the processor worked for this process, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import torch
from common import Timing, as_command, write

from bmp.evaluation.timing import machine
from bmp.synthcrowd.files import render
from bmp.synthcrowd.splits import SPLITS

_REPEATS = 5


def main() -> None:
    options = _options()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    settings = SPLITS[options.split].settings
    render(options.split, settings, 5)
    share = max(1, options.scenes // _REPEATS)
    seconds = []
    for repeat in range(_REPEATS):
        started = time.process_time()
        render(options.split, settings, share, seed=repeat)
        seconds.append((time.process_time() - started) / share)
    timing = Timing.of(seconds)
    print(f"{options.split}: {1 / timing.median:.0f} scenes a second a core, {timing} a scene")
    if options.output:
        write(options.output, {"settings": vars(options), "machine": machine("cpu"), "scene": timing})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="train", choices=list(SPLITS))
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
