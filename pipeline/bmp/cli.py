"""The command line: pictures in, overlays and people.json out. Knows files and messages, no network.

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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Self

from bmp import __version__
from bmp.errors import UserError

if TYPE_CHECKING:
    import PIL.Image

    from bmp.export import PeopleFile
    from bmp.people import BMP, People
    from bmp.structures import Detections, Image

_OVERLAYS, _TRACES = "overlays", "traces"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    options = _parser().parse_args(arguments)
    # Stages of the user's own are named by dotted path and usually lie in the folder the command is run from.
    sys.path.insert(0, "")
    try:
        return _run(options)
    except UserError as error:
        print(f"bmp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bmp: interrupted; what is done is written, go on with --resume", file=sys.stderr)
        return 130


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
    parser.add_argument("--overwrite", action="store_true", help="start anew in an output folder that has results")
    parser.add_argument("--debug", action="store_true", help="stop at the first unexpected error, with its traceback")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class _Job:
    """One input: where it is, what it is called in the output, and the boxes to start from, if they are given."""

    path: Path
    name: str
    boxes: Detections | None


def _run(options: argparse.Namespace) -> int:
    """Check everything that can be wrong before the networks are loaded, then work through the inputs."""
    from bmp import export, images
    from bmp.build import build
    from bmp.config import load_config, parse_overrides
    from bmp.structures import Detections

    drawn = [(options.output / folder).resolve() for folder in (_OVERLAYS, _TRACES)]
    paths = [p for p in images.find(options.input) if not any(p.resolve().is_relative_to(folder) for folder in drawn)]
    if not paths:
        raise UserError(f"the only pictures found are this program's own, in {options.output}; name other inputs")
    names = images.output_names(paths)
    config = load_config(options.config, parse_overrides(options.set))
    given = export.load_boxes(options.boxes, names) if options.boxes else None
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
    waiting = [job for job in jobs if not people_file.done(job.name)]
    failed: list[str] = []
    count = 0
    with _progress(options.quiet, len(waiting)) as (say, advance), ThreadPoolExecutor() as pool:
        if len(waiting) < len(jobs):
            say(f"{len(jobs) - len(waiting)} of {len(jobs)} images were done before")
        with _Writer(people_file, options.output, pool) as writer:
            for batch in _batches(waiting, options.batch_size, pool):
                for job, outcome in _find(model, batch, options.trace, options.debug):
                    if isinstance(outcome, Exception):
                        reason = " ".join(str(outcome).split()) or type(outcome).__name__
                        failed.append(reason if str(job.path) in reason else f"{job.path}: {reason}")
                        people_file.fail(job.name, reason)
                    else:
                        writer.add(job.name, outcome)
                        count += len(outcome)
                        say(f"{job.name}: {_number(len(outcome), 'person', 'people')}")
                    advance()
        say(
            f"{_number(count, 'person', 'people')} in {_number(len(waiting) - len(failed), 'image', 'images')}: "
            f"{people_file.path}, pictures in {options.output / _OVERLAYS}"
            + (f" and {options.output / _TRACES}" if options.trace else "")
        )
    for line in failed:
        print(f"bmp: failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _batches(jobs: list[_Job], size: int, pool: Executor) -> Iterator[list[tuple[_Job, Image | UserError]]]:
    """Read the pictures of the jobs, one batch ahead of the one that is being worked on."""
    groups = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    ahead: list[Future[Image | UserError]] = []
    for group, following in zip([[], *groups], [*groups, []], strict=True):
        pictures, ahead = ahead, [pool.submit(_read, job.path) for job in following]
        if group:
            yield [(job, picture.result()) for job, picture in zip(group, pictures, strict=True)]


def _read(path: Path) -> Image | UserError:
    from bmp import images

    try:
        return images.load(path)
    except UserError as error:
        return error


def _find(
    model: BMP, batch: Sequence[tuple[_Job, Image | UserError]], trace: bool, debug: bool
) -> Iterator[tuple[_Job, People | Exception]]:
    """Give each job of a batch its people, or the reason why there are none.

    Where the batch breaks, its unfinished images are tried one by one, so that only those fail that must.
    """
    from bmp.people import People

    yield from ((job, picture) for job, picture in batch if isinstance(picture, Exception))
    todo = {i: (job, picture) for i, (job, picture) in enumerate(batch) if not isinstance(picture, Exception)}
    indices = list(todo)
    boxes = [job.boxes for job, _ in todo.values() if job.boxes is not None] or None
    try:
        for result in model.run([picture for _, picture in todo.values()], boxes, trace):
            job, image = todo.pop(indices[result.index])
            yield job, People(image, result.people, model.pose.keypoints, result.trace)
    except Exception as error:
        if debug:
            raise
        for job, picture in todo.values():
            if len(indices) == 1:
                yield job, error
            else:
                yield from _find(model, [(job, picture)], trace, debug)


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
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(quiet=quiet, soft_wrap=True, highlight=False, markup=False, emoji=False)
    rate = TextColumn("{task.fields[rate]}")
    started = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance() -> None:
            bar.advance(task)
            bar.update(task, rate=f"{bar.tasks[0].completed / (time.monotonic() - started):.2f} images/s")

        yield console.print, advance


if __name__ == "__main__":
    sys.exit(main())
