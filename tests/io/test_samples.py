"""Pictures of other than 8 bits a channel: which numbers become black and white."""

import io
import struct
import time
import zlib

import numpy as np
import PIL.Image
import pytest

from bmp.io import images

HEIGHT, WIDTH = 6, 5
COLOURS = (np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3) * 4095 // 89).astype(np.uint16)
GREY = COLOURS[..., 2:]
OPAQUE = np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)
PATHS_OF = {0: GREY, 2: COLOURS}


def png(values, kind, key=b""):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    transparent = chunk(b"tRNS", key) if key else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + transparent
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(values, planes, order, extra=()):
    """An uncompressed TIFF of 16 bits, all channels of a pixel together or (``planes`` 2) one after the other."""
    height, width, channels = values.shape
    data = [values] if planes == 1 else [values[..., index] for index in range(channels)]
    strips = [np.ascontiguousarray(strip).astype(f"{order}u2").tobytes() for strip in data]
    offsets = [8 + sum(map(len, strips[:index])) for index in range(len(strips))]
    behind, entries = b"", b""
    rows = [(256, 4, [width]), (257, 4, [height]), (258, 3, [16] * channels), (259, 3, [1]), (262, 3, [2])]
    rows += [
        (273, 4, offsets),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [*map(len, strips)]),
        (284, 3, [planes]),
    ]
    for number, kind, numbers in rows + ([(338, 3, list(extra))] if extra else []):
        content = struct.pack(order + {3: "H", 4: "I"}[kind] * len(numbers), *numbers)
        if len(content) > 4:
            behind, content = behind + content, struct.pack(order + "I", 8 + sum(map(len, strips)) + len(behind))
        entries += struct.pack(order + "HHI", number, kind, len(numbers)) + content.ljust(4, b"\0")
    table = 8 + sum(map(len, strips)) + len(behind)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", table)
    return head + b"".join(strips) + behind + struct.pack(order + "H", len(entries) // 12) + entries + bytes(4)


def netpbm(magic, most, values):
    return f"{magic} {WIDTH} {HEIGHT}\n{most}\n".encode() + values


def text(values):
    return b"# made by hand\n" + b" \n".join(map(b"%d".__mod__, values.ravel().tolist()))


WITH_ALPHA = np.concatenate([COLOURS, OPAQUE], 2)
SAID = "of 65535 is taken as white"
PICTURES = {
    "png": (png(COLOURS, 2), COLOURS, SAID),
    "png with opacity": (png(WITH_ALPHA, 6), COLOURS, SAID),
    "png with opacity of 12 bits": (png(np.concatenate([COLOURS, OPAQUE // 16], 2), 6), COLOURS, SAID),
    "grey png": (png(GREY, 0), GREY, SAID),
    "grey png with opacity": (png(np.concatenate([GREY, OPAQUE], 2), 4), GREY, SAID),
    "tiff": (tiff(COLOURS, 1, "<"), COLOURS, SAID),
    "tiff of a Mac": (tiff(COLOURS, 1, ">"), COLOURS, SAID),
    "tiff in planes": (tiff(COLOURS, 2, "<"), COLOURS, SAID),
    "tiff of a Mac in planes": (tiff(COLOURS, 2, ">"), COLOURS, SAID),
    "tiff with opacity": (tiff(WITH_ALPHA, 1, "<", extra=[2]), COLOURS, SAID),
    "tiff with something more": (tiff(WITH_ALPHA, 1, "<", extra=[0]), COLOURS, SAID),
    "ppm": (netpbm("P6", 65535, COLOURS.astype(">u2").tobytes()), COLOURS, SAID),
    "ppm that says white": (netpbm("P6", 4095, COLOURS.astype(">u2").tobytes()), COLOURS, None),
    "ppm as text": (netpbm("P3", 65535, text(COLOURS)), COLOURS, SAID),
    "pgm": (netpbm("P5", 65535, GREY.astype(">u2").tobytes()), GREY, SAID),
    "pgm that says white": (netpbm("P5", 4095, GREY.astype(">u2").tobytes()), GREY, None),
    "pgm as text": (netpbm("P2", 4095, text(GREY)), GREY, None),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_twelve_bits_in_sixteen_are_not_dark_in_any_format(tmp_path, name):
    data, values, words = PICTURES[name]
    path = tmp_path / "deep"
    path.write_bytes(data)
    for source in (data, path, PIL.Image.open(path), PIL.Image.open(io.BytesIO(data))):
        said: list[str] = []
        pixels = images.load(source, notice=said.append).pixels.numpy()
        assert (pixels == np.rint(values / 4095 * 255)).all()
        assert len(said) == (words is not None)
        assert words is None or words in said[0]


@pytest.mark.parametrize("data", [png(COLOURS * 16, 2), tiff(COLOURS * 16, 1, "<"), tiff(COLOURS * 16, 2, ">")])
def test_colours_of_the_whole_range_stay(data):
    said: list[str] = []
    assert np.abs(images.load(data, notice=said.append).pixels.numpy().astype(int) - COLOURS // 16).max() == 0
    assert said == []


def test_half_opaque_dark_colours_lie_on_white():
    half = np.concatenate([COLOURS, OPAQUE // 2], 2)
    expected = 255 - (255 - COLOURS / 4095 * 255) / 2
    assert np.abs(images.load(png(half, 6)).pixels.numpy() - expected).max() <= 1


@pytest.mark.parametrize("kind", [0, 2])
def test_a_transparent_colour_of_16_bits(kind):
    values = PATHS_OF[kind] * 16
    key = values[2, 3]
    pixels = images.load(png(values, kind, key.astype(">u2").tobytes())).pixels.numpy()
    assert (pixels[2, 3] == 255).all()
    assert (pixels[1, 3] < 255).all()


def test_dark_colours_of_jpeg_2000_are_said(tmp_path):
    import cv2

    path = tmp_path / "dark.jp2"
    cv2.imwrite(str(path), np.full((32, 32, 3), 4000, np.uint16))
    said: list[str] = []
    assert images.load(path, notice=said.append).pixels.max() < 64
    assert said == [f"{path}: of its 16 bits the upper 8 are read, and none of them is bright; convert it to PNG"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"P6 5 6 65535\n" + bytes(179), "rows are missing"),
        (b"P6 5 6 100\n" + bytes(89), "rows are missing"),
        (b"P3 5 6 255\n1 2 3", "rows are missing"),
        (b"P3 8000 8000 65535\n", "rows are missing"),
        (b"P3 1 1 255\n1 x 3", "numbers as text"),
        (b"P2 1 1 255\n-3", "numbers as text"),
        (b"P2 1 1 255\n300", "above 255"),
        (b"P2 1 1 255\n" + b"9" * 5_000_000, "numbers as text"),
        (b"P3 2 2 255\n" + b"#" * 5_000_000, "numbers as text"),
    ],
)
def test_broken_netpbm(data, words):
    with pytest.raises(images.ImageError, match=words):
        images.load(data)


@pytest.mark.slow
def test_netpbm_is_read_in_strips_and_not_number_by_number():
    started = time.process_time()
    assert images.load(b"P6 1000 2000 1023\n" + bytes(12_000_000)).pixels.shape == (2000, 1000, 3)
    assert images.load(b"P3 1000 100 1023\n" + b"1000 " * 300_000).pixels.shape == (100, 1000, 3)
    assert time.process_time() - started < 3, "Pillow takes 8 seconds"
