"""Tells whether the data of a picture are complete: decoders fill missing parts with black or grey, without a word.

It is asked with a picture that is decoded, and looks at the file only where the last rows could be such a filling.
"""

from __future__ import annotations

import io
import itertools
import re
import zlib
from collections.abc import Sequence
from typing import IO, Any, TypeAlias, cast

import numpy as np
import PIL.Image

# What ends a scan; \xff\x00 is a byte of data, and the others restart it.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_MOST_SEGMENTS = 10_000
_STANDALONE = (0x01, *range(0xD0, 0xDA))
_HUFFMAN_FRAMES = (0xC0, 0xC1, _PROGRESSIVE := 0xC2)
_END = b"\xff\xd9"
_MORE = bytes(range(1, 0xF0)) * 2 + _END
_Pieces: TypeAlias = "Sequence[bytes | tuple[int, int]]"  # bytes, or from where to where in a file
# Of Adam7's seven passes over an interlaced picture: first column and row, and the steps to the next ones.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def is_complete(picture: PIL.Image.Image, tiles: list[Any], file: IO[bytes], scans: JpegScans | None = None) -> bool:
    """Tell whether a file has all rows of the picture that was decoded from it.

    Asked of formats whose decoders do not tell: PNG, JPEG and TIFF.

    Args:
        picture: loaded, as it is stored.
        tiles: what ``picture.tile`` was before.
        file: can seek; where it stands afterwards is not said.
        scans: of a JPEG, from the same file.
    """
    if picture.format == "PNG":
        last = [picture.crop((0, y, picture.width, y + 1)) for y in range(max(0, picture.height - 2), picture.height)]
        return all(map(_has_something, last)) or _png_has_all_rows(file)
    if scans is not None:
        return _jpeg_is_complete(picture, file, [(0, file.seek(0, 2))], scans)
    if picture.format == "TIFF":
        strips = _jpeg_strips(picture)
        return _tiles_cover(picture, tiles) and all(_strip_is_complete(rows, file, strip) for rows, strip in strips)
    return True


def _tiles_cover(picture: PIL.Image.Image, tiles: list[Any]) -> bool:
    covered = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in tiles)
    return bool(covered >= picture.width * picture.height)


def _has_something(row: PIL.Image.Image) -> bool:
    return bool(np.asarray(row).any())


def _png_has_all_rows(file: IO[bytes]) -> bool:
    file.seek(8)
    header = file.read(25)
    width, height = int.from_bytes(header[8:12], "big"), int.from_bytes(header[12:16], "big")
    depth, channels = header[16], {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[header[17]]

    def size(columns: int, rows: int) -> int:
        return rows * (1 + -(-columns * depth * channels // 8)) if columns > 0 else 0

    passes = _ADAM7 if header[20] else ((0, 0, 1, 1),)
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


def _ends_flat(picture: PIL.Image.Image) -> bool:
    """Tell whether the last block of a JPEG is of one brightness, as blocks are that nothing is known of."""
    left, top = (picture.width - 1) // 8 * 8, (picture.height - 1) // 8 * 8
    block = picture.crop((left, top, picture.width, picture.height))
    grey = block.getchannel(0) if block.mode == "CMYK" else block.convert("L")
    darkest, brightest = cast("tuple[int, int]", grey.getextrema())
    return brightest - darkest <= 2


def _jpeg_is_complete(picture: PIL.Image.Image, file: IO[bytes], pieces: _Pieces, scans: JpegScans) -> bool:
    """Tell whether a JPEG has all scans, and more data behind the last one would leave it as it is.

    No decoder looks at what comes after the last block.
    """
    if scans.cut_off or scans.missing:
        return False
    if scans.end is None or not _ends_flat(picture):
        return True
    with PIL.Image.open(_joined(file, [*_cut(pieces, scans.end), _MORE]), formats=["JPEG"]) as longer:
        longer.load()
        if (longer.size, longer.mode) != (picture.size, picture.mode):  # a draft
            return True
        heights = range(0, picture.height, 256)
        windows = [(0, top, picture.width, min(top + 256, picture.height)) for top in heights]
        return all(np.array_equal(np.asarray(picture.crop(w)), np.asarray(longer.crop(w))) for w in windows)


class JpegScans:
    """What the scans of the first picture in a JPEG file have.

    count: how many there are; thousands in files of many thousands of segments, which are not read on. end: where the
    marker stands behind the last of them; None where there is none, and for arithmetic codes, which may leave out their
    last bytes. cut_off: whether the file ends before.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.count = 0
        self.end: int | None = None
        self.cut_off = False
        self._components: list[int] = []
        self._known: dict[int, set[int]] = {}
        self._progressive = False
        place = 2
        for segment in itertools.count():
            if segment > _MOST_SEGMENTS:
                self.count += segment
                return
            file.seek(place)
            start = file.read(4)
            if start[:2] == _END:
                self.end = place
                return
            self.cut_off = len(start) < 4
            if self.cut_off or start[0] != 0xFF:
                return
            kind, length = start[1], int.from_bytes(start[2:], "big")
            if kind == 0xFF:
                place += 1
            elif kind in _STANDALONE:
                place += 2
            elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC, *_HUFFMAN_FRAMES):
                return
            else:
                content = file.read(length - 2) if kind in (0xDA, *_HUFFMAN_FRAMES) else b""
                place += 2 + length
                if kind in _HUFFMAN_FRAMES:
                    self._progressive = kind == _PROGRESSIVE
                    self._components = list(content[6::3])
                elif kind == 0xDA:
                    self.count += 1
                    self._add(content)
                    found = _next_marker(file, place)
                    if found is None:
                        self.cut_off = True
                        return
                    place = found

    def _add(self, header: bytes) -> None:
        """Take down which coefficients a scan has to their last bit."""
        count = header[0] if header else 0
        if len(header) >= 4 + 2 * count and not header[3 + 2 * count] & 15:
            first, last = header[1 + 2 * count], header[2 + 2 * count]
            for component in header[1 : 1 + 2 * count : 2]:
                self._known.setdefault(component, set()).update(range(first, last + 1))

    @property
    def missing(self) -> bool:
        """Whether a component of a progressive JPEG lacks coefficients, or their last bits."""
        every = set(range(64))
        return self._progressive and any(not every <= self._known.get(own, set()) for own in self._components)


def _next_marker(file: IO[bytes], place: int) -> int | None:
    file.seek(place)
    tail = b""
    while chunk := file.read(2**16):
        data = tail + chunk
        if found := _MARKER.search(data):
            return place - len(tail) + found.end() - 2
        tail = data[-2:] if data.endswith(b"\xff") else b""
        place += len(chunk)
    return None


def _jpeg_strips(picture: PIL.Image.Image) -> list[tuple[int, list[bytes | tuple[int, int]]]]:
    """Return each strip or tile of a TIFF that is compressed as JPEG: its rows, and it as a JPEG of its own."""
    tags = picture.tag_v2  # type: ignore[attr-defined]
    if tags.get(259) != 7:
        return []
    striped, height = 273 in tags, tags[257]
    offsets, lengths = (tags.get(number) or () for number in ((273, 279) if striped else (324, 325)))
    rows = min(tags.get(278, height), height) if striped else tags.get(323, 0)
    tables = bytes(tags.get(347, b""))
    both = len(tables) > 4  # tables are a JPEG without a picture; what they begin with and end with is in the strip
    strips = []
    for index, (offset, length) in enumerate(zip(offsets, lengths, strict=False)):
        pieces: list[bytes | tuple[int, int]] = [tables[:-2] if both else b"", (offset + 2 * both, offset + length)]
        top = index * rows % (-(-height // max(1, rows)) * max(1, rows))  # of its plane
        strips.append((min(rows, height - top) if striped else rows, pieces))
    return strips


def _strip_is_complete(rows: int, file: IO[bytes], pieces: _Pieces) -> bool:
    try:
        with PIL.Image.open(_joined(file, pieces), formats=["JPEG"]) as strip:
            strip.load()
            scans = JpegScans(_joined(file, pieces))
            return strip.height >= rows and _jpeg_is_complete(strip, file, pieces, scans)
    except OSError as error:
        # Other strips Pillow alone cannot read, but libtiff could.
        return "truncated" not in str(error)


def _cut(pieces: _Pieces, end: int) -> list[bytes | tuple[int, int]]:
    """Return the first ``end`` bytes."""
    kept: list[bytes | tuple[int, int]] = []
    for piece in pieces:
        length = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
        wanted = min(length, end)
        kept.append(piece[:wanted] if isinstance(piece, bytes) else (piece[0], piece[0] + wanted))
        end -= wanted
    return kept


def _joined(file: IO[bytes], pieces: _Pieces) -> IO[bytes]:
    """Return the pieces as one file."""
    return cast("IO[bytes]", _Joined(file, pieces))


class _Joined(io.RawIOBase):
    """Pieces of a file, and bytes between them, as one file; nothing is copied."""

    def __init__(self, file: IO[bytes], pieces: _Pieces) -> None:
        self._file, self._pieces, self._place = file, pieces, 0
        self._lengths = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, sum(self._lengths))[whence])
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, count: int | None = -1) -> bytes:
        left = max(0, sum(self._lengths) - self._place)
        wanted = left if count is None or count < 0 else min(count, left)
        parts = []
        start = 0
        for piece, length in zip(self._pieces, self._lengths, strict=True):
            skipped = max(0, self._place - start)
            taken = min(length - skipped, wanted)
            if taken > 0:
                if isinstance(piece, bytes):
                    parts.append(piece[skipped : skipped + taken])
                else:
                    self._file.seek(piece[0] + skipped)
                    parts.append(self._file.read(taken))
                self._place += taken
                wanted -= taken
            start += length
        return b"".join(parts)
