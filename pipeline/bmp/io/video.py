"""Reads the frames of a video one at a time, and writes videos; it knows pictures and times, no person and no network.

PyAV (the extra ``video``), which carries FFmpeg, does the decoding. A film is known by its content, whatever its name.
Memory does not grow with its length: one frame is held, and what the decoder keeps to put frames in order.
"""

from __future__ import annotations

import array
import errno
import heapq
import itertools
import math
import os
import re
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch

from bmp.errors import MissingExtraError, UserError
from bmp.io.atomic import replacing_path, writing
from bmp.io.decoding import Notice, log_notice
from bmp.structures import Frame, Image

if TYPE_CHECKING:
    import av
    import av.container
    import av.video

Instant: TypeAlias = "int | float"
"""A place in a video: whole numbers (int) are numbers of frames from 0, others (float) are seconds."""

_Decoded: TypeAlias = "tuple[int, float, av.VideoFrame]"  # number, time in seconds, content
_STILL_FORMATS = ("image2", "tty", "subtitles")  # FFmpeg shows any text as a film of a terminal
_MOST_REORDERED = 64  # frames that are decoded before one that is shown earlier; H.264 and H.265 allow 16
_MOST_ERRORS_IN_A_ROW = 1000  # reads that fail before a stream counts as ended
_CLOCK = 90_000  # ticks a second, that of MPEG
_BT709, _UNSPECIFIED = 1, 2  # matrices of colours, as H.273 numbers them
_LIMITED = 1  # range of colours, as FFmpeg numbers it
_HIGH_DEFINITION = 720  # rows
_INACCURATE = 0.5  # seconds by which the length that a film announces may be wrong
_NO_TURN = 0.01  # share of a pixel's step that is rounding and no turn
_MOST_GAPS = 0.1  # share of intervals that are longer than others where something is lost, and no rate varies


class VideoError(UserError):
    """A video cannot be read: one line that names it and says what is wrong."""


@dataclass
class Losses:
    """What a video lacks that should have been in it.

    broken: frames that cannot be decoded. missing: frames of which nothing is left, where the others come at one rate.
    damaged: frames that are given, but did not arrive as they were sent. cut: how it ends before its end; empty where
    it does not.
    """

    broken: int = 0
    missing: int = 0
    damaged: int = 0
    cut: str = ""

    def __add__(self, later: Losses) -> Losses:
        """Return what the parts of a video lack that were read one after the other."""
        counts = (self.broken + later.broken, self.missing + later.missing, self.damaged + later.damaged)
        return Losses(*counts, later.cut or self.cut)

    def lines(self) -> list[str]:
        """Say it, a line each.

        Examples:
            >>> Losses(broken=2, cut="ends after 7 frames").lines()
            ['2 frames could not be decoded; all others were done', 'ends after 7 frames']
        """
        said = (
            (self.broken, "could not be decoded; all others were done"),
            (self.missing, "missing between others, which were done"),
            (self.damaged, "damaged; what could be read of them was done"),
        )
        lines = [f"{_frames(count)} {text}" for count, text in said if count]
        return lines + [self.cut] * bool(self.cut)


class VideoReader:
    """The frames of a video, in the order in which they are shown.

    Iterate over it once, and close it, or use it as a context manager; a loop may be left at any time.

    - Frames are turned as the video's metadata says, which is how telephones store upright films.
    - Times are those of the frames, which need not come at one rate. A film that starts late on its own clock
      starts at 0.
    - What cannot be decoded is skipped and counted in ``losses``; all other frames are given, with their own numbers
      and times. Frames that build on a broken one may be distorted up to the next key frame, which nothing in them
      says, as nothing says that bytes are wrong which can be decoded all the same. A stream that is cut off ends the
      iteration, as one does that ends, such as a camera that is switched off.
    - Colours of 10 and 12 bits, of limited and full range and of each matrix become 8-bit RGB; those of high dynamic
      range are not toned down, which is reported.

    Args:
        source: a file, or the address of a stream that FFmpeg reads (``rtsp://``, ``http://``, ``udp://`` ...).
        start: the first frame that is given, in seconds (float) or as the number of a frame (int). Frames before it are
            sought over where possible, and decoded where not.
        end: likewise; the first frame that is no longer given.
        every: give each so many-th frame, from the first one given.
        format: how FFmpeg calls a device, such as "v4l2" for ``/dev/video0``; known by the content if None.
        notice: is called with a sentence about what is not as it should be; by default for the logger ``bmp``.

    Attributes:
        name: of the source, for messages.
        frames: how many the video says it has; None where it does not say, as cameras do.
        rate: average frames a second; None where unknown.
        losses: what the part lacks, so far.

    Raises:
        VideoError: for what is missing, a folder, empty, broken, not a video or without a video stream.
        UserError: for a part that there is not, and where PyAV is missing.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        start: Instant = 0,
        end: Instant | None = None,
        every: int = 1,
        format: str | None = None,
        notice: Notice = log_notice,
    ) -> None:
        if every < 1:
            raise UserError(f"expected every=1 or more, got {every}; 10 gives each tenth frame")
        for name, instant in (("start", start), ("end", end)):
            if instant is not None and not 0 <= instant < math.inf:
                raise UserError(f"expected {name} to be 0 or more, in seconds or frames, got {instant}")
        if end is not None and isinstance(start, int) == isinstance(end, int) and end <= start:
            raise UserError(_no_part(start, end))
        self._av = _import_av()
        self.name = os.fspath(source)
        self._start, self._end, self._every, self._format, self._notice = start, end, every, format, notice
        self._is_file = format is None and "://" not in self.name
        self._container, self._stream = self._open()
        stream = self._stream
        self._time_base: Fraction = stream.time_base or Fraction(1, _CLOCK)
        self._discarded = 0  # packets that are not to be shown, as far as they were read to find the beginning
        self._origin: int | None = None  # the time stamp of the first frame, once it is known
        # Other containers than MP4 and MOV count otherwise, such as AVI, which counts repeated frames.
        self.frames: int | None = stream.frames if stream.frames and "mov" in self._container.format.name else None
        self.rate: float | None = float(stream.average_rate) if stream.average_rate else None
        self.losses = Losses()
        self._rhythm = _Rhythm(self.rate, self._time_base) if "matroska" in self._container.format.name else None
        self._said: set[str] = set()
        self._begun = False

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file or stream back; nothing can be read afterwards."""
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._begun:
            raise UserError(f"{self.name}: was read already; open it again")
        self._begun = True
        target = self._locate() if self._is_file and self._start > 0 else None
        frames = None if target is None else self._sought(*target)
        if frames is None:  # the beginning, or a stream in which nothing can be found without decoding it
            frames = self._decoded(0)
        first, ended = None, False
        for index, time, frame in frames:
            if _is_before(index, time, self._start):
                continue
            if self._end is not None and not _is_before(index, time, self._end):
                ended = True
                break
            first = index if first is None else first
            if (index - first) % self._every == 0:
                yield Frame(index, time, self._image(frame))
        if first is None and self._end is not None and ended:
            raise UserError(f"{self.name}: {_no_part(self._start, self._end)}")
        if first is None:
            raise VideoError(f"{self.name}: {self._nothing()}")

    def _nothing(self) -> str:
        if self._start > 0:
            return f"has no frame from {_word(self._start)} on; start earlier"
        return "none of its frames can be decoded; the file is broken, make or fetch it again"

    def _open(self) -> tuple[av.container.InputContainer, av.video.VideoStream]:
        if self._is_file:
            _check_file(Path(self.name))
        try:
            # Said outright that it is a file, as FFmpeg takes what stands before a colon for a protocol.
            container = self._av.open(f"file:{self.name}" if self._is_file else self.name, format=self._format)
        except (self._av.FFmpegError, OSError) as error:
            hint = "is broken or no video" if isinstance(error, self._av.InvalidDataError) else "cannot be opened"
            raise VideoError(f"{self.name}: {hint} ({error.strerror}); name a film that FFmpeg plays") from None
        form = container.format.name
        streams = [stream for stream in container.streams.video if not stream.disposition & _cover(self._av)]
        if form in _STILL_FORMATS or form.endswith("_pipe") or not streams:
            kinds = ", ".join(sorted({str(stream.type) for stream in container.streams})) or "nothing"
            container.close()
            if form in _STILL_FORMATS or form.endswith("_pipe"):
                raise VideoError(f"{self.name}: a text or a single picture, not a video; name a film")
            raise VideoError(f"{self.name}: has no video stream, only {kinds}; name a film")
        stream = streams[0]
        # Threads over slices give the same frames as one alone; those over frames hold several more.
        stream.thread_type = "SLICE"
        return container, stream

    def _packets(
        self, container: av.container.InputContainer, stream: av.video.VideoStream
    ) -> Iterator[av.Packet[av.video.VideoStream]]:
        """Yield what the file holds of the stream, and go on behind what cannot be read."""
        errors = 0
        while errors < _MOST_ERRORS_IN_A_ROW:
            try:
                for packet in container.demux(stream):
                    errors = 0
                    yield packet
                return
            except self._av.InvalidDataError:  # noqa: PERF203 - each read may fail, and the next one may not
                errors += 1
            except (self._av.FFmpegError, OSError) as error:
                reason = error.strerror or str(error)
                if self._is_cut(container, error):
                    self.losses.cut = f"was cut off ({reason}); what came before was done"
                else:
                    self._say(f"the stream has ended ({reason})")
                break
        else:
            self.losses.cut = "was cut off (its rest cannot be read); what came before was done"
        yield self._av.Packet()  # empty, as at a proper end: the decoder gives the frames that it still holds

    def _is_cut(self, container: av.container.InputContainer, error: av.FFmpegError | OSError) -> bool:
        """Tell a film that breaks off from a camera that ends, of which FFmpeg says an error as well."""
        if self._format is not None:
            return False
        return self._is_file or container.size > 0 or error.errno != errno.EIO

    def _locate(self) -> tuple[int, int] | None:
        """Return number and time stamp of the first frame to be given, without decoding; None where that is not known.

        All time stamps up to there are read, as frames are not stored in the order in which they are shown.
        """
        container, stream = self._open()
        start = self._start
        ticks = 0 if isinstance(start, int) else self._ticks(start)
        stamps = array.array("q")
        lowest: int | None = None
        beyond = -start if isinstance(start, int) else 0  # how many frames behind the start were read
        try:
            for packet in self._packets(container, stream):
                self._discarded += packet.is_discard
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                stamps.append(packet.pts)
                lowest = packet.pts if lowest is None else min(lowest, packet.pts)
                beyond += isinstance(start, int) or packet.pts >= lowest + ticks
                if beyond > _MOST_REORDERED:
                    break
        finally:
            container.close()
        ordered = np.sort(np.asarray(stamps, dtype=np.int64))
        index = start if isinstance(start, int) else int(np.searchsorted(ordered, (lowest or 0) + ticks))
        if index >= len(ordered):
            raise VideoError(f"{self.name}: {self._nothing()}; it has {_frames(len(ordered))}")
        self._origin = lowest
        return index, int(ordered[index])

    def _sought(self, index: int, stamp: int) -> Iterator[_Decoded] | None:
        """Seek and return the frames from that one on; None if seeking does not lead there."""
        try:
            self._container.seek(stamp, stream=self._stream)
        except (self._av.FFmpegError, OSError):
            self._reopen()
            return None
        frames = self._decoded(index, stamp)
        first = next(frames, None)
        if first is None or first[2].pts != stamp:
            frames.close()
            self._reopen()
            return None

        return itertools.chain([first], frames)

    def _reopen(self) -> None:
        self._container.close()
        self._container, self._stream = self._open()
        self.losses = Losses()

    def _decoded(self, index: int, stamp: int | None = None) -> Generator[_Decoded, None, None]:
        """Yield number, time and content of frames.

        Args:
            index: the number of the first.
            stamp: of the first; what is shown before it is dropped. None for whatever comes first.
        """
        waiting: list[int] = []  # time stamps of what was read and not shown yet, a heap
        damaged: set[int] = set()  # those of packets that the container says are not as they were
        index -= 1
        last: int | None = None
        discarded = self._discarded
        for packet in self._packets(self._container, self._stream):
            discarded += packet.is_discard
            if packet.size and packet.is_corrupt and packet.pts is not None:
                damaged.add(packet.pts)
            if packet.size and not packet.is_discard and packet.pts is not None:
                heapq.heappush(waiting, packet.pts)
            while len(waiting) > _MOST_REORDERED:  # nothing comes any more of what is broken from here on
                missed = heapq.heappop(waiting)
                self._origin = missed if self._origin is None else self._origin
                if stamp is None or missed >= stamp:
                    index += 1
                    self.losses.broken += self._is_inside(index, missed)
            for frame in self._decode(packet):
                if stamp is not None and frame.pts is not None and frame.pts < stamp:
                    continue
                if self._origin is None and frame.pts is not None:
                    self._origin = min([frame.pts, *waiting[:1]])
                while waiting and frame.pts is not None and waiting[0] < frame.pts:
                    missed = heapq.heappop(waiting)
                    # What has passed without a frame could not be decoded, but for what lies before the part.
                    if (stamp is None or missed >= stamp) and missed != last:
                        index += 1
                        self.losses.broken += self._is_inside(index, missed)
                if waiting and waiting[0] == frame.pts:
                    heapq.heappop(waiting)
                index += 1
                if frame.pts is not None and last is not None and frame.pts <= last:
                    self._say("the times of its frames do not always grow")
                last = frame.pts
                inside = self._is_inside(index, frame.pts)
                if frame.is_corrupt:
                    self.losses.broken += inside
                    continue
                if damaged:
                    self.losses.damaged += inside and frame.pts in damaged
                    damaged = {late for late in damaged if frame.pts is None or late > frame.pts}
                yield index, self._time(index, frame.pts), frame
        for missed in sorted(waiting):
            index += 1
            self.losses.broken += self._is_inside(index, missed)
        if self._rhythm is not None:
            self.losses.missing += self._rhythm.missing
        self._check_end(index + 1, discarded, last)

    def _check_end(self, frames: int, discarded: int, last: int | None) -> None:
        """Note where fewer frames were read than the film says that it has, or less time."""
        if self.frames is not None:
            if frames + discarded < self.frames:
                self.losses.cut = f"ends after {frames} of the {self.frames} frames that it announces; it was cut short"
            return
        announced = self._announced_end()
        if announced is None or last is None:
            return
        end = float(last * self._time_base) + 1 / (self.rate or 25.0)
        if end < announced - _INACCURATE:
            self.losses.cut = f"ends after {end:.2f} of the {announced:.2f} s that it announces; it was cut short"

    def _announced_end(self) -> float | None:
        """Return when the film ends in seconds of its own clock, as its beginning says; None where it does not."""
        spoken = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", self._stream.metadata.get("DURATION", ""))
        if spoken:
            hours, minutes, seconds = map(float, spoken.groups())
            return 3600 * hours + 60 * minutes + seconds
        # That of the container is that of its longest stream, and of others than these a guess.
        known = {"matroska", "webm", "flv"} & set(self._container.format.name.split(","))
        if known and len(self._container.streams) == 1 and self._container.duration:
            return self._container.duration / 1e6
        return None

    def _decode(self, packet: av.Packet[av.video.VideoStream]) -> list[av.VideoFrame]:
        try:
            return self._stream.decode(packet)
        except self._av.EOFError:
            return []
        except self._av.FFmpegError:
            # With a time stamp it is counted when that has passed, as a decoder may speak of an earlier packet.
            self.losses.broken += packet.pts is None and packet.size > 0
            return []

    def _is_inside(self, index: int, stamp: int | None) -> bool:
        """Tell whether a frame is in the part that is read."""
        time = self._time(index, stamp)
        inside = not _is_before(index, time, self._start) and (self._end is None or _is_before(index, time, self._end))
        if inside and self._rhythm is not None:
            self._rhythm.add(stamp)
        return inside

    def _time(self, index: int, stamp: int | None) -> float:
        if stamp is None:
            self._say("its frames have no times; they are taken to come at one rate")
            return index / (self.rate or 25.0)
        return float((stamp - (self._origin or 0)) * self._time_base)

    def _ticks(self, time: float) -> int:
        """Return the smallest whole number of ticks that is, rounded to a float as times are given, not before it."""
        ticks = math.ceil(Fraction(time) / self._time_base)
        return ticks - (float((ticks - 1) * self._time_base) >= time)

    def _image(self, frame: av.VideoFrame) -> Image:
        if frame.color_trc in (16, 18):  # PQ and HLG, as H.273 numbers them
            self._say("of high dynamic range, its colours look pale here; convert it to SDR")
        # Films that do not say how colours are coded follow the custom of their size.
        unsaid = frame.colorspace == _UNSPECIFIED and frame.height >= _HIGH_DEFINITION
        pixels = np.asarray(frame.to_ndarray(format="rgb24", src_colorspace="ITU709" if unsaid else None), np.uint8)
        upright = _upright(pixels, frame)
        if upright is None:
            self._say(f"is to be turned by {frame.rotation} degrees, which is left undone")
        return Image(torch.from_numpy(np.ascontiguousarray(pixels if upright is None else upright)))

    def _say(self, text: str) -> None:
        """Give a notice once."""
        if text not in self._said:
            self._said.add(text)
            self._notice(f"{self.name}: {text}")


def _upright(pixels: npt.NDArray[np.uint8], frame: av.VideoFrame) -> npt.NDArray[np.uint8] | None:
    """Return a view of the pixels as they are to be shown: turned by quarters and mirrored; None for other turns.

    FFmpeg says it as a matrix in fixed point, which maps places of the stored picture to those of the shown one. The
    angle that PyAV makes of it is 180 degrees for a picture that is mirrored and does not stand on its head.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    steps = np.frombuffer(cast("bytes", matrix), np.int32).reshape(3, 3)[:2, :2].astype(np.int64)
    steps[np.abs(steps) <= _NO_TURN * np.abs(steps).max()] = 0
    # Rows are what becomes of a step to the right, and of one down.
    (across, down), (right, below) = steps.tolist()
    if across and below and not (down or right):
        return pixels[:: -1 if below < 0 else 1, :: -1 if across < 0 else 1]
    if down and right and not (across or below):
        return pixels.transpose(1, 0, 2)[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
    return None if steps.any() else pixels


class _Rhythm:
    """Finds the gaps between frames that come at one rate otherwise.

    A damaged Matroska file is read on behind the damage, and nothing else says that there was something.
    """

    def __init__(self, rate: float | None, time_base: Fraction) -> None:
        self._step = float(1 / (rate or 25.0) / time_base)
        self._last: int | None = None
        self._intervals = self._gaps = self._missing = 0

    def add(self, stamp: int | None) -> None:
        """Note a frame."""
        if stamp is None or (self._last is not None and stamp <= self._last):
            return
        if self._last is not None:
            steps = round((stamp - self._last) / self._step)
            self._intervals += 1
            self._gaps += steps > 1
            self._missing += max(0, steps - 1)
        self._last = stamp

    @property
    def missing(self) -> int:
        """How many frames fit into the gaps; none where there are so many that there is no rhythm."""
        return self._missing if self._gaps <= _MOST_GAPS * self._intervals else 0


@contextmanager
def video_writer(path: Path, rate: float = 25.0) -> Iterator[Callable[[npt.NDArray[np.uint8], float | None], None]]:
    """Write an MP4 file, H.264 in yuv420p, which every browser plays; it is there once the context ends without error.

    The context gives a function that takes a picture, uint8 (H, W, 3) RGB, and when it is shown in seconds, each later
    than the one before; None for the next at ``rate``. All pictures have the size of the first. H.264 wants even sides:
    an odd one is made longer by repeating its last row or column.

    Raises:
        UserError: the file cannot be written, PyAV is missing, there is no picture, or one does not fit.
    """
    av = _import_av()
    if not 0 < rate <= 1000:
        raise UserError(f"expected a rate of up to 1000 frames a second, got {rate}")
    with writing(path), replacing_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        encoder = _Encoder(av, container, rate, path)
        yield encoder.add
        encoder.finish()


def join_videos(parts: Sequence[Path], path: Path) -> None:
    """Join films of ``video_writer`` that follow each other in time, without encoding them again.

    Raises:
        UserError: the file cannot be written, a part cannot be read, or there is none.
    """
    av = _import_av()
    if not parts:
        raise UserError(f"{path}: a video without a part cannot be written; give at least one")
    with writing(path), replacing_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as joined:
        stream = None
        for part in parts:
            with _readable(av, part, path), av.open(f"file:{part}") as container:
                source = container.streams.video[0]
                stream = stream or joined.add_stream_from_template(source)
                for packet in container.demux(source):
                    if packet.size:
                        packet.stream = stream
                        joined.mux(packet)


@contextmanager
def _readable(av: Any, part: Path, path: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, IndexError) as error:
        raise UserError(f"{part}: cannot be joined to {path.name} ({error}); start anew with --overwrite") from None


class _Encoder:
    def __init__(self, av: Any, container: av.container.OutputContainer, rate: float, path: Path) -> None:
        self._av, self._container, self._path = av, container, path
        self._rate = Fraction(rate).limit_denominator(1001)
        self._size: tuple[int, ...] | None = None
        self._stream: Any = None
        self._tick = -1

    def add(self, pixels: npt.NDArray[np.uint8], time: float | None = None) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise UserError(f"{self._path}: expected pictures uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
        self._size = self._size or pixels.shape
        if pixels.shape != self._size:
            raise UserError(
                f"{self._path}: expected pictures of the size of the first, {self._size}, got {pixels.shape}"
            )
        tick = self._tick + round(_CLOCK / self._rate) if time is None else round(time * _CLOCK)
        if self._tick < 0 and time is None:
            tick = 0
        if tick <= self._tick:
            raise UserError(f"{self._path}: expected times that grow, got {time} s after {self._tick / _CLOCK:g} s")
        height, width = pixels.shape[:2]
        padded = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._begin(padded.shape[0], padded.shape[1])
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = tick, Fraction(1, _CLOCK)
        self._tick = tick
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        if self._stream is None:
            raise UserError(f"{self._path}: a video without a picture cannot be written; give at least one")
        self._container.mux(self._stream.encode(None))

    def _begin(self, height: int, width: int) -> Any:
        # Without frames that build on later ones, so that parts can be joined without encoding them again.
        options = {"preset": "veryfast", "bf": "0"}
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, _CLOCK)
        # Said in the file, as players guess the matrix from the size.
        context.colorspace, context.color_range = _BT709, _LIMITED
        return stream


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("reading and writing videos", "av", "video", error) from error
    return av


def _cover(av: Any) -> Any:
    """Return the mark of a stream that is a picture of a record's cover."""
    return av.stream.Disposition.attached_pic


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: {getattr(error, 'strerror', None) or error}; check the spelling") from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(f"{path}: a folder (directory); name a video file")
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        raise VideoError(f"{path}: the file is empty; make or fetch it again")


def _is_before(index: int, time: float, instant: Instant) -> bool:
    return index < instant if isinstance(instant, int) else time < instant


def _no_part(start: Instant, end: Instant) -> str:
    return f"there is nothing from {_word(start)} to {_word(end)}; give an end after the start"


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"


def _word(instant: Instant) -> str:
    return f"frame {instant}" if isinstance(instant, int) else f"{instant:g} s"
