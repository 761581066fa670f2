"""Runs the loop over picture files: overlays, traces and people.json come out. Knows no config and no network."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Self

from bmp.console import progress
from bmp.errors import UserError
from bmp.io.atomic import writing

if TYPE_CHECKING:
    import PIL.Image

    from bmp.api import BMP, People
    from bmp.io.annotations import Annotation
    from bmp.io.people_file import PeopleFile
    from bmp.structures import Detections, Image

OVERLAYS, TRACES = "overlays", "traces"
_LONGEST_JPEG = 65500


@dataclass(frozen=True)
class Job:
    """One input.

    source: its path or URL. name: its name in the output. boxes: the people to start from, None for the detector's.
    refused: why it cannot be done, if that is known before.
    """

    source: Path | str
    name: str
    boxes: Detections | None = None
    refused: str | None = None


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run over jobs.

    output: folder of the pictures. batch_size: images that go through the networks together. trace: draw what happened
    round by round. min_score, min_agreement: people below are left out of everything. drawn_score: people below
    it are not drawn. only_given: look for no other people where a job has boxes. part_maps: write maps of parts and of
    people's numbers. cihp: write the folders of CIHP's submissions. debug: let an error of the model through. quiet:
    print nothing.
    """

    output: Path
    batch_size: int = 4
    trace: bool = False
    min_score: float = 0.0
    min_agreement: float = 0.0
    drawn_score: float = 0.0
    only_given: bool = False
    part_maps: bool = False
    cihp: bool = False
    debug: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class _Read:
    """What reading a picture gave besides. sha256: of its file. notices: how the picture differs from the file."""

    sha256: str
    notices: list[str]


def work_through(model: BMP, jobs: list[Job], people_file: PeopleFile, settings: RunSettings) -> list[str]:
    """Send the jobs through the model and write each result as it comes.

    An image whose file has changed since an earlier run is done again.

    Returns:
        why jobs failed, a line each.

    Raises:
        UserError: what is found cannot be written, for a reason that concerns all images.
    """
    from bmp.io import images
    from bmp.io.decoding import log_notice

    known_of: dict[str, _Read] = {}

    def read(job: Job) -> Image:
        if job.refused is not None:
            raise UserError(job.refused)
        said: list[str] = []
        image, digest = images.load_with_checksum(job.source, notice=said.append)
        known_of[job.name] = _Read(digest, [text.removeprefix(f"{job.source}: ") for text in said])
        for text in said:
            log_notice(text)
        return image

    with ThreadPoolExecutor() as pool:
        known = [job for job in jobs if people_file.done(job.name)]
        same = list(pool.map(lambda job: people_file.done(job.name, images.checksum(job.source)), known))
        done = {job.name for job, unchanged in zip(known, same, strict=True) if unchanged}
        waiting = [job for job in jobs if job.name not in done]
        with progress(settings.quiet, len(waiting)) as (say, advance):
            for line in _beginning(people_file, len(jobs), len(known), len(done)):
                say(line)
            with _Writer(people_file, settings, pool, known_of) as writer:
                for job, outcome in _outcomes(model, waiting, settings, read, pool):
                    if isinstance(outcome, Exception):
                        writer.fail(job, str(outcome) or type(outcome).__name__)
                    else:
                        people = _certain(outcome, settings)
                        writer.add(job, people)
                        say(f"{job.name}: {_number(len(people), 'person', 'people')}")
                    advance()
            for line in writer.summary(len(waiting)):
                say(line)
    return writer.failed


def _beginning(people_file: PeopleFile, jobs: int, known: int, done: int) -> Iterator[str]:
    """Yield what a resumed run found of the earlier one: ``known`` images, of which ``done`` have not changed since."""
    if done:
        yield f"{done} of {jobs} images were done before"
    if changed := known - done:
        yield f"{_number(changed, 'image has', 'images have')} changed since and will be done again"
    if people_file.spoilt:
        lines = _number(people_file.spoilt, "line is", "lines are")
        yield f"{lines} damaged in the journal of {people_file.path}; what they were of is done again"


def _outcomes(
    model: BMP, jobs: Sequence[Job], settings: RunSettings, read: Callable[[Job], Image], pool: Executor
) -> Iterator[tuple[Job, People | Exception]]:
    """Yield the people of each job, or why there are none; pictures are read ahead and go through in batches."""
    from bmp.inference.batches import find_people, read_ahead

    batches = [jobs[start : start + settings.batch_size] for start in range(0, len(jobs), settings.batch_size)]
    for batch in read_ahead(batches, read, pool):
        yield from find_people(
            model,
            batch,
            attrgetter("boxes"),
            only_given=settings.only_given,
            trace=settings.trace,
            debug=settings.debug,
        )


def _certain(people: People, settings: RunSettings) -> People:
    """Leave out people with a lower score; their pixels stay theirs, and the trace shows everybody."""
    sure = people.scores >= settings.min_score
    if settings.min_agreement:
        sure &= people.agreement >= settings.min_agreement
    return people[sure]


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


class _Writer:
    """Describes and draws images while the next ones are worked on, then puts them down as done, in their order.

    failed: why images failed, a line each.
    """

    def __init__(
        self, people_file: PeopleFile, settings: RunSettings, pool: Executor, known_of: dict[str, _Read]
    ) -> None:
        from bmp.inference.batches import SideWork

        self._people_file, self._settings, self._known_of = people_file, settings, known_of
        self._drawings: SideWork[list[Annotation]] = SideWork(pool)
        self._people = self._faint = self._beside = 0
        self.failed: list[str] = []

    def add(self, job: Job, people: People) -> None:
        from bmp.inference.batches import kept_bytes

        self._drawings.add(
            kept_bytes(people), partial(self._draw, job.name, people), partial(self._put_down, job, people)
        )

    def fail(self, job: Job, reason: str) -> None:
        reason = " ".join(reason.split())
        self.failed.append(reason if str(job.source) in reason else f"{job.source}: {reason}")
        self._people_file.fail(job.name, reason)

    def summary(self, images: int) -> list[str]:
        """Say what was found in so many images, and where it is."""
        output = self._settings.output
        drawn = f"{output / OVERLAYS}" + (f" and {output / TRACES}" if self._settings.trace else "")
        found = (
            f"{_number(self._people, 'person', 'people')} in {_number(images - len(self.failed), 'image', 'images')}"
        )
        lines = [f"{found}: {self._people_file.path}, pictures in {drawn}"]
        if self._faint:
            below = _number(self._faint, "person scores", "people score")
            lines.append(f"{below} below {self._settings.drawn_score:g}: in people.json, but not drawn")
        if self._beside:
            beside = _number(self._beside, "person was", "people were")
            lines.append(f"{beside} found beside the given boxes, in later rounds; --only-given leaves them out")
        if self.failed:
            lines.append(f"{_number(len(self.failed), 'image', 'images')} failed")
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drawings.finish()

    def _put_down(self, job: Job, people: People, drawing: Future[list[Annotation]]) -> None:
        try:
            rows = drawing.result()
        except UserError:
            raise
        except Exception as error:  # of this picture: nobody else's fails for it
            if self._settings.debug:
                raise
            self.fail(job, f"its picture cannot be drawn, {error or type(error).__name__}")
            return
        known, image = self._known_of[job.name], people.image
        self._people_file.add_described(job.name, image.height, image.width, rows, known.sha256, known.notices)
        self._people += len(people)
        self._faint += int((people.scores < self._settings.drawn_score).sum())
        if job.boxes is not None:
            self._beside += int((people.round > 1).sum())

    def _draw(self, name: str, people: People) -> list[Annotation]:
        settings = self._settings
        self._save(people.plot(min_score=settings.drawn_score, parts=people.parts is not None), OVERLAYS, name)
        if people.trace:
            self._save(people.plot_trace(), TRACES, name)
        if people.parts is not None:
            from bmp.io.part_maps import cihp_submission, part_pictures  # imports torch

            files: list[tuple[str, PIL.Image.Image | str]] = []
            if settings.part_maps:
                files += part_pictures(name, people.parts)
            if settings.cihp:
                files += cihp_submission(name, people.parts, people.scores.tolist())
            for path, content in files:
                self._write(settings.output / path, content)
        return self._people_file.described(people.instances, people.parts)

    def _save(self, picture: PIL.Image.Image, folder: str, name: str) -> None:
        """Write a JPEG; ``UserError`` where no other could be written either."""
        if max(picture.size) > _LONGEST_JPEG:
            raise ValueError(f"a JPEG has at most {_LONGEST_JPEG} pixels a side, got {picture.width}x{picture.height}")
        path = self._settings.output / folder / name
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            path = path.with_name(f"{path.name}.jpg")
        self._write(path, picture)

    def _write(self, path: Path, content: PIL.Image.Image | str) -> None:
        with writing(path, "make room and --resume"):
            # Not made anew where somebody has removed it during the run: people.json was in it.
            os.stat(self._settings.output)  # noqa: PTH116
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, str):
                    path.write_text(content)
                else:
                    content.save(path, quality=90)
            except OSError as error:
                if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, None):
                    raise ValueError(error.strerror or str(error)) from error
                raise
