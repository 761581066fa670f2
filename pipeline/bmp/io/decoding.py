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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageFile

from bmp.errors import UserError
from bmp.io.completeness import JpegScans, is_complete
from bmp.io.samples import Samples, deep_samples, mend_planes, netpbm_samples, strips_of, to_eight_bits, unread_bits

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

_MOST_WHOLE = 100 * 2**20  # bytes of a file that its decoder needs all at once
_MOST_PNG = 256 * 2**20  # bytes; what stands behind the pixels of a PNG is kept, and twice for a moment
_MOST_METADATA = 16 * 2**20  # bytes beside the pixels, such as EXIF, colour profiles and small pictures
_MOST_PIECES = 2_000_000
_MOST_TILE = 256 * 2**20  # bytes that a decoder of TIFF takes beside the picture
_MOST_SCANS = 200  # of a progressive JPEG; each takes as long as the whole picture, and usual are ten
_MOST_COUNTED = 2**18  # bytes of a file whose frames are counted; it takes long where there are thousands

Notice = Callable[[str], None]
"""Takes one sentence about a picture that was read, but not as it stands in the file."""

_A_VIDEO = "a video, not a picture; name it without pictures beside it, as in bmp VIDEO, or use model.video in Python"
_UNREAD = (
    (b"%!PS", 0, "an EPS or PostScript file; convert it to PNG"),
    (b"\xc5\xd0\xd3\xc6", 0, "an EPS file; convert it to PNG"),
    (b"%PDF", 0, "a PDF file; convert its pages to PNG"),
    (b"<svg", 0, "an SVG drawing; convert it to PNG"),
    (b"8BPS", 0, "a Photoshop file; save it as PNG"),
    (b"version https://git-lfs", 0, "a pointer of git-lfs, not the picture; run git lfs pull"),
    (b"<!DOCTYPE html", 0, "a web page, not a picture; fetch the picture itself"),
    (b"<html", 0, "a web page, not a picture; fetch the picture itself"),
    (b"\x1aE\xdf\xa3", 0, _A_VIDEO),
    (b"AVI ", 8, _A_VIDEO),
    (b"\x00\x00\x01\xba", 0, _A_VIDEO),
    (b"\x00\x00\x01\xb3", 0, _A_VIDEO),
    (b"FLV", 0, _A_VIDEO),
    (b"\x30\x26\xb2\x75", 0, _A_VIDEO),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_UNDONE = {6: 8, 8: 6}  # every other orientation undoes itself
_MOST_RUN_LENGTHS = 8e6  # pixels of a BMP that is coded so; Pillow takes seconds for them, one by one
# What decoding takes at most, the result included: progressive JPEG keeps coefficients, AVIF and WebP whole planes, and
# JPEG 2000 planes of 32 bits, twice.
_BYTES_A_PIXEL = 16
_BYTES_A_PIXEL_OF = {"JPEG2000": 32, "WEBP": 20}
_LOGGER = logging.getLogger("bmp")
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


class _Reader:
    """A file that a broken or hostile header cannot make cost more than it is worth.

    It takes no memory for bytes beyond its end, however many are asked for. What stands before and behind the pixels,
    which decoders keep, may have so many bytes, and may be read in so many pieces.

    Args:
        file: can seek.
        length: of the file in bytes.
        name: for errors.
        whole: its decoder needs all of the file at once.
    """

    def __init__(self, file: IO[bytes], length: int, name: str, whole: bool) -> None:
        self._file, self._length, self._name, self._whole = file, length, name, whole
        self._calls = self._bytes = 0
        self.opening = True

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._length - self._file.tell())
        wanted = left if count < 0 else min(count, left)
        self._calls += 1
        self._bytes = wanted + self._bytes * self.opening
        if (self._bytes > _MOST_METADATA and not self._whole) or self._calls > _MOST_PIECES:
            raise ImageError(f"{self._name}: too much beside its pixels; convert it to PNG")
        return self._file.read(wanted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


_budget = _Budget(MAX_MEGAPIXELS * 1e6 * _BYTES_A_PIXEL)


def log_notice(text: str) -> None:
    """Give a notice to the logger ``bmp``: where notices go unless somebody asks for them."""
    _LOGGER.warning(text)


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
        whole = start[:4] == b"RIFF" or start[4:8] == b"ftyp"
        most = _MOST_WHOLE if whole else _MOST_PNG if start.startswith(b"\x89PNG") else length
        if length > most:
            raise ImageError(f"{name}: longer than {most >> 20} MB, the most of its kind; make it smaller")
        reader = _Reader(file, length, name, whole)
        formats = [kind for kind in FORMATS if kind in _known_formats()]
        with PIL.Image.open(cast("IO[bytes]", reader), formats=formats) as picture:
            reader.opening = False
            return to_rgb(picture, name, upright=upright, notice=notice)


def to_rgb(
    picture: PIL.Image.Image, name: str, *, upright: bool = True, notice: Notice = log_notice
) -> npt.NDArray[np.uint8]:
    """Return a PIL image as fresh uint8 (H, W, 3) RGB, converted in strips so that no second copy of it is made."""
    cost = _BYTES_A_PIXEL_OF.get(picture.format or "", _BYTES_A_PIXEL)
    _check_size(picture.size, cost, name)
    with _budget.take(picture.width * picture.height * cost):
        mend_planes(picture)
        tiles, file = list(getattr(picture, "tile", ())), getattr(picture, "fp", None)
        if picture.format == "PNG":
            picture.load()  # its EXIF data may stand behind the pixels
        before = _orientation(picture)
        samples = netpbm_samples(picture)
        if samples is None:
            samples = _loaded(picture, tiles, file, name, notice)
            _check_size(picture.size, cost, name)
        turn = _orientation(picture)  # some decoders turn the picture while they load it
        if not upright:
            turn = 1 if turn == before else _UNDONE.get(before, before)
        width, height = picture.size
        pixels = np.empty((width, height, 3) if turn >= 5 else (height, width, 3), np.uint8)
        stored = _as_stored(pixels, turn)
        if samples is not None:
            scale = to_eight_bits(samples, lambda text: notice(f"{name}: {text}"))
            for top, values in samples.strips():
                stored[top : top + len(values)] = scale(values)
        else:
            convert = _on_white if picture.has_transparency_data else _as_rgb
            for top, strip in strips_of(picture):
                stored[top : top + strip.height] = convert(strip)
    with contextlib.suppress(Exception):  # what comes after the first frame may be broken
        if picture.format in ("AVIF", "GIF", "PNG", "TIFF", "WEBP") and getattr(picture, "is_animated", False):
            # Those that are read further are still open.
            held: Any = getattr(picture, "_fp", None)
            counted = picture.format not in ("GIF", "TIFF") or held.seek(0, os.SEEK_END) <= _MOST_COUNTED
            frames = str(picture.n_frames) if counted else "several"  # type: ignore[attr-defined]
            notice(f"{name}: the first of {frames} frames is read")
    return pixels


def _check_tiles(picture: PIL.Image.Image, name: str) -> None:
    """Raise for a TIFF whose tiles or strips take more memory than the picture may."""
    tags: Any = picture.tag_v2  # type: ignore[attr-defined]
    width, height = tags[256], tags[257]
    across, down = (tags[322], tags[323]) if 322 in tags else (width, min(height, tags.get(278, height)))
    if tags.get(259) != 1 and across * down * sum(tags.get(258, (1,))) / 8 > _MOST_TILE:
        raise ImageError(f"{name}: tiles or strips of more than {_MOST_TILE >> 20} MB; save it anew with smaller ones")


def _loaded(picture: PIL.Image.Image, tiles: list[Any], file: Any, name: str, notice: Notice) -> Samples | None:
    """Let Pillow decode a picture, see that it is all there, and return its numbers if they are not of 8 bits.

    tiles, file: those of the picture before it was loaded; none for a picture that is of no file.
    """
    if any(tile.codec_name == "bmp_rle" for tile in tiles) and picture.width * picture.height > _MOST_RUN_LENGTHS:
        raise ImageError(f"{name}: run lengths of more than {_MOST_RUN_LENGTHS / 1e6:g} megapixels; convert it to PNG")
    scans = None
    if tiles and file is not None and picture.format in ("JPEG", "MPO"):
        scans = JpegScans(file)
        if scans.count > _MOST_SCANS:
            raise ImageError(f"{name}: more than {_MOST_SCANS} scans, each as long as a whole picture; save it anew")
    if picture.format == "TIFF":
        _check_tiles(picture, name)
    picture.load()
    if not tiles or file is None:
        return deep_samples(picture, tiles, lambda: None)
    frame = picture.tell()
    with contextlib.ExitStack() as opened:
        if getattr(file, "closed", False):  # Pillow had opened it
            file = opened.enter_context(Path(picture.filename).open("rb"))  # type: ignore[attr-defined]

        def again() -> PIL.Image.Image:
            file.seek(0)
            same = PIL.Image.open(file, formats=[picture.format or ""])
            same.seek(frame)
            return same

        if not is_complete(picture, tiles, file, scans):
            raise ImageError(f"{name}: broken picture, rows are missing at its end; fetch it again")
        if (bits := unread_bits(picture, file)) is not None:
            notice(f"{name}: of its {bits} bits the upper 8 are read, and none of them is bright; convert it to PNG")
        return deep_samples(picture, tiles, again)


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
        raise ImageError(f"{name}: {_A_VIDEO}")
    # AVIF may call itself mif1, too.
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and b"avif" not in start and not has_heif():
        raise ImageError(f"{name}: a HEIC picture; pip install pillow-heif, or convert it to JPEG")


def is_picture_file(path: Path) -> bool:
    """Tell by its content, whatever its name, whether a file is a picture that is read here, broken ones included."""
    formats = [kind for kind in FORMATS if kind in _known_formats()]
    try:
        with path.open("rb") as file:
            _check_kind(file.read(64), str(path))
            file.seek(0)
            with PIL.Image.open(file, formats=formats):
                return True
    except Exception:  # decoders meet other data with exceptions of any kind
        return False


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


def _as_rgb(strip: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(strip.convert("RGB"))


def _on_white(strip: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    white = PIL.Image.new("RGBA", strip.size, "white")
    white.alpha_composite(strip.convert("RGBA"))
    return np.asarray(white.convert("RGB"))
