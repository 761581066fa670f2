"""The command line: pictures in, overlays and people.json out. Knows files and messages, no network.

Exit codes: 0 everything done, 1 some inputs failed (they are listed), 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmp import __version__
from bmp.errors import UserError

if TYPE_CHECKING:
    from bmp.export import PeopleFile
    from bmp.loop import Result
    from bmp.people import BMP
    from bmp.structures import Detections, Image


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    options = _parser().parse_args(arguments)
    # Stages of the user's own are named by dotted path and usually lie in the folder the command is run from.
    sys.path.insert(0, "")
    try:
        return _run(options)
    except (UserError, ImportError) as error:
        print(f"bmp: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bmp",
        description="Find every person in photos: boxes, masks and poses, also where people overlap.",
        epilog="exit codes: 0 all done, 1 some inputs failed, 2 wrong use, 130 interrupted (people.json stays valid)",
    )
    parser.add_argument("--version", action="version", version=f"bmp {__version__}")
    parser.add_argument("--config", default="lite.py", help="path or name of a config (default: %(default)s)")
    parser.add_argument("--input", nargs="+", required=True, metavar="PATH", help="photos, folders or globs")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for everything written")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument("--boxes", type=Path, metavar="FILE", help="COCO JSON or results that give round 1's boxes")
    parser.add_argument("--trace", action="store_true", help="draw what happened, round by round, for each image")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--batch-size", type=_positive, default=4, help="images at a time (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with an output folder, skipping what is done")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)
