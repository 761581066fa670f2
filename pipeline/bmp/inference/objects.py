"""Runs SAM-PT over one video: masks, objects.jsonl and an overlay come out. Knows no config and no network.

A run that is killed goes on from its last line, where the method streams; its results are those of an undisturbed one.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bmp import __version__
from bmp.console import progress
from bmp.errors import UserError
from bmp.io.atomic import writing
from bmp.io.formats.index_masks import write_index_mask
from bmp.io.journal import Journal, JournalEntry
from bmp.io.json_fields import JsonObject
from bmp.io.video import Instant, Losses, video_writer
from bmp.io.video_inputs import identity_of, is_seekable, open_video
from bmp.ops.masks import from_rle, to_boxes, to_rle
from bmp.sam_pt import SAMPT, Query, SegmentedFrame, TrackedObjects
from bmp.structures import Frame
from bmp.visualize import overlay_objects

MASKS, LINES, OVERLAY = "masks", "objects.jsonl", "overlay.mp4"
OWN_FILES = (MASKS, LINES, OVERLAY)
"""What a run writes in its folder."""


@dataclass(frozen=True)
class ObjectSettings:
    """The settings of a run.

    output: its folder. start, end, every: the part that is read, as for ``VideoReader``. backward: follow objects
    towards the beginning as well. overlay: write the film with the objects drawn in it. resume: go on with what is in
    the folder. info: further settings that a resumed run has to share, plain values. quiet: print nothing.
    """

    output: Path
    start: Instant = 0
    end: Instant | None = None
    every: int = 1
    backward: bool = False
    overlay: bool = True
    resume: bool = False
    info: JsonObject = field(default_factory=dict)
    quiet: bool = False


Queries = Callable[[Frame], Sequence[Query]]
"""Returns what is to be followed, given the first frame that is read."""


def follow_objects(model: SAMPT, source: str, queries: Queries, settings: ObjectSettings) -> list[str]:
    """Follow objects through a video, and write each frame as it is done.

    Returns:
        What of the video could not be done, a line each.

    Raises:
        UserError: the video cannot be read, nothing can be written, a query does not fit the video, or what is to be
            resumed is of another run.
    """
    output, path = settings.output, settings.output / LINES
    _check_kind(model, source, settings)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        if not settings.resume:
            shutil.rmtree(output / MASKS, ignore_errors=True)
            (output / OVERLAY).unlink(missing_ok=True)
        (output / MASKS).mkdir(exist_ok=True)
    with _Film(source, settings) as film:
        chosen = queries(film.first)
        _check_frames(chosen, film, settings)
        with writing(path):
            journal = Journal(path, _made_with(source, settings), resume=settings.resume)
        with ExitStack() as stack:
            stack.callback(journal.close)
            run = _Run(journal, settings, film.rate)
            stack.enter_context(run)
            say, advance = stack.enter_context(progress(settings.quiet, film.expected(), unit="frames"))
            after = run.replay(film, advance) if settings.resume else None
            for found in model.run(
                film,
                chosen,
                start=film.first.index,
                end=settings.end if isinstance(settings.end, int) else None,
                backward=settings.backward,
                after=after,
            ):
                run.add(found)
                advance()
            run.finish()
            say(run.summary())
        return film.failed()


def _check_kind(model: SAMPT, source: str, settings: ObjectSettings) -> None:
    if settings.resume and (settings.backward or not model.streams):
        raise UserError(
            "--resume goes on forwards, without --backward, --reinitialise and similarity, and with a tracker that "
            "answers at once, such as LucasKanade; start anew with --overwrite"
        )
    if not is_seekable(source) and (settings.resume or settings.backward):
        raise UserError(f"{source}: a stream is read once; leave out --resume and --backward")


def _check_frames(queries: Sequence[Query], film: _Film, settings: ObjectSettings) -> None:
    for query in queries:
        if film.frames is not None and query.frame >= film.frames:
            raise UserError(
                f"object {query.id}: there is no frame {query.frame}; {film.name} has {film.frames}, numbered from 0"
            )
        if (query.frame - film.first.index) % settings.every:
            raise UserError(
                f"object {query.id}: frame {query.frame} is left out, as each {settings.every}th from "
                f"{film.first.index} on is read; choose one of those"
            )


def _made_with(source: str, settings: ObjectSettings) -> JsonObject:
    """Return all that a resumed run has to share."""
    return {
        "description": "objects followed by BMP",
        "version": __version__,
        **settings.info,
        "film": identity_of(source),
        "start": settings.start,
        "end": settings.end,
        "every": settings.every,
        "backward": settings.backward,
    }


class _Film:
    """A video of which any part can be read; the first frame, which is read at once, is not read twice.

    first: the first frame of the part. absent: of a run that is resumed, how many frames of what was done could not be
    decoded; None for others.
    """

    def __init__(self, source: str, settings: ObjectSettings) -> None:
        self._source, self._settings = source, settings
        self._whole = open_video(source, start=settings.start, end=settings.end, every=settings.every)
        self.name, self.frames, self.rate = self._whole.name, self._whole.frames, self._whole.rate
        self._rest: Iterator[Frame] | None = iter(self._whole)
        self.first = next(self._rest)
        self.absent: int | None = None
        self._part_losses = Losses()

    def __call__(self, start: int, end: int | None) -> Iterator[Frame]:
        """See ``bmp.sam_pt.Film``; an end that is given as a time is that of the settings."""
        if self._rest is not None and start == self.first.index:
            rest, self._rest = self._rest, None
            frames = itertools.chain([self.first], rest)
            return frames if end is None else itertools.takewhile(lambda frame: frame.index < end, frames)
        return self._part(start, end)

    def _part(self, start: int, end: int | None) -> Iterator[Frame]:
        every, first = self._settings.every, self.first.index
        start = first + -(-(start - first) // every) * every
        stop = self._settings.end if end is None else end
        if isinstance(stop, int) and start >= stop:
            return
        # From the frame before, which there is: nothing behind it is no part of a video that could be opened.
        lead = max(first, start - every)
        with open_video(self._source, start=lead, end=stop, every=every, notice=lambda text: None) as frames:
            yield from (frame for frame in frames if frame.index >= start)
            self._part_losses = frames.losses

    def expected(self) -> int:
        """Return about how many frames there are; 0 where that is not known."""
        if self.frames is None:
            return 0
        end = self._settings.end
        rate = self.rate or 25.0
        last = self.frames if end is None else end if isinstance(end, int) else round(end * rate)
        return max(0, -(-(min(last, self.frames) - self.first.index) // self._settings.every))

    def failed(self) -> list[str]:
        """Return what could not be read, a line each."""
        losses = self._whole.losses
        if self.absent is not None:  # what is left was read as a part, the last one
            losses = Losses(broken=self.absent) + self._part_losses
        return [f"{self.name}: {line}" for line in losses.lines()]

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, *error: object) -> None:
        self._whole.close()


class _Run:
    """What one run writes."""

    def __init__(self, journal: Journal, settings: ObjectSettings, rate: float | None) -> None:
        self._journal, self._settings = journal, settings
        self._rate = min(max(rate or 25.0, 1.0), 1000.0)
        self._stack = ExitStack()
        self._write: Callable[..., None] | None = None
        self._size: tuple[int, int] | None = None
        self._count = 0
        self._scores: dict[int, tuple[int, float]] = {}  # of each object the frames with a mask, and the sum of scores

    def __enter__(self) -> _Run:
        if self._settings.overlay:
            self._write = self._stack.enter_context(video_writer(self._settings.output / OVERLAY, self._rate))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            self._stack.__exit__(kind, *error)
        self._stack.close()

    def replay(self, film: _Film, advance: Callable[[], None]) -> tuple[Frame, TrackedObjects] | None:
        """Draw the frames of an earlier run once more, and return where that stopped; None where nothing was done."""
        path, offsets = self._settings.output / LINES, dict[int, int]()
        for offset, line in self._journal.records():
            offsets[line["frame"]] = offset
            self._note(line)
            advance()
        if self._journal.spoilt:
            raise UserError(f"{path}: changed since it was written; start anew with --overwrite")
        if not offsets:
            return None
        first, last = min(offsets), max(offsets)
        film.absent = (last - first) // self._settings.every + 1 - len(offsets)
        frame: Frame | None = None
        for frame in film(first if self._write is not None else last, last + 1):
            if self._write is not None and frame.index in offsets:
                self._draw(frame, self._journal.read(offsets[frame.index]))
        if frame is None or frame.index != last:
            raise UserError(
                f"{film.name}: frame {last}, from which to go on, cannot be read; start anew with --overwrite"
            )
        return frame, _objects_in(self._journal.read(offsets[last]))

    def add(self, found: SegmentedFrame) -> None:
        """Write a frame."""
        line = _line(found)
        output = self._settings.output
        write_index_mask(output / MASKS / f"{found.frame.index:05d}.png", found.labels().numpy())
        if self._write is not None:
            self._draw(found.frame, line)
        with writing(output / LINES, "make room and --resume"):
            self._journal.append(line)
        self._note(line)

    def finish(self) -> None:
        """Complete the film."""
        self._stack.close()

    def summary(self) -> str:
        """Say what was found, and where it is."""
        output = self._settings.output
        objects = "1 object" if len(self._scores) == 1 else f"{len(self._scores)} objects"
        means = ", ".join(
            f"object {number} in {count} with mean predicted IoU {total / count:.2f}"
            if count
            else f"object {number} in none"
            for number, (count, total) in sorted(self._scores.items())
        )
        film = f", film in {output / OVERLAY}" if self._write is not None else ""
        frames = "1 frame" if self._count == 1 else f"{self._count} frames"
        return f"{objects} in {frames} ({means}): {output / MASKS}, {output / LINES}{film}"

    def _note(self, line: JournalEntry) -> None:
        self._count += 1
        for one in line["objects"]:
            count, total = self._scores.get(one["track_id"], (0, 0.0))
            self._scores[one["track_id"]] = (count + 1, total + one["score"]) if one["area"] else (count, total)

    def _draw(self, frame: Frame, line: JournalEntry) -> None:
        assert self._write is not None
        image = frame.image
        objects = _objects_in(line)
        rles = [one["segmentation"] for one in line["objects"]]
        picture = overlay_objects(
            image,
            from_rle(rles, image.height, image.width),
            objects.ids.tolist(),
            objects.points,
            torch.where(objects.seen, objects.labels, -1),
        )
        self._size = self._size or picture.size
        if picture.size != self._size:  # of a stream that changes, or pictures of several sizes
            picture = picture.resize(self._size)
        self._write(np.asarray(picture), frame.time)


def _line(found: SegmentedFrame) -> JournalEntry:
    """Return a frame's objects as they are written."""
    objects, boxes = found.objects, to_boxes(found.bits)
    boxes[:, 2:] -= boxes[:, :2]
    return {
        "frame": found.frame.index,
        "time": round(found.frame.time, 6),
        "objects": [
            {
                "track_id": number,
                "score": float(found.scores[row]) if bool(found.asked[row]) else None,
                "bbox": boxes[row].tolist(),
                "area": int(found.bits[row].sum()),
                "segmentation": rle,
                "points": objects.points[row].tolist(),
                "labels": objects.labels[row].tolist(),
                "seen": objects.seen[row].int().tolist(),
            }
            for row, (number, rle) in enumerate(zip(objects.ids.tolist(), to_rle(found.bits), strict=True))
        ],
    }


def _objects_in(line: Mapping[str, Any]) -> TrackedObjects:
    """Return the objects of a line, as they were."""
    rows = line["objects"]
    size = len(rows[0]["points"]) if rows else 0
    return TrackedObjects(
        torch.tensor([row["track_id"] for row in rows], dtype=torch.int64),
        torch.tensor([row["points"] for row in rows], dtype=torch.float32).reshape(-1, size, 2),
        torch.tensor([row["labels"] for row in rows], dtype=torch.int8).reshape(-1, size),
        torch.tensor([row["seen"] for row in rows], dtype=torch.bool).reshape(-1, size),
    )
