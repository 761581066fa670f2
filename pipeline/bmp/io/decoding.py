"""Decodes one picture into 8-bit RGB within bounds of memory; it knows no folder, no URL and no person.

A file may be anything: what is decoded is decided by its content, from a list of formats whose decoders run inside
this process, and by its size in pixels, before memory is taken for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import logging
import os
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageFile

from bmp.errors import UserError

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of what is read, whatever a file is called; HEIF needs the package pillow-heif.

Not among them: EPS and PostScript, which Pillow hands to Ghostscript, and formats that photos do not come in.
"""

MAX_MEGAPIXELS = 64.0
"""Larger pictures are refused, unless the environment variable ``BMP_MAX_MEGAPIXELS`` has another number.

For JPEG 2000 and WebP, which take more memory, the limit is 32 and 51.
"""

MAX_FILE_BYTES = 512 * 2**20
"""Longer files are refused: some decoders read the whole file first."""

Notice = Callable[[str], None]
"""Takes one sentence about a picture that was read, but not as it stands in the file."""

_VIDEOS = "videos come in a later version; give its frames as pictures (ffmpeg -i VIDEO frames/%05d.png)"
_UNREAD = (
    (b"%!PS", 0, "an EPS or PostScript file; convert it to PNG"),
    (b"\xc5\xd0\xd3\xc6", 0, "an EPS file; convert it to PNG"),
    (b"%PDF", 0, "a PDF file; convert its pages to PNG"),
    (b"<svg", 0, "an SVG drawing; convert it to PNG"),
    (b"8BPS", 0, "a Photoshop file; save it as PNG"),
    (b"version https://git-lfs", 0, "a pointer of git-lfs, not the picture; run git lfs pull"),
    (b"<!DOCTYPE html", 0, "a web page, not a picture; fetch the picture itself"),
    (b"<html", 0, "a web page, not a picture; fetch the picture itself"),
    (b"\x1aE\xdf\xa3", 0, f"a video; {_VIDEOS}"),
    (b"AVI ", 8, f"a video; {_VIDEOS}"),
    (b"\x00\x00\x01\xba", 0, f"a video; {_VIDEOS}"),
    (b"\x00\x00\x01\xb3", 0, f"a video; {_VIDEOS}"),
    (b"FLV", 0, f"a video; {_VIDEOS}"),
    (b"\x30\x26\xb2\x75", 0, f"a video; {_VIDEOS}"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_UNDONE = {6: 8, 8: 6}  # every other orientation undoes itself
_STRIP = 2**20  # pixels that are converted at a time
# What decoding takes at most, the result included: progressive JPEG keeps coefficients, AVIF and WebP whole planes, and
# JPEG 2000 planes of 32 bits, twice.
_BYTES_A_PIXEL = 16
_BYTES_A_PIXEL_OF = {"JPEG2000": 32, "WEBP": 20}
_logger = logging.getLogger("bmp")
# Without a handler of its own, what Pillow logs of broken pictures would be written to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class ImageError(UserError):
    """A picture cannot be read: one line that names it and says what is wrong."""


class _Budget:
    """Bytes that pictures take while they are decoded, shared by all threads; one that asks for too much waits."""

    def __init__(self, total: float) -> None:
        self._total, self._taken, self._changed = total, 0.0, threading.Condition()

    @contextmanager
    def take(self, count: float) -> Iterator[None]:
        with self._changed:
            # Whatever is larger than everything may still go alone.
            self._changed.wait_for(lambda: not self._taken or self._taken + count <= self._total)
            self._taken += count
        try:
            yield
        finally:
            with self._changed:
                self._taken -= count
                self._changed.notify_all()


class _Clamped:
    """A file that takes no memory for bytes beyond its end, however many a broken header asks for."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file, self._length = file, length

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._length - self._file.tell())
        return self._file.read(left if count < 0 else min(count, left))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


_budget = _Budget(MAX_MEGAPIXELS * 1e6 * _BYTES_A_PIXEL)


def log_notice(text: str) -> None:
    """Give a notice to the logger ``bmp``: where notices go unless somebody asks for them."""
    _logger.warning(text)


def decode(file: IO[bytes], name: str, *, upright: bool = True, notice: Notice = log_notice) -> npt.NDArray[np.uint8]:
    """Return the picture in ``file``, which can seek, as fresh uint8 (H, W, 3) RGB; see ``bmp.io.images.load``."""
    with one_line(name):
        length = file.seek(0, os.SEEK_END)
        if length > MAX_FILE_BYTES:
            raise ImageError(f"{name}: longer than {MAX_FILE_BYTES // 2**20} MB; make it smaller")
        file.seek(0)
        start = file.read(64)
        if not start:
            raise ImageError(f"{name}: the file is empty; fetch it again")
        _check_kind(start, name)
        file.seek(0)
        reader = cast("IO[bytes]", _Clamped(file, length))
        with PIL.Image.open(reader, formats=[kind for kind in FORMATS if kind in _known_formats()]) as picture:
            pixels = to_rgb(picture, name, upright=upright, notice=notice)
            if picture.format == "PNG" and not pixels[-2:].any() and not _png_has_all_rows(reader):
                raise ImageError(f"{name}: broken picture, rows are missing at its end; fetch it again")
        return pixels


def to_rgb(
    picture: PIL.Image.Image, name: str, *, upright: bool = True, notice: Notice = log_notice
) -> npt.NDArray[np.uint8]:
    """Return a PIL image as fresh uint8 (H, W, 3) RGB, converted in strips so that no second copy of it is made."""
    cost = _BYTES_A_PIXEL_OF.get(picture.format or "", _BYTES_A_PIXEL)
    _check_size(picture.size, cost, name)
    with _budget.take(picture.width * picture.height * cost):
        before = _orientation(picture)
        picture.load()
        _check_size(picture.size, cost, name)
        turn = _orientation(picture)  # some decoders turn the picture while they load it
        if not upright:
            turn = 1 if turn == before else _UNDONE.get(before, before)
        width, height = picture.size
        pixels = np.empty((width, height, 3) if turn >= 5 else (height, width, 3), np.uint8)
        stored = _as_stored(pixels, turn)
        convert = _converter(picture, lambda text: notice(f"{name}: {text}"))
        for top, strip in _strips(picture):
            stored[top : top + strip.height] = convert(strip)
    with contextlib.suppress(Exception):  # what comes after the first frame may be broken
        frames = getattr(picture, "n_frames", 1) if picture.format in ("AVIF", "GIF", "PNG", "TIFF", "WEBP") else 1
        if frames > 1:
            notice(f"{name}: the first of {frames} frames is read")
    return pixels


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an ``ImageError`` that names the picture, and keep libraries quiet."""
    _quiet_libtiff()
    try:
        with warnings.catch_warnings():
            # No wider than needed: pictures are read on threads, and leaving this out of order can keep the filter.
            warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")
            yield
    except ImageError:
        raise
    except PIL.UnidentifiedImageError:
        raise ImageError(
            f"{name}: not a picture, or of a kind that is not read (read are {', '.join(FORMATS)}); convert it to PNG"
        ) from None
    except PIL.Image.DecompressionBombError:
        raise _too_large(name) from None
    except MemoryError:
        raise ImageError(f"{name}: there is not enough memory to decode it; make it smaller") from None
    except OSError as error:
        # Of the system (missing, forbidden, a folder) where it has an error number, of a decoder where it has none.
        raise ImageError(f"{name}: {_reason(error)}") from None
    except Exception as error:  # decoders meet broken data with exceptions of any kind
        raise ImageError(f"{name}: broken picture, {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _check_kind(start: bytes, name: str) -> None:
    """Raise for what is no picture but has a name of its own, by its first bytes."""
    for magic, offset, words in _UNREAD:
        if start[offset:].lstrip(b" \t\r\n\xef\xbb\xbf").lower().startswith(magic.lower()):
            raise ImageError(f"{name}: {words}")
    if start[4:8] == b"ftyp" and start[8:12] not in (b"avif", b"avis", *_HEIF_BRANDS):
        raise ImageError(f"{name}: a video; {_VIDEOS}")
    # AVIF may call itself mif1, too.
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and b"avif" not in start and not has_heif():
        raise ImageError(f"{name}: a HEIC picture; pip install pillow-heif, or convert it to JPEG")


def has_heif() -> bool:
    """Tell whether HEIC pictures can be read here, that is, whether pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    if "HEIF" not in PIL.Image.OPEN:
        pillow_heif.register_heif_opener()
    return True


def _known_formats() -> frozenset[str]:
    PIL.Image.init()
    has_heif()
    return frozenset(PIL.Image.OPEN)


@functools.cache
def _quiet_libtiff() -> None:
    """Keep libtiff, which Pillow loads and which writes to stderr as it likes, from speaking between our lines."""
    decoders = importlib.util.find_spec("PIL._imaging")
    # Where the library cannot be reached like this, its lines appear: no reason to stop.
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(decoders.origin if decoders else None)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def _max_megapixels() -> float:
    text = os.environ.get("BMP_MAX_MEGAPIXELS", "")
    if not text:
        return MAX_MEGAPIXELS
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e6:
        raise UserError(f"BMP_MAX_MEGAPIXELS: expected a number above 0, got {text!r}; unset it for {MAX_MEGAPIXELS:g}")
    return limit


def _too_large(name: str, cost: int = _BYTES_A_PIXEL) -> ImageError:
    limit = _max_megapixels() * _BYTES_A_PIXEL / cost
    return ImageError(
        f"{name}: more than {limit:g} megapixels; make it smaller or cut it up, or set the environment variable "
        "BMP_MAX_MEGAPIXELS"
    )


def _check_size(size: tuple[int, int], cost: int, name: str) -> None:
    if min(size) < 1:
        raise ImageError(f"{name}: expected at least 1x1 pixels, got {size[0]}x{size[1]}; leave it out")
    if size[0] * size[1] * cost > _max_megapixels() * 1e6 * _BYTES_A_PIXEL:
        raise _too_large(name, cost)


def _orientation(picture: PIL.Image.Image) -> int:
    """Return how the picture is stored, from 1 (upright) to 8, as EXIF counts."""
    try:
        turn = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF data that cannot be parsed says nothing about good pixels
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _as_stored(upright: npt.NDArray[np.uint8], turn: int) -> npt.NDArray[np.uint8]:
    """Return a view of an upright picture in which each pixel lies where a camera of that orientation stored it."""
    if turn >= 5:
        upright = upright.transpose(1, 0, 2)
    down, right = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}[turn]
    return upright[::down, ::right]


def _strips(picture: PIL.Image.Image) -> Iterator[tuple[int, PIL.Image.Image]]:
    rows = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, rows):
        yield top, picture.crop((0, top, picture.width, min(top + rows, picture.height)))


def _converter(picture: PIL.Image.Image, notice: Notice) -> Callable[[PIL.Image.Image], npt.NDArray[np.uint8]]:
    """Return what makes uint8 (h, w, 3) of a strip of ``picture``, or (h, w, 1) where it is grey."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        # Pillow would clip these to 255 instead of scaling them.
        low, high = _range(picture, notice)
        return lambda strip: _scaled(np.asarray(strip), low, high)[..., None]
    if picture.has_transparency_data:
        return _on_white
    return lambda strip: np.asarray(strip.convert("RGB"))


def _on_white(strip: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    white = PIL.Image.new("RGBA", strip.size, "white")
    white.alpha_composite(strip.convert("RGBA"))
    return np.asarray(white.convert("RGB"))


def _range(picture: PIL.Image.Image, notice: Notice) -> tuple[float, float]:
    """Return the grey values of ``picture`` that become black and white; say so where that is not plain."""
    low, high, finite = np.inf, -np.inf, True
    for _, strip in _strips(picture):
        values = np.asarray(strip)
        known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        finite = finite and known.size == values.size
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    if not finite:
        notice("values that are no numbers (NaN) are shown black, infinite ones white")
    if low > high:
        return 0.0, 1.0
    real = picture.mode == "F"
    tops = (1.0, 255.0) if real else tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))
    if low >= 0 and high <= tops[-1]:
        top = next(top for top in tops if high <= top)
        if not real and high and top < tops[-1]:
            notice(f"grey values reach {high:g}, so {top:g} of {tops[-1]:g} is taken as white")
        return 0.0, top
    notice(f"grey values from {low:g} to {high:g} are stretched to black and white")
    return low, high


def _scaled(values: npt.NDArray[np.generic], low: float, high: float) -> npt.NDArray[np.uint8]:
    precise = np.float64 if max(abs(low), abs(high)) > 2**24 else np.float32
    with np.errstate(invalid="ignore"):  # some kinds of NaN
        known: npt.NDArray[np.float32 | np.float64] = values.astype(precise)
    if values.dtype.kind == "f":
        np.nan_to_num(known, copy=False, nan=low, posinf=high, neginf=low)
    np.clip(known, low, high, out=known)
    np.subtract(known, low, out=known)
    np.multiply(known, 255 / max(high - low, 1e-30), out=known)
    np.rint(known, out=known)
    return known.astype(np.uint8)


def scaled_to_8_bits(values: npt.NDArray[np.generic], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Scale grey or colour values from [low, high] to uint8 0..255, in strips of rows."""
    rows = max(1, _STRIP // max(1, values[:1].size))
    parts = [_scaled(values[top : top + rows], low, high) for top in range(0, len(values), rows)]
    return np.concatenate(parts) if parts else np.zeros(values.shape, np.uint8)


def _png_has_all_rows(file: IO[bytes]) -> bool:
    """Tell whether a PNG's data hold all its rows: Pillow leaves those black that a stream ends without.

    Asked only for pictures whose last rows are black.
    """
    file.seek(8)
    header = file.read(25)
    width, height = int.from_bytes(header[8:12], "big"), int.from_bytes(header[12:16], "big")
    depth, channels = header[16], {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[header[17]]

    def size(columns: int, rows: int) -> int:
        return rows * (1 + -(-columns * depth * channels // 8)) if columns > 0 else 0

    # Of Adam7's seven passes over an interlaced picture: first column and row, and the steps to the next ones.
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    passes = adam7 if header[20] else ((0, 0, 1, 1),)
    missing = sum(size(-((x - width) // dx), max(0, -((y - height) // dy))) for x, y, dx, dy in passes)
    inflate = zlib.decompressobj()
    file.seek(8)
    while missing > 0 and len(start := file.read(8)) == 8:
        data = file.read(int.from_bytes(start[:4], "big"))
        file.read(4)
        while start[4:] == b"IDAT" and missing > 0 and data and not inflate.eof:
            missing -= len(inflate.decompress(data, 2**20))
            data = inflate.unconsumed_tail
    return missing <= 0
