"""Reads pictures into ``Image`` records and finds their files; it knows nothing of what happens to them next."""

from __future__ import annotations

import glob
import io
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.io.checksums import sha256_of
from bmp.io.decoding import ImageError as ImageError
from bmp.io.decoding import Notice, decode, has_heif, log_notice, one_line, to_rgb
from bmp.io.samples import scaled_to_8_bits
from bmp.io.urls import fetch, is_url
from bmp.structures import Image

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | IO[bytes] | PIL.Image.Image | npt.NDArray[np.generic] | Tensor | Image"
)
"""What ``load`` reads."""

HEIF_EXTENSIONS = (".heic", ".heif", ".hif")
EXTENSIONS = (
    ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""What counts as a picture in folders and glob patterns, in any case; a file named outright may be called anything.

With pillow-heif installed, those of ``HEIF_EXTENSIONS`` count as well.
"""

VIDEO_EXTENSIONS = frozenset([
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm",
    ".wmv",
])  # fmt: skip
"""What counts as a video in folders and patterns, in any case."""

_OTHER_PICTURES = frozenset([
    ".ai", ".arw", ".cr2", ".cr3", ".dng", ".emf", ".eps", ".exr", ".hdr", ".ico", ".jxl", ".nef", ".orf", ".pcx",
    ".pdf", ".ps", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga", ".wmf", ".xcf",
])  # fmt: skip
_HELD = 16 * 2**20  # bytes of a file that are kept in memory, rather than read a second time
_EXPECTED = (
    "expected uint8 0..255 or float 0..1, (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, or a tensor (3, H, W), "
    "with H and W at least 1"
)


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that was met while looking for pictures and not taken: where, and why in a few words."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """What inputs name.

    sources: the pictures, sorted, each once: paths, and URLs as strings. left_out: what lies among them in folders
    and matches of patterns and is no picture to be read, in the order it was met.
    """

    sources: list[Path | str]
    left_out: list[LeftOut]

    @property
    def paths(self) -> list[Path]:
        """Those of ``sources`` that are files."""
        return [source for source in self.sources if isinstance(source, Path)]

    def summary(self) -> list[str]:
        """Say what was left out: a line for each reason, with the number and the first few names."""
        lines = []
        for reason, count in Counter(entry.reason for entry in self.left_out).items():
            names = [str(entry.path) for entry in self.left_out if entry.reason == reason]
            more = ", ..." if count > 3 else ""
            lines.append(f"left out {count}, {reason}: {', '.join(names[:3])}{more}")
        return lines


def load(source: ImageSource, *, upright: bool = True, bgr: bool = False, notice: Notice = log_notice) -> Image:
    """Return ``source`` as 8-bit RGB.

    Args:
        source: a file, as a path, a URL (http, https), its bytes or a file object that can seek; a PIL image; an array
            or tensor (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, or a tensor (3, H, W); or an ``Image``, which
            comes back as it is. Numbers are uint8 in 0..255 or floating in 0..1: the type decides, not the values.
            A uint8 (H, W, 3) tensor is shared, not copied, and tensors stay on their device; everything else lands on
            the CPU.
        upright: turn pictures as their EXIF orientation says; otherwise pixels stay as they are stored, which is
            what labels made without regard to EXIF are for.
        bgr: channels of an array or tensor are blue, green, red, as OpenCV has them.
        notice: is called with a sentence where a picture is not shown as it stands in the file, such as a stretched
            range of grey or the first of many frames. By default that goes to the logger ``bmp``.

    - The formats are those of ``bmp.io.decoding.FORMATS``, by the content of a file whatever its name; of several
      frames the first is read.
    - Transparent pixels are laid on white, as a page would show them; black would look like a painted-out person.
    - Integers of more than 8 bits, grey or colour: white is the smallest of 255, 1023, 4095, 16383 and 65535 that the
      picture does not exceed, so 12 bits in 16 are not dark; PGM and PPM say it themselves. Of colours in JPEG 2000
      the upper 8 bits are read, and it is said where that leaves them dark. Float grey of a file is taken as 0..1 if
      all of it lies there, else as 0..255 if all of it lies there. Wider ranges are stretched from their minimum to
      their maximum. NaN becomes black, infinity white.

    Raises:
        ImageError: for what is missing, no regular file, broken, cut short, empty, not a picture, longer than
            ``MAX_FILE_BYTES`` or larger than 64 megapixels (another number in the environment variable
            ``BMP_MAX_MEGAPIXELS``), and for arrays of other types, shapes and ranges.
        TypeError: for any other kind of object.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, Tensor):
        return _from_tensor(source, bgr)
    if isinstance(source, np.ndarray):
        with one_line("the array"):
            return Image(torch.from_numpy(_array_to_rgb(source, bgr)))
    if isinstance(source, PIL.Image.Image):
        with one_line("the PIL image"):
            return _image(to_rgb(source, "the PIL image", upright=upright, notice=notice))
    if isinstance(source, bytes | bytearray | memoryview):
        return _image(decode(io.BytesIO(source), "the bytes", upright=upright, notice=notice))
    if isinstance(source, str | os.PathLike):
        with _opened(source) as (file, name):
            return _image(decode(file, name, upright=upright, notice=notice))
    if hasattr(source, "read") and hasattr(source, "seek"):
        name = str(getattr(source, "name", "the file object"))
        return _image(decode(source, name, upright=upright, notice=notice))
    raise TypeError(
        "expected a path, URL, bytes, file object, PIL image, uint8 or float array or tensor, got "
        f"{type(source).__name__}; open it with PIL.Image.open"
    )


def load_with_checksum(source: Path | str, *, notice: Notice = log_notice) -> tuple[Image, str]:
    """Return a picture, see ``load``, and the sha256 of its file or of what its URL gave, in hexadecimal.

    It is read once, and the checksum is that of what was decoded.
    """
    with _opened(source) as (file, name):
        if file.seek(0, os.SEEK_END) <= _HELD:
            file.seek(0)
            file = io.BytesIO(file.read())
        digest = sha256_of(file)
        return _image(decode(file, name, notice=notice)), digest


def checksum(source: Path | str) -> str | None:
    """Return the sha256 of a file, or of what a URL gives, in hexadecimal; None for what cannot be read."""
    try:
        with _opened(source) as (file, _):
            return sha256_of(file)
    except ImageError:
        return None


@contextmanager
def _opened(source: str | os.PathLike[str]) -> Iterator[tuple[IO[bytes], str]]:
    """Open a file, or what a URL gives, and say what it is called."""
    if isinstance(source, str) and is_url(source):
        yield io.BytesIO(fetch(source)), source
        return
    path = Path(source)
    with one_line(str(path)):
        # Asked first: opening a pipe would wait for somebody who writes into it.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder (directory)" if path.is_dir() else "no regular file"
            raise ImageError(f"{path}: {kind}; name a picture file")
        with path.open("rb") as file:
            yield file, str(path)


def find(inputs: str | Path | Sequence[str | Path]) -> Found:
    """Return the pictures that ``inputs`` name, sorted, each once, and what was left out among them.

    A file is taken whatever it is called, and a URL as it is. A folder gives every picture below it, at any depth;
    hidden folders are left out. A glob pattern (``*``, ``?``, ``[...]``, ``**`` for any depth) that the shell left
    alone is expanded, and its matches are searched like a folder's contents. Whatever else lies there is listed as
    left out: videos, pictures of kinds that are not read, hidden ones, other files, and folders that cannot be opened.

    Raises ``UserError`` for a path that does not exist and when no picture is found at all.
    """
    inputs = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    # Keyed by absolute path, so that a.jpg and ./a.jpg are one picture, spelled as it was named first.
    found: dict[str, Path | str] = {}
    left_out: dict[str, LeftOut] = {}
    for entry in inputs:
        if isinstance(entry, str) and is_url(entry):
            found.setdefault(entry, entry)
            continue
        for met in expand(str(entry)):
            path = met.path if isinstance(met, LeftOut) else met
            key = os.path.abspath(path)  # noqa: PTH100 - resolve() would also follow links
            if isinstance(met, LeftOut):
                left_out.setdefault(key, met)
            else:
                found.setdefault(key, met)
    result = Found(
        [found[key] for key in sorted(found)], [entry for key, entry in left_out.items() if key not in found]
    )
    if not found:
        looked = ", ".join(map(str, inputs)) or "no inputs"
        endings = f"looked for files ending in {' '.join(EXTENSIONS)}"
        raise UserError("; ".join([f"no pictures found in {looked}", endings, *result.summary()]))
    return result


def common_root(inputs: Sequence[str | Path]) -> Path:
    """Return the absolute folder that names of pictures start from: the deepest one with all folders and files named.

    It depends on what is named only, not on what lies in a folder at this moment; a pattern counts as the folder
    before its first ``*``, ``?`` or ``[``. Without files it is the working folder.
    """
    folders = []
    for entry in map(str, inputs):
        if is_url(entry):
            continue
        path = os.path.abspath(entry)  # noqa: PTH100 - resolve() would also follow links
        while not os.path.isdir(path):  # noqa: PTH112 - a file's folder, or what comes before a pattern
            path = os.path.dirname(path)  # noqa: PTH120
        folders.append(path)
    return Path(os.path.commonpath(folders) if folders else Path.cwd())


def output_names(sources: Sequence[str | Path], root: Path) -> list[str]:
    """Return one name a picture: its path below ``root``, an absolute folder, with forward slashes.

    Distinct files get distinct names, independent of their order, of the working folder and of the other files. Above
    ``root`` each step up is ``_up``, so that no name leads out of a folder it is put in. The names keep their
    extension: what is written for ``a.jpg`` is called ``a.jpg`` plus an extension of its own, which keeps it apart from
    what is written for ``a.png``. A URL is called by its host and path, with percent escapes for what file names do not
    take.

    Raises ``UserError`` for two sources of one name.
    """
    names: dict[str, str | Path] = {}
    for source in sources:
        if isinstance(source, str) and is_url(source):
            name = _url_name(source)
        else:
            path = PurePath(os.path.relpath(os.path.abspath(source), root))  # noqa: PTH100
            name = "/".join("_up" if part == ".." else part for part in path.parts)
        if name in names:
            raise UserError(f"{names[name]} and {source} would both be called {name}; do them in two runs")
        names[name] = source
    return list(names)


def _url_name(url: str) -> str:
    """Return host, path and query of ``url`` as a relative path."""
    _, _, rest = url.partition("://")
    plain = "".join(c if c.isalnum() or c in "/._-" else f"%{ord(c):02X}" for c in rest)
    # No part may lead out of the folder, or be empty.
    return "/".join(part.replace("..", "%2E%2E") for part in plain.split("/") if part not in ("", "."))


def is_picture(path: Path) -> bool:
    """Tell by its name whether a file is a picture that is read here."""
    suffix = path.suffix.lower()
    return suffix in EXTENSIONS or (suffix in HEIF_EXTENSIONS and has_heif())


def expand(entry: str) -> Iterator[Path | LeftOut]:
    """Yield what a path or a pattern names, see ``find``, in no particular order; nothing where a pattern fits nothing.

    Raises ``UserError`` for a path that does not exist.
    """
    if not entry:
        raise UserError(
            "expected a file, folder or glob pattern, got an empty name; check the variables in the command"
        )
    # Those of os.path answer no where pathlib raises: names that are too long, loops of links, NUL.
    if os.path.isdir(entry):  # noqa: PTH112
        yield from _walk(Path(entry))
    elif os.path.lexists(entry):
        yield Path(entry)
    elif glob.has_magic(entry):
        for match in sorted(map(Path, glob.glob(entry, recursive=True))):  # noqa: PTH207 - takes absolute patterns too
            if os.path.isdir(match):  # noqa: PTH112
                yield from _walk(match)
            else:
                yield _judge(match)
    else:
        raise UserError(f"{entry}: no such file or folder; check the spelling, seen from {Path.cwd()}")


def _walk(folder: Path) -> Iterator[Path | LeftOut]:
    """Yield what lies below ``folder``; links to folders are followed, and loops of links are entered once."""
    entered: set[str] = set()
    unread: list[LeftOut] = []

    def refuse(error: OSError) -> None:
        unread.append(LeftOut(Path(error.filename), f"folders that cannot be read ({error.strerror})"))

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        entered.add(os.path.realpath(parent))
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and os.path.realpath(Path(parent, name)) not in entered
        )
        yield from (_judge(Path(parent, name)) for name in sorted(files))
    yield from unread


def _judge(path: Path) -> Path | LeftOut:
    """Return ``path`` if it is a picture to be read, else why it is left out."""
    suffix = path.suffix.lower()
    if path.name.startswith(".") and not (is_picture(path) or suffix in VIDEO_EXTENSIONS):
        return LeftOut(path, "hidden files")
    if path.name.startswith("."):
        return LeftOut(path, "hidden pictures; name them to have them read")
    if is_picture(path):
        return path
    if suffix in HEIF_EXTENSIONS:
        return LeftOut(path, "HEIC pictures, which need pip install pillow-heif")
    if suffix in VIDEO_EXTENSIONS:
        return LeftOut(path, "videos, which are not done together with pictures; name them by themselves")
    if suffix in _OTHER_PICTURES:
        return LeftOut(path, f"{suffix} pictures, which are not read; convert them to PNG")
    return LeftOut(path, "files that are no pictures by their names")


def _image(pixels: npt.NDArray[np.uint8]) -> Image:
    return Image(torch.from_numpy(pixels))


def _from_tensor(values: Tensor, bgr: bool) -> Image:
    if values.ndim == 3 and values.shape[2] not in (3, 4) and values.shape[0] in (1, 3, 4):
        values = values.permute(1, 2, 0)
        values = values[..., 0] if values.shape[2] == 1 else values
    if values.dtype == torch.uint8 and values.ndim == 3 and values.shape[2] == 3 and values.numel():
        return Image(values.flip(2) if bgr else values)
    if values.is_floating_point():
        values = values.detach().float()  # NumPy has no bfloat16
    with one_line("the tensor"):
        return Image(torch.from_numpy(_array_to_rgb(values.cpu().numpy(), bgr)).to(values.device))


def _array_to_rgb(values: npt.NDArray[np.generic], bgr: bool) -> npt.NDArray[np.uint8]:
    """Return fresh uint8 (H, W, 3): records must not change when the caller's array does."""
    fits = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if (values.dtype != np.uint8 and values.dtype.kind != "f") or not fits or 0 in values.shape:
        raise ImageError(f"{_EXPECTED}, got {values.dtype} {values.shape}; scale, convert or transpose it")
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # NaN, too
            raise ImageError(
                f"expected floats in 0..1, got {low:g}..{high:g}; divide by 255, or convert to uint8 if they are 0..255"
            )
        values = scaled_to_8_bits(values, 0.0, 1.0)
    if bgr and values.ndim == 3:
        values = values[..., [2, 1, 0, *range(3, values.shape[2])]]
    return to_rgb(PIL.Image.fromarray(np.ascontiguousarray(values)), "the array")
