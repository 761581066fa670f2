"""Feeds broken pictures to the reader: each is an ``Image`` or one line. Run it as a command for more than the test does.

python tests/fuzz/pictures.py --count 10000
"""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import frame
import numpy as np
import PIL.Image

from bmp.io import images

KINDS = {
    "avif": {"speed": 10},
    "bmp": {},
    "gif": {},
    "jfif": {"format": "JPEG", "quality": 60},
    "jpg": {"progressive": True, "subsampling": 0},
    "jp2": {},
    "heic": {},
    "png": {},
    "ppm": {},
    "tif": {"compression": "tiff_lzw"},
    "tiff": {"compression": "jpeg"},
    "webp": {"lossless": True},
}
MODES = ("RGB", "RGB", "L", "RGBA", "P", "1", "I;16", "CMYK", "F", "LA")
SIZES = (0, 1, 2, 255, 256, 16_383, 40_000, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def picture(chance: random.Random) -> tuple[str, bytes]:
    """Return the suffix and bytes of a small good picture, with EXIF and perhaps ICC data that are good or garbage."""
    suffix = chance.choice(list(KINDS))
    values = np.random.default_rng(chance.randrange(2**32)).integers(0, 255, (chance.randint(1, 40), 33, 3), np.uint8)
    plain = PIL.Image.fromarray(values)
    options = dict(KINDS[suffix])
    if chance.random() < 0.5:
        exif = PIL.Image.Exif()
        exif[0x0112] = chance.choice([0, 1, 3, 6, 8, 9, 65_535])
        exif[0x010E] = "x" * chance.choice([0, 5, 5000])
        options["exif"] = chance.randbytes(chance.randint(0, 300)) if chance.random() < 0.3 else exif.tobytes()
    if chance.random() < 0.3:
        options["icc_profile"] = chance.randbytes(chance.choice([1, 128, 3000]))
    mode = chance.choice(MODES)
    for attempt in ((mode, options), (mode, KINDS[suffix]), ("RGB", KINDS[suffix]), ("RGB", {})):
        stream = io.BytesIO()
        stream.name = f"picture.{suffix}"
        try:  # not every format has every mode or takes garbage
            grey = plain.convert("L")
            shown = PIL.Image.fromarray(np.asarray(grey, np.uint16) * 16) if attempt[0] == "I;16" else plain
            (shown if attempt[0] == "I;16" else plain.convert(attempt[0])).save(stream, **attempt[1])
        except Exception:
            continue
        return suffix, stream.getvalue()
    raise AssertionError(f"no {suffix} could be made")


def cut(chance: random.Random, data: bytearray) -> None:
    del data[chance.randrange(len(data)) :]


def grow(chance: random.Random, data: bytearray) -> None:
    where = chance.randrange(len(data))
    data[where:where] = chance.choice([chance.randbytes(chance.randint(1, 500)), data[: chance.randrange(len(data))]])


def flip(chance: random.Random, data: bytearray) -> None:
    for _ in range(chance.choice([1, 1, 3, 30])):
        data[chance.randrange(len(data))] = chance.randrange(256)


def header(chance: random.Random, data: bytearray) -> None:
    """Change the first bytes, where sizes, depths and kinds stand."""
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(min(len(data), 64))] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])


def size(chance: random.Random, data: bytearray) -> None:
    """Put a size, as all formats have them in some place, anywhere."""
    code = chance.choice(["<H", ">H", "<I", ">I"])
    value = chance.choice(SIZES) % 2 ** (8 * struct.calcsize(code))
    where = chance.randrange(max(1, min(len(data), chance.choice([40, 200, 10**9])) - 4))
    data[where : where + struct.calcsize(code)] = struct.pack(code, value)


def dimensions(chance: random.Random, data: bytearray) -> None:
    """Replace width or height, of the picture as it was made, wherever they stand."""
    width = 33
    for code in chance.sample(["<H", ">H", "<I", ">I"], 4):
        where = data.find(struct.pack(code, width))
        if where >= 0:
            value = chance.choice([1, 8_000, 13_000, *SIZES]) % 2 ** (8 * struct.calcsize(code))
            data[where : where + struct.calcsize(code)] = struct.pack(code, value)
            return


def mend_png(data: bytearray) -> None:
    """Give the chunks of a PNG right checksums again, so that what was changed is read."""
    where = 8
    while where + 12 <= len(data):
        length = int.from_bytes(data[where : where + 4], "big")
        end = where + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[where + 4 : end]))
        where = end + 4


MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (cut, grow, flip, header, size, dimensions)


def read_picture(chance: random.Random, folder: Path) -> str:
    """Read a picture that was changed in one to three ways, perhaps under the name of another format."""
    suffix, good = picture(chance)
    data = bytearray(good)
    for mutate in chance.choices(MUTATIONS, k=chance.randint(1, 3)):
        if data:
            mutate(chance, data)
    if suffix == "png" and chance.random() < 0.7:
        mend_png(data)
    path = folder / f"picture.{suffix if chance.random() < 0.9 else chance.choice(list(KINDS))}"
    path.write_bytes(data)
    notices: list[str] = []
    try:
        image = images.load(path, upright=chance.random() < 0.8, notice=notices.append)
    except images.ImageError as error:
        words = str(error)
        assert words.startswith(f"{path}: "), words
        assert words.splitlines() == [words], words
        assert "enough memory" not in words, "took more memory than the bound"
        return "refused"
    assert all(notice.startswith(f"{path}: ") and "\n" not in notice for notice in notices), notices
    assert image.pixels.numel() <= 64_000_000 * 3
    return "read"


if __name__ == "__main__":
    sys.exit(frame.main({"pictures": read_picture}))
