"""The command that writes SynthCrowd to the disk, or a sheet of it to look at; knows options and messages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2

from bmp.errors import UserError
from bmp.synthcrowd.files import write
from bmp.synthcrowd.scenes import make_scene
from bmp.synthcrowd.sheet import contact_sheet
from bmp.synthcrowd.splits import SPLITS, find_split

_ON_SHEET = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default); return 0, 2 for wrong use, 130 if interrupted."""
    options = _parser().parse_args(arguments)
    cv2.setNumThreads(1)  # pictures are too small for several threads; several workers are faster
    try:
        _run(options)
    except UserError as error:
        print(f"synthcrowd: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "synthcrowd: interrupted; the split it was at has no JSON, make it anew with --overwrite", file=sys.stderr
        )
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bmp.synthcrowd",
        description="Draw crowds with exact masks, keypoints and parts, and write them in COCO format.",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for <split>.json and <split>/*.jpg")
    splits = ", ".join(f"{name} ({split.count})" for name, split in SPLITS.items())
    parser.add_argument("--splits", nargs="+", metavar="NAME", default=list(SPLITS), help=f"of {splits}; default: all")
    parser.add_argument("--count", type=_whole(1), help="scenes of each split, the first ones (default: all)")
    parser.add_argument("--seed", type=_whole(0), default=0, help="another one gives other scenes (default: 0)")
    parser.add_argument(
        "--workers", type=_whole(1), default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument(
        "--extras",
        action="store_true",
        help="write CIHP's part labels to <split>_parts/*.png, and people, parts and things alike to "
        "<split>_pieces.json, as well",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace splits that are there already")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help=f"draw {_ON_SHEET} scenes of the first split on one")
    return parser


def _whole(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
        return int(text)

    return number


def _run(options: argparse.Namespace) -> None:
    """Check everything that can be wrong before the work begins."""
    splits = {name: find_split(name) for name in options.splits}
    if options.output is None and options.sheet is None:
        raise UserError("nothing to do; give --output DIR for the data set, or --sheet FILE for a sheet to look at")
    if options.sheet is not None:
        first = next(iter(splits.values()))
        scenes = [make_scene(options.seed, index, first.settings) for index in range(_ON_SHEET)]
        try:
            options.sheet.parent.mkdir(parents=True, exist_ok=True)
            contact_sheet(scenes).save(options.sheet)
        except (OSError, ValueError) as error:
            raise UserError(f"{options.sheet}: cannot be written, {error}; name a picture such as sheet.png") from None
        print(f"sheet: {options.sheet}")
    if options.output is None:
        return
    for name, split in splits.items():
        count = options.count or split.count
        with _progress(name, count) as advance:
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


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar with rate and time left on a terminal; give the function that advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total, rate="")

        def advance() -> None:
            bar.advance(task)
            bar.update(task, rate=f"{bar.tasks[0].speed or 0:.0f} scenes/s")

        yield advance


if __name__ == "__main__":
    sys.exit(main())
