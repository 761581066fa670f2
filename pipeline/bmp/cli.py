"""The command line: pictures in, overlays and people.json out, or a data set in and a report out.

Knows files and messages, no network and no metric.

Exit codes: 0 everything done, 1 some inputs failed (they are listed), 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Self

from bmp import __version__
from bmp.errors import UserError

if TYPE_CHECKING:
    import PIL.Image
    import rich.console

    from bmp.io.people_file import PeopleFile
    from bmp.api import BMP, People
    from bmp.structures import Detections

_OVERLAYS, _TRACES = "overlays", "traces"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    options = _parser().parse_args(arguments)
    # Stages of the user's own are named by dotted path and usually lie in the folder the command is run from.
    sys.path.insert(0, "")
    try:
        return _run(options) if options.input else _evaluate(options)
    except UserError as error:
        print(f"bmp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bmp: interrupted; what is done is written, go on with --resume", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bmp",
        description="Find every person in photos: boxes, masks and poses, also where people overlap. "
        "Without --input, measure a config on a data set: its own, or that of --dataset and --images.",
        epilog="exit codes: 0 all done, 1 some inputs failed, 2 wrong use, 130 interrupted (people.json stays valid)",
    )
    parser.add_argument("--version", action="version", version=f"bmp {__version__}")
    parser.add_argument("--config", default="lite.py", help="path or name of a config (default: %(default)s)")
    parser.add_argument("--input", nargs="+", metavar="PATH", help="photos, folders or globs")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for everything written (default without --input: output/CONFIG)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    photos = parser.add_argument_group("with --input")
    photos.add_argument("--boxes", type=Path, metavar="FILE", help="COCO JSON or results that give round 1's boxes")
    photos.add_argument("--trace", action="store_true", help="draw what happened, round by round, for each image")
    photos.add_argument(
        "--min-score", type=_share, metavar="S", help="leave out people that score below S, from 0 to 1"
    )
    measured = parser.add_argument_group("without --input")
    measured.add_argument("--dataset", type=Path, metavar="FILE", help="COCO JSON of people to measure the config on")
    measured.add_argument("--images", type=Path, metavar="DIR", help="folder that the file names in it start from")
    measured.add_argument("--limit", type=_positive, metavar="N", help="take only the first N images of the data set")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--batch-size", type=_positive, default=4, help="images at a time (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with an output folder, skipping what is done")
    parser.add_argument("--overwrite", action="store_true", help="start anew in an output folder that has results")
    parser.add_argument("--debug", action="store_true", help="stop at the first unexpected error, with its traceback")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return share


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Complain about options that would have no effect."""
    for name in names:
        if getattr(options, name.replace("-", "_")) not in (None, False):
            raise UserError(f"--{name} {reason}")


def _evaluate(options: argparse.Namespace) -> int:
    """Measure a config on a data set; of several processes only the first one speaks."""
    from bmp.config import load_config, parse_overrides
    from bmp.evaluation.benchmark import evaluate
    from bmp.distributed import Processes

    _refuse(options, ("boxes", "trace", "min-score"), "goes with --input; name photos, or leave it out to evaluate")
    if (options.dataset is None) != (options.images is None):
        missing, given = ("--images DIR", "--dataset") if options.images is None else ("--dataset FILE", "--images")
        raise UserError(f"{given} needs {missing} beside it: annotations and the folder of their images")
    overrides = parse_overrides(options.set)
    if options.dataset and (key := next((key for key in overrides if key.split(".")[0] == "dataset"), None)):
        raise UserError(f"--set {key} has no effect beside --dataset; leave out one of them")
    config = load_config(options.config, overrides)
    if options.dataset:
        config.dataset = dict(type="PeopleDataset", annotations=str(options.dataset), images=str(options.images))
    elif not config.get("dataset"):
        raise UserError(
            f"nothing to do: name photos with --input, or give --dataset FILE --images DIR, or a config with a data "
            f"set, such as ochuman.py ({options.config} has none)"
        )
    folder = options.output or Path("output", Path(options.config).stem)
    with Processes.joined() as processes:
        outcome = evaluate(
            config,
            folder,
            processes,
            partial(_progress, options.quiet or processes.rank > 0),
            device=options.device,
            batch_size=options.batch_size,
            limit=options.limit,
            resume=options.resume,
            overwrite=options.overwrite,
            debug=options.debug,
        )
    if outcome is None:
        return 0
    console = _console(options.quiet)
    for table in outcome.tables:
        console.print(table.rich())
    for sentence in outcome.sentences:
        console.print(sentence)
    console.print(f"Report: {folder / 'report.md'}")
    return _report_failed(outcome.failed)


def _report_failed(failed: list[str]) -> int:
    for line in failed:
        print(f"bmp: failed: {line}", file=sys.stderr)
    return 1 if failed else 0


@dataclass(frozen=True)
class _Job:
    """One input: where it is, what it is called in the output, and the boxes to start from, if they are given."""

    path: Path
    name: str
    boxes: Detections | None


def _run(options: argparse.Namespace) -> int:
    """Check everything that can be wrong before the networks are loaded, then work through the inputs."""
    from bmp.io import people_file as export
    from bmp.io import images
    from bmp.build import build
    from bmp.io.coco_json import load_boxes
    from bmp.config import load_config, parse_overrides
    from bmp.structures import Detections

    _refuse(options, ("dataset", "images", "limit"), "is for an evaluation; leave it out, or leave out --input")
    if options.output is None:
        raise UserError("--input needs --output DIR, the folder for everything written")
    drawn = [(options.output / folder).resolve() for folder in (_OVERLAYS, _TRACES)]
    paths = [p for p in images.find(options.input) if not any(p.resolve().is_relative_to(folder) for folder in drawn)]
    if not paths:
        raise UserError(f"the only pictures found are this program's own, in {options.output}; name other inputs")
    names = images.output_names(paths)
    config = load_config(options.config, parse_overrides(options.set))
    given = load_boxes(options.boxes, names) if options.boxes else None
    results = options.output / "people.json"
    if results.exists() and not (options.resume or options.overwrite):
        raise UserError(
            f"{results} exists; go on with --resume, start anew with --overwrite, or choose another --output"
        )
    _make_writable(options.output)
    try:
        model = build(config, options.device)
    except ImportError as error:  # of an extra that is not installed; the message says which
        raise UserError(str(error)) from error

    nobody = Detections.empty()
    jobs = [
        _Job(path, name, None if given is None else given.get(name, nobody))
        for path, name in zip(paths, names, strict=True)
    ]
    settings = {"description": "people found by BMP", "version": __version__, "pipeline": config.pipeline.to_dict()}
    if options.min_score is not None:
        settings["min_score"] = options.min_score
    with export.PeopleFile(results, model.pose.keypoints, names, resume=options.resume, info=settings) as people_file:
        return _work(model, jobs, people_file, options)


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written, {error.strerror}; choose another --output") from None


def _work(model: BMP, jobs: list[_Job], people_file: PeopleFile, options: argparse.Namespace) -> int:
    """Send the jobs through the model, put down each result as it comes, and return the exit code."""
    from bmp.io import images
    from bmp.inference.batches import find_people, read_ahead

    waiting = [job for job in jobs if not people_file.done(job.name)]
    failed: list[str] = []
    count = 0
    with _progress(options.quiet, len(waiting)) as (say, advance), ThreadPoolExecutor() as pool:
        if len(waiting) < len(jobs):
            say(f"{len(jobs) - len(waiting)} of {len(jobs)} images were done before")
        with _Writer(people_file, options.output, pool) as writer:
            groups = [
                waiting[start : start + options.batch_size] for start in range(0, len(waiting), options.batch_size)
            ]
            for batch in read_ahead(groups, lambda job: images.load(job.path), pool):
                boxes = attrgetter("boxes")
                for job, outcome in find_people(model, batch, boxes, trace=options.trace, debug=options.debug):
                    if isinstance(outcome, Exception):
                        reason = " ".join(str(outcome).split()) or type(outcome).__name__
                        failed.append(reason if str(job.path) in reason else f"{job.path}: {reason}")
                        people_file.fail(job.name, reason)
                    else:
                        people = outcome if options.min_score is None else _certain(outcome, options.min_score)
                        writer.add(job.name, people)
                        count += len(people)
                        say(f"{job.name}: {_number(len(people), 'person', 'people')}")
                    advance()
        say(
            f"{_number(count, 'person', 'people')} in {_number(len(waiting) - len(failed), 'image', 'images')}: "
            f"{people_file.path}, pictures in {options.output / _OVERLAYS}"
            + (f" and {options.output / _TRACES}" if options.trace else "")
        )
    return _report_failed(failed)


def _certain(people: People, min_score: float) -> People:
    """Leave out people with a lower score; their pixels stay theirs, and the trace shows everybody."""
    return replace(people, instances=people.instances[people.scores >= min_score])


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


class _Writer:
    """Draws the pictures of one image while the next is worked on, then puts the image down as done."""

    def __init__(self, people_file: PeopleFile, output: Path, pool: Executor) -> None:
        self._people_file, self._output, self._pool = people_file, output, pool
        self._drawing: tuple[str, People, Future[None]] | None = None

    def add(self, name: str, people: People) -> None:
        self._finish()
        self._drawing = name, people, self._pool.submit(self._draw, name, people)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()

    def _finish(self) -> None:
        if self._drawing:
            name, people, drawing = self._drawing
            self._drawing = None
            drawing.result()
            self._people_file.add(name, people.image.height, people.image.width, people.instances)

    def _draw(self, name: str, people: People) -> None:
        _save(people.plot(), self._output / _OVERLAYS / name)
        if people.trace:
            _save(people.plot_trace(), self._output / _TRACES / name)


def _save(picture: PIL.Image.Image, path: Path) -> None:
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        path = path.with_name(f"{path.name}.jpg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=90)
    except OSError as error:
        raise UserError(f"{path}: cannot be written, {error.strerror or error}; make room and --resume") from None


@contextmanager
def _progress(quiet: bool, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Show a bar with rate and time left; give one function that prints a line above it and one that advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console(quiet)
    rate = TextColumn("{task.fields[rate]}")
    started = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance() -> None:
            bar.advance(task)
            bar.update(task, rate=f"{bar.tasks[0].completed / (time.monotonic() - started):.2f} images/s")

        yield console.print, advance


def _console(quiet: bool) -> rich.console.Console:
    from rich.console import Console

    return Console(quiet=quiet, soft_wrap=True, highlight=False, markup=False, emoji=False)


if __name__ == "__main__":
    sys.exit(main())
