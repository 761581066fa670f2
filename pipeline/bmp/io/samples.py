"""Pictures of other than 8 bits a channel: which of their numbers are black and white.

Pillow keeps one byte of colours of 16 bits, so the other bytes are read a second time where a picture would be dark
without them. It reads the Netpbm formats number by number, which takes minutes; here they are read in strips. This
file knows no limit of size and no orientation.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import PIL.Image

Values = npt.NDArray[np.generic]

_STRIP = 2**20  # pixels at a time
_TOPS = tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))
_DEEP = re.compile(r"^(RGB|RGBX|RGBA|LA|R|G|B|A);16[BLN]$")
_NATIVE = "L" if sys.byteorder == "little" else "B"
_COMMENT = re.compile(rb"#[^\r\n]*")


@dataclass(frozen=True)
class Samples:
    """The numbers of a picture, to be gone through more than once.

    size: width and height. strips: gives the first row and numbers (h, w, C) of one strip after the other; C is 1 for
    grey, 3 for colours, and one more with opacity. white: the number that the file says is white, None where its range
    decides. transparent: the numbers (C,) of what is transparent.
    """

    size: tuple[int, int]
    strips: Callable[[], Iterator[tuple[int, Values]]]
    white: float | None = None
    transparent: tuple[int, ...] | None = None


def strips_of(picture: PIL.Image.Image) -> Iterator[tuple[int, PIL.Image.Image]]:
    """Yield a loaded picture in strips, each with its first row."""
    rows = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, rows):
        yield top, picture.crop((0, top, picture.width, min(top + rows, picture.height)))


def netpbm_samples(picture: PIL.Image.Image) -> Samples | None:
    """Return the numbers of a PPM or PGM that is not loaded; None for what Pillow reads quickly.

    ``ValueError`` where rows are missing or the text is none of numbers.
    """
    tiles = getattr(picture, "tile", [])
    if picture.format != "PPM" or len(tiles) != 1 or picture.mode not in ("L", "I", "RGB"):
        return None
    codec, _, offset, args = tiles[0]
    file: IO[bytes] = picture.fp  # type: ignore[attr-defined]
    if codec == "raw" and not str(args).startswith("I"):
        return None
    most = 65535 if codec == "raw" else args[1]
    channels = 3 if picture.mode == "RGB" else 1
    width, height = picture.size
    white = None if most == _TOPS[-1] else float(most)
    if codec == "ppm_plain":
        values = _plain_numbers(file, offset, width * height * channels, most).reshape(height, width, channels)
        return Samples(picture.size, lambda: _rows(values), white)
    kind = np.dtype(">u2" if most > 255 else "u1")
    row = width * channels * kind.itemsize
    if file.seek(0, 2) - offset < row * height:
        raise ValueError("rows are missing at its end")

    def strips() -> Iterator[tuple[int, Values]]:
        rows = max(1, _STRIP // width)
        for top in range(0, height, rows):
            file.seek(offset + top * row)
            data = file.read(row * min(rows, height - top))
            yield top, np.frombuffer(data, kind).reshape(-1, width, channels).clip(0, most)

    return Samples(picture.size, strips, white)


def _rows(values: Values) -> Iterator[tuple[int, Values]]:
    rows = max(1, _STRIP // values.shape[1])
    for top in range(0, len(values), rows):
        yield top, values[top : top + rows]


def _plain_numbers(file: IO[bytes], offset: int, count: int, most: int) -> npt.NDArray[np.uint16]:
    """Read ``count`` numbers that stand in a file as text, with comments from # to the end of a line."""
    numbers = np.empty(count, np.uint16)
    done, rest = 0, b""
    file.seek(offset)
    while done < count:
        chunk = file.read(2**20)
        rest += chunk
        # What may go on in the next chunk waits: a number, or a comment.
        ends = b"\r\n" if b"#" in rest else b"\r\n\t "
        end = max(rest.rfind(bytes([byte])) for byte in ends) + 1 if chunk else len(rest)
        text, rest = _COMMENT.sub(b"", rest[:end]), rest[end:]
        if len(rest) > 2**22 or text.translate(None, b"0123456789 \t\r\n\v\f"):
            raise ValueError("expected numbers as text")
        values = np.fromstring(text, np.int64, sep=" ")[: count - done] if text.strip() else numbers[:0]
        if not chunk and not values.size:
            raise ValueError("rows are missing at its end")
        if values.size and values.max() > most:
            raise ValueError(f"a number is above {most}, which is white")
        numbers[done : done + values.size] = values
        done += values.size
    return numbers


def mend_planes(picture: PIL.Image.Image) -> None:
    """Let Pillow read planes of 16 bits in a TIFF that is not compressed; it takes them for planes of 8."""
    bits = getattr(picture, "tag_v2", {}).get(258, ())
    if picture.format != "TIFF" or not isinstance(bits, tuple) or set(bits) != {16}:
        return
    order = "B" if picture.tag_v2.prefix == b"MM" else "L"  # type: ignore[attr-defined]
    picture.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
        if tile.codec_name == "raw" and tile.args[0] in ("R", "G", "B", "A")
        else tile
        for tile in picture.tile  # type: ignore[attr-defined]
    ]


def unread_bits(picture: PIL.Image.Image, file: IO[bytes]) -> int | None:
    """Return how many bits the colours of a JPEG 2000 picture have if only the upper 8 were read and all are dark."""
    if picture.format != "JPEG2000" or picture.mode not in ("RGB", "RGBA"):
        return None
    file.seek(0)
    start = file.read(2**16)
    header = start.find(b"\xff\x4f\xff\x51") + 2  # the codestream's start, and its table of sizes
    bits = (start[header + 40] & 127) + 1 if 2 <= header < len(start) - 40 else 8
    return bits if bits > 8 and _brightest(picture) < 64 else None


def _brightest(picture: PIL.Image.Image) -> float:
    """Return the greatest value of a picture of several channels, without its fourth, the opacity."""
    extrema = cast("tuple[tuple[float, float], ...]", picture.getextrema())
    return max(high for _, high in extrema[:3])


def deep_samples(
    picture: PIL.Image.Image, tiles: list[Any], again: Callable[[], PIL.Image.Image | None]
) -> Samples | None:
    """Return the numbers of a loaded picture that has more than 8 bits a channel; None for any other.

    Args:
        picture: loaded.
        tiles: what ``picture.tile`` was before.
        again: opens the same picture once more, or returns None where that is not possible.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        # Pillow would clip these to 255 instead of scaling them.
        key = picture.info.get("transparency")
        return Samples(
            picture.size,
            lambda: ((top, np.asarray(strip)[..., None]) for top, strip in strips_of(picture)),
            transparent=(key,) if isinstance(key, int) else None,
        )
    kinds = {kind for tile in tiles if (kind := _raw_mode(tile))}
    # Of other pictures the upper bytes are all there is to see, unless a colour of theirs is transparent.
    key = picture.info.get("transparency")
    keyed = isinstance(key, tuple)
    if not kinds or not all(map(_DEEP.match, kinds)) or (not keyed and _brightest(picture) >= 64):
        return None
    lower = again()
    if lower is None:
        return None
    mend_planes(lower)
    lower.tile = [_lower(tile) for tile in lower.tile]  # type: ignore[attr-defined]
    lower.load()
    return _pairs(picture, lower, kinds == {"LA;16B"}, key if keyed else None)


def _pairs(high: PIL.Image.Image, low: PIL.Image.Image, with_grey: bool, key: tuple[int, ...] | None) -> Samples:
    """Return numbers whose upper and lower bytes are in two pictures; grey with opacity has all in the second."""

    def strips() -> Iterator[tuple[int, Values]]:
        for (top, upper), (_, lower) in zip(strips_of(high), strips_of(low), strict=True):
            lows = np.asarray(lower).astype(np.uint16)
            if with_grey:
                yield top, lows[..., ::2] << 8 | lows[..., 1::2]
            else:
                yield top, np.asarray(upper).astype(np.uint16) << 8 | lows

    return Samples(high.size, strips, transparent=key)


def _raw_mode(tile: Any) -> str:
    args = tile.args
    return str(args if isinstance(args, str) else args[0] if args else "")


def _lower(tile: Any) -> Any:
    """Return how Pillow reads the lower bytes in place of the upper ones."""
    kind = _raw_mode(tile)
    if kind.startswith("LA"):
        kind = "RGBA"  # all four bytes
    else:
        order = kind[-1].replace("N", _NATIVE)
        kind = kind[:-1] + ("L" if order == "B" else "B")
    return tile._replace(args=kind if isinstance(tile.args, str) else (kind, *tile.args[1:]))


def to_eight_bits(samples: Samples, notice: Callable[[str], None]) -> Callable[[Values], npt.NDArray[np.uint8]]:
    """Return what makes uint8 (h, w, 3) of a strip of colours, (h, w, 1) of one of grey; opacity is laid on white.

    Which numbers are black and white is decided for the whole picture, and said where it is not plain.
    """
    low, high, opaque = _range(samples, notice)

    def convert(values: Values) -> npt.NDArray[np.uint8]:
        channels = values.shape[2] - (values.shape[2] in (2, 4))
        colours = scaled(values[..., :channels], low, high)
        if samples.transparent is not None:
            colours[(values[..., :channels] == np.array(samples.transparent)).all(axis=2)] = 255
        if channels < values.shape[2]:
            share = (values[..., channels:].astype(np.float32) / opaque).clip(0, 1)
            colours = np.rint(255 - share * (255 - colours.astype(np.float32))).astype(np.uint8)
        return colours

    return convert


def _range(samples: Samples, notice: Callable[[str], None]) -> tuple[float, float, float]:
    """Return the numbers that become black and white, and the one of full opacity; say so where that is not plain."""
    low, high, opaque, finite, real = np.inf, -np.inf, 0.0, True, False
    if samples.white is not None:
        return 0.0, samples.white, samples.white
    for _, strip in samples.strips():
        channels = strip.shape[2] - (strip.shape[2] in (2, 4))
        values = strip[..., :channels]
        real = values.dtype.kind == "f"
        known = values[np.isfinite(values)] if real else values
        finite = finite and known.size == values.size
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
        if channels < strip.shape[2]:
            opaque = max(opaque, float(strip[..., channels].max()))
    if not finite:
        notice("values that are no numbers (NaN) are shown black, infinite ones white")
    opaque = next((top for top in _TOPS if opaque <= top), _TOPS[-1])
    if low > high:
        return 0.0, 1.0, opaque
    tops = (1.0, 255.0) if real else _TOPS
    if low >= 0 and high <= tops[-1]:
        top = next(top for top in tops if high <= top)
        if not real and high and top < tops[-1]:
            notice(f"its values reach {high:g}, so {top:g} of {tops[-1]:g} is taken as white")
        return 0.0, top, opaque
    notice(f"its values from {low:g} to {high:g} are stretched to black and white")
    return low, high, opaque


def scaled(values: Values, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Scale numbers from [low, high] to uint8 0..255; NaN is 0, infinity 255."""
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


def scaled_to_8_bits(values: Values, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Scale numbers of any shape like ``scaled``, in strips of rows, so that no large copy is made."""
    rows = max(1, _STRIP // max(1, values[:1].size))
    parts = [scaled(values[top : top + rows], low, high) for top in range(0, len(values), rows)]
    return np.concatenate(parts) if parts else np.zeros(values.shape, np.uint8)
