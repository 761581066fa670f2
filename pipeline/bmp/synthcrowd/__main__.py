"""The command that writes SynthCrowd to the disk, or a sheet of it to look at; knows options and messages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from bmp.console import Parser, progress, run_command, whole
from bmp.errors import UserError
from bmp.synthcrowd.files import write
from bmp.synthcrowd.scenes import make_scene
from bmp.synthcrowd.sheet import scene_sheet, video_sheet
from bmp.synthcrowd.splits import SPLITS, VIDEO_SPLITS, Split, VideoSplit, find_split
from bmp.synthcrowd.video_files import write_videos
from bmp.synthcrowd.videos import plan_video

_ON_SHEET = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default); return 0, 2 for wrong use, 130 if interrupted."""
    return run_command(
        _parser(), _run, arguments, interrupted="the split it was at has no JSON, make it anew with --overwrite"
    )


def _parser() -> Parser:
    parser = Parser(
        "python -m bmp.synthcrowd",
        description="Draw crowds, still or in motion, with exact masks, keypoints, parts and identities, and write "
        "them in COCO format, videos also in that of YouTube-VIS, MOTS and MOTChallenge.",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for <split>.json and <split>/*.jpg")
    scenes, videos = (
        ", ".join(f"{name} ({split.count})" for name, split in splits.items()) for splits in (SPLITS, VIDEO_SPLITS)
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        metavar="NAME",
        default=list(SPLITS),
        help=f"of the still {scenes}, which are all written by default, and of the videos {videos}",
    )
    parser.add_argument("--count", type=whole(1), help="scenes or videos of each split, the first ones (default: all)")
    parser.add_argument("--seed", type=whole(0), default=0, help="another one gives other scenes (default: 0)")
    parser.add_argument("--workers", type=whole(1), default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument(
        "--extras",
        action="store_true",
        help="write CIHP's part labels to <split>_parts/*.png, and people, parts and things alike to "
        "<split>_pieces.json, as well",
    )
    parser.add_argument("--film", action="store_true", help="write videos as .mp4, not as a picture a frame")
    parser.add_argument("--overwrite", action="store_true", help="replace splits that are there already")
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help=f"draw {_ON_SHEET} scenes of the first split on one, or 12 frames of its first video",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    """Check everything that can be wrong before the work begins."""
    cv2.setNumThreads(1)  # pictures are too small for several threads; several workers are faster
    splits = {name: VIDEO_SPLITS.get(name) or find_split(name) for name in options.splits}
    if options.output is None and options.sheet is None:
        raise UserError("nothing to do; give --output DIR for the data set, or --sheet FILE for a sheet to look at")
    videos = [name for name in splits if name in VIDEO_SPLITS]
    if options.film and not videos:
        raise UserError(f"--film: there are only still pictures; choose --splits of {', '.join(VIDEO_SPLITS)}")
    if options.extras and len(videos) == len(splits):
        raise UserError("--extras: there are only videos, which have none; leave it out")
    if options.sheet is not None:
        _draw_sheet(options.sheet, next(iter(splits.values())), options.seed)
    for name, split in splits.items() if options.output is not None else ():
        count = options.count or split.count
        unit = "videos" if isinstance(split, VideoSplit) else "scenes"
        with progress(False, count, unit=unit, title=name, stderr=True) as (_, advance):
            path = _write(name, split, count, options, advance)
        print(f"{name}: {count} {unit}, {path}")
    return 0


def _write(
    name: str, split: Split | VideoSplit, count: int, options: argparse.Namespace, advance: Callable[[], None]
) -> Path:
    workers = min(options.workers, count)
    if isinstance(split, VideoSplit):
        return write_videos(
            options.output,
            name,
            split.settings,
            count,
            seed=options.seed,
            workers=workers,
            film=options.film,
            overwrite=options.overwrite,
            advance=advance,
        )
    return write(
        options.output,
        name,
        split.settings,
        count,
        seed=options.seed,
        workers=workers,
        extras=options.extras,
        overwrite=options.overwrite,
        advance=advance,
    )


def _draw_sheet(path: Path, split: Split | VideoSplit, seed: int) -> None:
    if isinstance(split, VideoSplit):
        sheet = video_sheet(plan_video(seed, 0, split.settings))
    else:
        sheet = scene_sheet([make_scene(seed, index, split.settings) for index in range(_ON_SHEET)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written, {error}; name a picture such as sheet.png") from None
    print(f"sheet: {path}")


if __name__ == "__main__":
    sys.exit(main())
