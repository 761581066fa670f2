"""The command that writes SynthCrowd to the disk, or a sheet of it to look at; knows options and messages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from bmp.console import Parser, progress, run_command, whole
from bmp.errors import UserError
from bmp.synthcrowd.files import write
from bmp.synthcrowd.scenes import make_scene
from bmp.synthcrowd.sheet import scene_sheet
from bmp.synthcrowd.splits import SPLITS, find_split

_ON_SHEET = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default); return 0, 2 for wrong use, 130 if interrupted."""
    return run_command(
        _parser(), _run, arguments, interrupted="the split it was at has no JSON, make it anew with --overwrite"
    )


def _parser() -> Parser:
    parser = Parser(
        "python -m bmp.synthcrowd",
        description="Draw crowds with exact masks, keypoints and parts, and write them in COCO format.",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for <split>.json and <split>/*.jpg")
    splits = ", ".join(f"{name} ({split.count})" for name, split in SPLITS.items())
    parser.add_argument("--splits", nargs="+", metavar="NAME", default=list(SPLITS), help=f"of {splits}; default: all")
    parser.add_argument("--count", type=whole(1), help="scenes of each split, the first ones (default: all)")
    parser.add_argument("--seed", type=whole(0), default=0, help="another one gives other scenes (default: 0)")
    parser.add_argument("--workers", type=whole(1), default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument(
        "--extras",
        action="store_true",
        help="write CIHP's part labels to <split>_parts/*.png, and people, parts and things alike to "
        "<split>_pieces.json, as well",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace splits that are there already")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help=f"draw {_ON_SHEET} scenes of the first split on one")
    return parser


def _run(options: argparse.Namespace) -> int:
    """Check everything that can be wrong before the work begins."""
    cv2.setNumThreads(1)  # pictures are too small for several threads; several workers are faster
    splits = {name: find_split(name) for name in options.splits}
    if options.output is None and options.sheet is None:
        raise UserError("nothing to do; give --output DIR for the data set, or --sheet FILE for a sheet to look at")
    if options.sheet is not None:
        first = next(iter(splits.values()))
        scenes = [make_scene(options.seed, index, first.settings) for index in range(_ON_SHEET)]
        try:
            options.sheet.parent.mkdir(parents=True, exist_ok=True)
            scene_sheet(scenes).save(options.sheet)
        except (OSError, ValueError) as error:
            raise UserError(f"{options.sheet}: cannot be written, {error}; name a picture such as sheet.png") from None
        print(f"sheet: {options.sheet}")
    for name, split in splits.items() if options.output is not None else ():
        count = options.count or split.count
        with progress(False, count, unit="scenes", title=name, stderr=True) as (_, advance):
            path = write(
                options.output,
                name,
                split.settings,
                count,
                seed=options.seed,
                workers=min(options.workers, count),
                extras=options.extras,
                overwrite=options.overwrite,
                advance=advance,
            )
        print(f"{name}: {count} scenes, {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
