"""Runs the loop over picture files: overlays, traces and people.json come out. Knows no config and no network."""

from __future__ import annotations

import argparse
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Self

from bmp.console import progress, report_failed
from bmp.errors import UserError

if TYPE_CHECKING:
    import PIL.Image

    from bmp.api import BMP, People
    from bmp.io.people_file import PeopleFile
    from bmp.structures import Detections, Image


OVERLAYS, TRACES = "overlays", "traces"


@dataclass(frozen=True)
class Job:
    """One input: its path or URL, what it is called in the output, and the boxes to start from, if they are given.

    ``refused`` is why it cannot be done with what was given, None if it can.
    """

    source: Path | str
    name: str
    boxes: Detections | None
    refused: str | None = None


def work_through(model: BMP, jobs: list[Job], people_file: PeopleFile, options: argparse.Namespace) -> int:
    """Send the jobs through the model, put down each result as it comes, and return the exit code."""
    from bmp.inference.batches import find_people, read_ahead

    waiting = [job for job in jobs if not people_file.done(job.name)]
    failed: list[str] = []
    count = 0
    with progress(options.quiet, len(waiting)) as (say, advance), ThreadPoolExecutor() as pool:
        if len(waiting) < len(jobs):
            say(f"{len(jobs) - len(waiting)} of {len(jobs)} images were done before")
        with _Writer(people_file, options.output, pool) as writer:
            groups = [
                waiting[start : start + options.batch_size] for start in range(0, len(waiting), options.batch_size)
            ]
            for batch in read_ahead(groups, _load, pool):
                boxes = attrgetter("boxes")
                for job, outcome in find_people(model, batch, boxes, trace=options.trace, debug=options.debug):
                    if isinstance(outcome, Exception):
                        reason = " ".join(str(outcome).split()) or type(outcome).__name__
                        failed.append(reason if str(job.source) in reason else f"{job.source}: {reason}")
                        people_file.fail(job.name, reason)
                    else:
                        people = outcome if options.min_score is None else _certain(outcome, options.min_score)
                        writer.add(job.name, people)
                        count += len(people)
                        say(f"{job.name}: {_number(len(people), 'person', 'people')}")
                    advance()
        say(
            f"{_number(count, 'person', 'people')} in {_number(len(waiting) - len(failed), 'image', 'images')}: "
            f"{people_file.path}, pictures in {options.output / OVERLAYS}"
            + (f" and {options.output / TRACES}" if options.trace else "")
        )
    return report_failed("bmp", failed)


def _load(job: Job) -> Image:
    from bmp.io import images

    if job.refused:
        raise UserError(job.refused)
    return images.load(job.source)


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
        _save(people.plot(), self._output / OVERLAYS / name)
        if people.trace:
            _save(people.plot_trace(), self._output / TRACES / name)


def _save(picture: PIL.Image.Image, path: Path) -> None:
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        path = path.with_name(f"{path.name}.jpg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=90)
    except OSError as error:
        raise UserError(f"{path}: cannot be written, {error.strerror or error}; make room and --resume") from None
