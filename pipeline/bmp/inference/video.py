"""Runs the loop over one video: people.jsonl, video.json and an overlay come out. Knows no config and no network.

A run that is killed goes on from its last checkpoint: the table of people who are followed, written every so many
frames. What is not in that table is begun anew at each checkpoint, in an undisturbed run as well, so that both end with
the same lines.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np
from typing_extensions import Self

from bmp import __version__
from bmp.console import open_console, progress
from bmp.errors import UserError
from bmp.io.annotations import category
from bmp.io.atomic import writing
from bmp.io.decoding import log_notice
from bmp.io.formats import FORMATS
from bmp.io.formats.export import export
from bmp.io.formats.video_rows import RowsFile, VideoRows
from bmp.io.journal import check_settings
from bmp.io.json_fields import JsonObject
from bmp.io.people_lines import PEOPLE_LINES, VIDEO_FILE, PeopleLines, VideoInfo, read_info, write_info
from bmp.io.records_file import load_records, save_records
from bmp.io.video import Instant, Losses, join_videos, video_writer
from bmp.io.video_inputs import VideoSource, identity_of, is_seekable, open_video
from bmp.structures import Frame, Record, TrackedFrame, TrackedPeople
from bmp.tracking.identities import RetiredPeople
from bmp.video_loop import VideoState

if TYPE_CHECKING:
    from bmp.api import BMP

OVERLAY, PARTS, CHECKPOINT = "overlay.mp4", "overlay.parts", "tracks.npz"
OWN_FILES = (PEOPLE_LINES, VIDEO_FILE, OVERLAY, PARTS, CHECKPOINT, *FORMATS.values())
"""What a run writes in its folder."""

_MOST_FAILURES = 25  # frames in a row on which the model breaks before the run ends


@dataclass(frozen=True)
class VideoSettings:
    """The settings of a run over a video.

    output: its folder. start, end, every: the part that is read, as for ``VideoReader``. checkpoint: frames from one
    table to the next. overlay: write the film with the people drawn in it. resume: go on with what is in the folder.
    min_score: people below it are left out of everything. drawn_score: people below it are not drawn. info: further
    settings that a resumed run has to share, plain values. debug: let an error of the model through. quiet: print
    nothing. formats: of ``FORMATS``, what is put together from people.jsonl at the end.
    """

    output: Path
    start: Instant = 0
    end: Instant | None = None
    every: int = 1
    checkpoint: int = 250
    overlay: bool = True
    resume: bool = False
    min_score: float = 0.0
    drawn_score: float = 0.0
    info: JsonObject = field(default_factory=dict)
    debug: bool = False
    quiet: bool = False
    formats: Sequence[str] = tuple(FORMATS)


def follow_video(model: BMP, source: str, settings: VideoSettings) -> list[str]:
    """Follow the people of a video, and write each frame as it is done.

    Returns:
        What of the video could not be done, a line each.

    Raises:
        UserError: the video cannot be read, nothing can be written, or what is to be resumed is of another run.
    """
    said: list[str] = []

    def notice(text: str) -> None:
        said.append(text)
        log_notice(text)

    if settings.resume and not is_seekable(source):
        raise UserError(f"{source}: a stream cannot be gone on with; leave --resume out, or choose another folder")
    made_with = _made_with(source, settings)
    with writing(settings.output):
        settings.output.mkdir(parents=True, exist_ok=True)
        earlier = _earlier(settings, made_with)
    if earlier is not None and earlier.info["complete"]:
        open_console(settings.quiet).print(f"{source}: was done before, {_number(earlier.info['frames'], 'frame')}")
        return []
    begin = settings.start if earlier is None or earlier.state is None else earlier.frame
    with open_video(source, start=begin, end=settings.end, every=settings.every, notice=notice) as frames:
        run = _Run(model, frames, settings, made_with, said, earlier)
        with progress(settings.quiet, _expected(frames, settings), unit="frames") as (say, advance):
            run.work(advance)
            say(run.summary())
    return run.failed


@dataclass(frozen=True, eq=False)
class _Earlier:
    """What an earlier run has left. state: at the checkpoint, after ``frame``; None where there was none.

    numbers: what else the checkpoint holds.
    """

    info: VideoInfo
    state: VideoState | None
    frame: int
    numbers: JsonObject


def _made_with(source: str, settings: VideoSettings) -> JsonObject:
    """Return all that a resumed run has to share."""
    return {
        "description": "people followed by BMP",
        "version": __version__,
        **settings.info,
        "film": identity_of(source),
        "start": settings.start,
        "end": settings.end,
        "every": settings.every,
        "checkpoint": settings.checkpoint,
        "min_score": settings.min_score,
        "overlay": settings.overlay,
        "drawn_score": settings.drawn_score if settings.overlay else None,
    }


def _earlier(settings: VideoSettings, made_with: JsonObject) -> _Earlier | None:
    """Return what is to be gone on with; without ``resume`` what lies in the folder is removed."""
    output = settings.output
    if not settings.resume:
        for name in OWN_FILES:
            path = output / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return None
    info = read_info(output)
    if info is None:
        return None
    check_settings(output / VIDEO_FILE, info["info"], made_with)
    if info["complete"] or not (output / CHECKPOINT).exists():
        return _Earlier(info, None, 0, {})
    kinds: dict[str, type[Record]] = {"people": TrackedPeople, "retired": RetiredPeople}
    records, numbers = load_records(output / CHECKPOINT, kinds)
    people, retired = records["people"], records["retired"]
    assert isinstance(people, TrackedPeople)
    assert isinstance(retired, RetiredPeople)
    state = VideoState(people, retired, *(numbers[name] for name in ("next_id", "since_detection", "since_masks")))
    return _Earlier(info, state, numbers["frame"], numbers)


class _Run:
    """One video on its way.

    failed: what could not be done, a line each.
    """

    def __init__(
        self,
        model: BMP,
        frames: VideoSource,
        settings: VideoSettings,
        made_with: JsonObject,
        said: list[str],
        earlier: _Earlier | None,
    ) -> None:
        self._model, self._frames, self._settings, self._said = model, frames, settings, said
        self._resumed = earlier is not None
        numbers = {} if earlier is None else earlier.numbers
        self._count: int = numbers.get("count", 0)
        self._people = 0
        self._earlier_losses = Losses(**numbers.get("losses", {}))
        self._begin, self._checksum = numbers.get("bytes", 0), numbers.get("crc32", 0)
        self._state = None if earlier is None else earlier.state
        self._resume_at = earlier.frame if earlier is not None and earlier.state is not None else None
        self._overlay = _Overlay(settings, frames.rate, numbers.get("overlay", {})) if settings.overlay else None
        self._errors: Counter[str] = Counter(numbers.get("errors", {}))
        self._in_a_row = 0
        self._not_exported: list[str] = []
        name = Path(frames.name).name or frames.name
        self._info = VideoInfo(
            name=name,
            width=0,
            height=0,
            fps=frames.rate,
            complete=False,
            frames=self._count,
            broken=0,
            notices=[],
            categories=[category(model.pose.keypoints)],
            info=made_with,
        )
        if earlier is not None:
            self._info |= {"width": earlier.info["width"], "height": earlier.info["height"]}
            said[:0] = earlier.info["notices"]

    @property
    def failed(self) -> list[str]:
        lines = self._losses.lines()
        lines += [f"{_number(count, 'frame')} could not be done, {reason}" for reason, count in self._errors.items()]
        return [f"{self._frames.name}: {line}" for line in lines] + self._not_exported

    @property
    def _losses(self) -> Losses:
        """What the video lacks, as far as it was read by this run and those that it goes on with."""
        return self._earlier_losses + self._frames.losses

    def work(self, advance: Callable[[], None]) -> None:
        """Go through all frames."""
        model, output = self._model, self._settings.output
        with ExitStack() as stack:
            lines = stack.enter_context(
                PeopleLines(
                    output / PEOPLE_LINES,
                    model.pose.keypoints,
                    resume=self._resumed,
                    begin=self._begin,
                    checksum=self._checksum,
                )
            )
            if self._overlay is not None:
                stack.enter_context(self._overlay)
            frames = model.video_loop.with_ahead(self._frames)
            state = self._begun(frames)
            for frame, ahead in frames:
                found = self._step(state, frame, ahead)
                advance()
                if found is None:
                    continue
                lines.add(found)
                if self._overlay is not None:
                    self._overlay.add(model, found)
                self._count += 1
                if self._count % self._settings.checkpoint == 0:
                    self._save(state, frame, ahead, lines)
            if self._overlay is not None:
                self._overlay.join()
            lines.finish()
        self._export()
        self._people = state.next_id - 1
        self._write_info(complete=True)
        with writing(output):
            (output / CHECKPOINT).unlink(missing_ok=True)

    def _export(self) -> None:
        """Put together the files that other programs read; one that cannot be written stops no other."""
        info, output = self._info, self._settings.output
        rows = RowsFile(output / PEOPLE_LINES)
        video = VideoRows(Path(info["name"]).stem or info["name"], info["width"], info["height"], info["fps"], rows)
        for name in self._settings.formats:
            try:
                export(output, video, [name], keypoints=self._model.pose.keypoints, info=info["info"])
            except UserError as error:  # noqa: PERF203 - a format for itself
                self._not_exported.append(str(error))

    def _begun(self, frames: Iterator[tuple[Frame, list[Frame]]]) -> VideoState:
        """Return the state to start from; where a run is resumed, the frame of its checkpoint is read once more."""
        loop = self._model.video_loop
        if self._state is None or self._resume_at is None:
            self._write_info(complete=False)
            return loop.begin(self._model)
        last, ahead = next(frames, (None, []))
        if last is None or last.index != self._resume_at:
            raise UserError(
                f"{self._frames.name}: frame {self._resume_at}, from which to go on, cannot be read; start anew with "
                "--overwrite"
            )
        state = self._state
        device = self._model.device
        state.people, state.retired = state.people.to(device), state.retired
        loop.resume(self._model, state, last.image.to(device), ahead)
        return state

    def _step(self, state: VideoState, frame: Frame, ahead: list[Frame]) -> TrackedFrame | None:
        """Follow people into a frame; None where the model breaks on it: then people go on from the frame before."""
        if not self._info["width"]:
            self._info |= {"width": frame.image.width, "height": frame.image.height}
            self._write_info(complete=False)
        before = replace(state)
        try:
            found = self._model.video_loop.step(self._model, state, frame, ahead)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            self._errors[reason] += 1
            self._in_a_row += 1
            if self._settings.debug or self._in_a_row >= _MOST_FAILURES:
                raise
            vars(state).update(vars(before))
            if state.previous is not None:
                self._model.video_loop.resume(
                    self._model, state, state.previous, [frame, *ahead][: self._model.video_loop.tracker.delay]
                )
            return None
        self._in_a_row = 0
        kept = found.people.instances.detections.scores >= self._settings.min_score
        return replace(found, people=found.people[kept])

    def _save(self, state: VideoState, frame: Frame, ahead: list[Frame], lines: PeopleLines) -> None:
        """Write the table from which a killed run goes on."""
        assert state.previous is not None
        overlay = {} if self._overlay is None else self._overlay.end_part()
        lines.sync()
        self._model.video_loop.resume(self._model, state, state.previous, ahead)
        numbers: JsonObject = {
            "frame": frame.index,
            "count": self._count,
            "losses": asdict(self._losses),
            "errors": dict(self._errors),
            "bytes": lines.end,
            "crc32": lines.checksum,
            "overlay": overlay,
            "next_id": state.next_id,
            "since_detection": state.since_detection,
            "since_masks": state.since_masks,
        }
        path = self._settings.output / CHECKPOINT
        with writing(path):
            save_records(path, {"people": state.people, "retired": state.retired}, numbers)
        self._write_info(complete=False)

    def _write_info(self, complete: bool) -> None:
        broken = self._losses.broken + self._losses.missing + self._errors.total()
        notices = [text.removeprefix(f"{self._frames.name}: ") for text in dict.fromkeys(self._said)]
        notices += [self._losses.cut] * bool(self._losses.cut)
        self._info |= {"complete": complete, "frames": self._count, "broken": broken, "notices": notices}
        with writing(self._settings.output / VIDEO_FILE):
            write_info(self._settings.output, self._info)

    def summary(self) -> str:
        """Say what was found, and where it is."""
        output = self._settings.output
        film = f", film in {output / OVERLAY}" if self._overlay is not None else ""
        people = "1 person" if self._people == 1 else f"{self._people} people"
        return f"{people} in {_number(self._count, 'frame')}: {output / PEOPLE_LINES}{film}"


class _Overlay:
    """The film with people drawn in it, written in parts that a kill cannot spoil, and joined at the end.

    numbers: what ``end_part`` returned at the checkpoint; parts behind it are made again.
    """

    def __init__(self, settings: VideoSettings, rate: float | None, numbers: JsonObject) -> None:
        self._folder, self._path = settings.output / PARTS, settings.output / OVERLAY
        self._drawn_score = settings.drawn_score
        self._rate = min(max(rate or 25.0, 1.0), 1000.0)
        self._parts: list[str] = numbers.get("parts", [])
        self._time: float = numbers.get("time", -1.0)
        self._size: tuple[int, int] | None = tuple(numbers["size"]) if "size" in numbers else None
        self._stack = ExitStack()
        self._write: Callable[..., None] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, model: BMP, found: TrackedFrame) -> None:
        from bmp.visualize import overlay

        people = found.people[found.people.instances.detections.scores >= self._drawn_score]
        picture = overlay(found.frame.image, people.instances, model.pose.keypoints, numbers=people.ids.tolist())
        pixels = np.asarray(picture)
        self._size = self._size or picture.size
        if picture.size != self._size:  # of a stream that changes
            pixels = cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA)
        if self._write is None:
            self._parts.append(f"{found.frame.index:09d}.mp4")
            self._write = self._stack.enter_context(video_writer(self._folder / self._parts[-1], self._rate))
        # Films whose times do not grow are drawn as fast as it goes where they do not.
        self._time = max(found.frame.time, self._time + 1e-3)
        with writing(self._path):
            self._write(pixels, self._time)

    def end_part(self) -> JsonObject:
        """Finish the part; return what a resumed run needs to know of the film so far."""
        self._stack.close()
        self._write = None
        return {"parts": list(self._parts), "time": self._time, "size": self._size}

    def join(self) -> None:
        """Put all parts together, and remove them."""
        self.end_part()
        join_videos([self._folder / name for name in self._parts], self._path)
        shutil.rmtree(self._folder)


def _expected(frames: VideoSource, settings: VideoSettings) -> int:
    """Return about how many frames there are to do; 0 where that is not known."""
    if frames.frames is None:
        return 0
    rate = frames.rate or 25.0
    first, last = (
        instant if isinstance(instant, int) else round(instant * rate)
        for instant in (settings.start, frames.frames if settings.end is None else settings.end)
    )
    return max(0, min(last, frames.frames) - first) // settings.every


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
