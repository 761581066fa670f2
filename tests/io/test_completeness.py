"""Pictures whose files are whole by their structure while the data in them end early."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from bmp.io import images

HEIGHT, WIDTH = 60, 52
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
PIXELS = np.stack([(COLUMNS * 3 + ROWS) % 256, (ROWS * 2 + COLUMNS) % 256, COLUMNS * ROWS // 50 % 256], 2).astype("u1")
GREY_BELOW = np.concatenate([PIXELS[:20], np.full_like(PIXELS[20:], 128)])


def encoded(mode, pixels=PIXELS, **options):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(file, **options)
    return file.getvalue()


def png(mode, share, passes=((0, 0, 1, 1),)):
    """A PNG with the first ``share`` of its bytes of pixels, compressed and with all checksums right."""
    picture = PIL.Image.fromarray(PIXELS).convert(mode)
    values = np.asarray(picture).reshape(HEIGHT, WIDTH, -1)
    data = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in values[y::dy, x::dx])
    kind = {"L": 0, "RGB": 2, "P": 3, "LA": 4, "RGBA": 6}[mode]
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, kind, 0, 0, len(passes) > 1)
    palette = [(b"PLTE", bytes(reversed(picture.getpalette("RGB"))))] if mode == "P" else []
    content = (b"IDAT", zlib.compress(data[: int(len(data) * share)]))
    chunks = [(b"IHDR", header), *palette, content, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


MISSING = "the bytes: broken picture, rows are missing at its end; fetch it again"


def refused(data):
    """Return what is said, the same whether Pillow notices or we do."""
    with pytest.raises(images.ImageError) as caught:
        images.load(data)
    words = str(caught.value)
    return MISSING if "truncated" in words or "broken data stream" in words else words


@pytest.mark.parametrize("passes", [((0, 0, 1, 1),), ADAM7], ids=["rows", "interlaced"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA"])
def test_a_png_has_all_rows_in_any_mode(mode, passes):
    assert images.load(png(mode, 1, passes)).pixels.shape == (HEIGHT, WIDTH, 3)
    for share in (0.2, 0.9, 0.99):
        assert refused(png(mode, share, passes)) == MISSING


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_ends_early_and_has_its_end_marker(mode, options):
    whole = encoded(mode, format="JPEG", **options)
    first = whole.find(b"\xff\xda")
    for share in (0.1, 0.5):
        cut = whole[: first + int((len(whole) - first) * share)].rstrip(b"\xff") + b"\xff\xd9"
        assert refused(cut) == MISSING


@pytest.mark.parametrize("tail", [b"", b"\0\0", b"garbage" * 50])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_ends_grey_is_whole(mode, options, tail):
    data = encoded(mode, GREY_BELOW, format="JPEG", **options)
    assert images.load(data + tail).pixels.shape == (HEIGHT, WIDTH, 3)


def tags(data):
    """Yield number, kind and place of each tag of a TIFF, little-endian; and how many values it has."""
    offset = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, offset)[0]):
        place = offset + 2 + 12 * index
        yield *struct.unpack_from("<HHI", data, place), place + 8


def changed(data, wanted, change):
    """Return a TIFF in which a tag with one value has another."""
    data = bytearray(data)
    for number, kind, count, place in tags(data):
        if number == wanted:
            assert count == 1
            struct.pack_into({3: "<H", 4: "<I"}[kind], data, place, change(struct.unpack_from("<I", data, place)[0]))
    return bytes(data)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_tiff_of_jpegs_that_end_early_or_are_too_low(mode):
    whole = encoded(mode, format="TIFF", compression="jpeg", strip_size=2**20)
    assert images.load(whole).pixels.shape == (HEIGHT, WIDTH, 3)
    assert images.load(encoded(mode, GREY_BELOW, format="TIFF", compression="jpeg")).pixels.shape == (HEIGHT, WIDTH, 3)
    assert refused(changed(whole, 279, lambda length: length // 2)) == MISSING
    higher = changed(changed(whole, 257, lambda height: 2 * height), 278, lambda rows: 2 * rows)
    assert refused(higher) == MISSING


def test_a_tiff_whose_strips_do_not_reach_down():
    whole = encoded("RGB", format="TIFF")
    assert refused(changed(whole, 257, lambda height: height + 8)) == MISSING


@pytest.mark.parametrize("options", [{}, {"save_all": True, "append_images": [PIL.Image.new("P", (WIDTH, HEIGHT))]}])
def test_a_gif_whose_codes_end_early(options):
    whole = encoded("P", format="GIF", **options)
    start = whole.find(b"\x2c") + 11  # of the blocks of codes, each with its length before it
    end = start
    while whole[end]:
        end += whole[end] + 1
    for share in (0.1, 0.5, 0.95):
        first = whole[start + 1 : start + 1 + int(min(255, end - start) * share)]
        assert refused(whole[:start] + bytes([len(first)]) + first + whole[end:]) == MISSING


def test_pil_pictures_are_looked_at_too(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(png("RGBA", 0.5))
    with pytest.raises(images.ImageError, match="the PIL image: broken picture, rows are missing"):
        images.load(PIL.Image.open(path))


@pytest.mark.slow
def test_scans_without_end_are_refused_before_they_take_hours(tmp_path):
    whole = encoded("L", format="JPEG", progressive=True)
    second = whole.find(b"\xff\xda", whole.find(b"\xff\xda") + 2)
    third = whole.find(b"\xff\xda", second + 2)
    assert "more than 200 scans" in refused(whole[:-2] + whole[second:third] * 300 + b"\xff\xd9")
    assert "more than 200 scans" in refused(whole[:-2] + b"\xff\xfe\0\2" * 20_000 + b"\xff\xd9")
