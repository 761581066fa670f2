"""Pictures of every format, mode, depth and orientation; broken ones; and what inputs name which files."""

import contextlib
import io
import os
import socket
import struct
import threading
import warnings
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import UserError
from bmp.io import decoding, images, urls
from bmp.io.images import ImageError
from bmp.structures import Image

ORIENTATION = 0x0112
# Red, green over blue, white, in blocks so large that JPEG keeps them; wider than high.
BLOCKS = np.repeat(
    np.repeat(np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8), 16, axis=0), 32, axis=1
)
# How a camera that writes each orientation has stored the upright picture.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


def pixels(source) -> np.ndarray:
    image = images.load(source)
    assert image.pixels.dtype == torch.uint8
    assert image.pixels.is_contiguous()
    return image.pixels.numpy()


def close(values: np.ndarray, expected: np.ndarray, tolerance: int = 12) -> None:
    assert values.shape == expected.shape
    # The centres of the blocks: JPEG smears colour over edges.
    assert np.abs(values[8::16, 16::32].astype(int) - expected[8::16, 16::32]).max() <= tolerance


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".JPG"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    PIL.Image.fromarray(BLOCKS).save(path)
    close(pixels(path), BLOCKS)
    close(pixels(str(path)), BLOCKS)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation(tmp_path, suffix, orientation):
    path = tmp_path / f"picture{suffix}"
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    stored = PIL.Image.fromarray(np.ascontiguousarray(STORED[orientation](BLOCKS)))
    stored.save(path, exif=exif)
    values = pixels(path)
    assert values.shape == BLOCKS.shape
    corners = values[8::16, 16::32].astype(int)
    assert np.abs(corners - BLOCKS[8::16, 16::32]).max() <= 12


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_16_bit_grey(tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    upright = np.array([[0, 257 * 10, 257 * 20], [257 * 30, 257 * 40, 65535]], np.uint16)
    stored = STORED[orientation](np.repeat(upright[..., None], 3, axis=2))[..., 0]
    PIL.Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "grey.png", exif=exif)
    assert (pixels(tmp_path / "grey.png")[..., 0] == [[0, 10, 20], [30, 40, 255]]).all()


def test_broken_exif_does_not_spoil_good_pixels(tmp_path):
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(BLOCKS).save(path, exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (pixels(path) == BLOCKS).all()


@pytest.mark.parametrize(
    ("mode", "values", "suffix", "expected"),
    [
        ("1", [[0, 255]], ".png", [[0, 0, 0], [255, 255, 255]]),
        ("L", [[7, 200]], ".png", [[7, 7, 7], [200, 200, 200]]),
        ("I;16", [[0, 65535]], ".png", [[0] * 3, [255] * 3]),
        ("I;16", [[257 * 3 + 100, 257 * 3 + 200, 65535]], ".tif", [[3] * 3, [4] * 3, [255] * 3]),
        ("I", [[0, 65535]], ".tif", [[0] * 3, [255] * 3]),
        ("I", [[-1000, 1000]], ".tif", [[0] * 3, [255] * 3]),
        ("F", [[0.0, 0.5, 1.0]], ".tif", [[0] * 3, [128] * 3, [255] * 3]),
        ("F", [[0.0, 7.4, 200.0]], ".tif", [[0] * 3, [7] * 3, [200] * 3]),
        ("F", [[-1.0, 0.0, 1.0]], ".tif", [[0] * 3, [128] * 3, [255] * 3]),
        ("F", [[np.nan, 0.5, 1.0]], ".tif", [[0] * 3, [128] * 3, [255] * 3]),
        ("F", [[np.nan, np.inf]], ".tif", [[0] * 3, [255] * 3]),
        ("F", [[300.0, 300.0]], ".tif", [[0] * 3, [0] * 3]),
        ("LA", [[[10, 255], [10, 0]]], ".png", [[10] * 3, [255] * 3]),
        ("RGBA", [[[9, 8, 7, 255], [0, 0, 0, 0], [0, 0, 0, 127]]], ".png", [[9, 8, 7], [255] * 3, [128] * 3]),
    ],
)
def test_modes(tmp_path, mode, values, suffix, expected):
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    picture = PIL.Image.fromarray(np.array(values, dtype))
    if mode == "1":
        picture = picture.convert("1")
    assert picture.mode == mode
    picture.save(tmp_path / f"picture{suffix}")
    assert pixels(tmp_path / f"picture{suffix}").tolist() == [expected]
    assert pixels(picture).tolist() == [expected]


def test_palette_with_and_without_transparency(tmp_path):
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "opaque.png")
    picture.save(tmp_path / "clear.png", transparency=1)
    picture.save(tmp_path / "bytes.png", transparency=b"\xff\x00")
    assert pixels(tmp_path / "opaque.png").tolist() == [[[10, 20, 30], [200, 100, 0]]]
    assert pixels(tmp_path / "clear.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert pixels(tmp_path / "bytes.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_transparent_colour_of_an_rgb_png(tmp_path):
    PIL.Image.new("RGB", (1, 1), (5, 6, 7)).save(tmp_path / "key.png", transparency=(5, 6, 7))
    assert pixels(tmp_path / "key.png").tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(tmp_path, suffix):
    PIL.Image.fromarray(BLOCKS).convert("CMYK").save(tmp_path / f"print{suffix}", quality=95)
    close(pixels(tmp_path / f"print{suffix}"), BLOCKS, tolerance=20)


def test_first_frame_of_an_animation(tmp_path):
    frames = [PIL.Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "two.gif")[0, 0].tolist() == [255, 0, 0]


def test_arrays_and_tensors_give_the_same():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    clear = np.dstack([colour, np.zeros((2, 3), np.uint8)])
    for values, expected in [(grey, np.dstack([grey] * 3)), (colour, colour), (clear, np.full_like(colour, 255))]:
        assert (pixels(values) == expected).all()
        assert (pixels(torch.from_numpy(values)) == expected).all()
    # As from OpenCV, turned round without a copy.
    assert (pixels(colour[..., ::-1]) == colour[..., ::-1]).all()
    assert (pixels(colour[::-1, :2]) == colour[::-1, :2]).all()


def test_arrays_are_copied_and_may_be_read_only():
    values = BLOCKS.copy()
    image = images.load(values)
    values[:] = 0
    assert (image.pixels.numpy() == BLOCKS).all()
    values.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.load(values)


def test_records_and_rgb_tensors_are_shared():
    image = Image(torch.zeros(2, 2, 3, dtype=torch.uint8))
    assert images.load(image) is image
    assert images.load(image.pixels).pixels is image.pixels


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 2, 3), np.uint16),
        np.zeros((2, 2, 3), np.int64),
        np.zeros((2, 2, 3), bool),
        np.zeros((2, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((1, 2, 2, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(values):
    for source in (values, torch.from_numpy(values) if values.dtype != np.uint16 else values):
        with pytest.raises(ImageError, match="expected uint8") as caught:
            images.load(source)
        assert str(values.shape) in str(caught.value)


def test_numbers_that_are_no_colours_are_refused():
    for values, words in [
        (np.full((2, 2, 3), 128.0), "0..1, got 128..128; divide by 255"),
        (np.full((2, 2), np.nan), "0..1"),
        (torch.full((3, 2, 2), -0.5), "0..1"),
    ]:
        with pytest.raises(ImageError, match=words):
            images.load(values)


def test_floats_tensors_of_channels_first_and_bgr():
    for dtype in (np.float16, np.float32, np.float64):
        assert (pixels(BLOCKS.astype(dtype) / 255) == BLOCKS).all()
    first = torch.from_numpy(BLOCKS).permute(2, 0, 1)
    assert (pixels(first) == BLOCKS).all()
    assert (pixels((first / 255).requires_grad_()) == BLOCKS).all()
    assert (pixels((first / 255).bfloat16()).astype(int) - BLOCKS < 2).all()
    assert (pixels(first[:1]) == BLOCKS[..., :1]).all()
    clear = np.dstack([BLOCKS, np.full(BLOCKS.shape[:2], 255, np.uint8)])
    for turned in (BLOCKS[..., ::-1], torch.from_numpy(BLOCKS[..., ::-1].copy()), clear[..., [2, 1, 0, 3]]):
        assert (images.load(turned, bgr=True).pixels.numpy() == BLOCKS).all()
    assert (images.load(PIL.Image.fromarray(BLOCKS), bgr=True).pixels.numpy() == BLOCKS).all()


def test_bytes_and_file_objects(tmp_path):
    PIL.Image.fromarray(BLOCKS).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert (pixels(data) == BLOCKS).all()
    assert (pixels(io.BytesIO(data)) == BLOCKS).all()
    with (tmp_path / "a.png").open("rb") as file:
        assert (pixels(file) == BLOCKS).all()
    with pytest.raises(ImageError, match=r"^the bytes: "):
        images.load(b"nothing")


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="got int"):
        images.load(7)
    with pytest.raises(ImageError, match="at least 1x1"):
        images.load(PIL.Image.new("RGB", (0, 3)))


def one_line(path: Path, *words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:
            images.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_missing_empty_text_and_folder(tmp_path):
    one_line(tmp_path / "missing.jpg", "No such file")
    (tmp_path / "empty.jpg").touch()
    one_line(tmp_path / "empty.jpg", "empty")
    (tmp_path / "text.jpg").write_text("not a picture")
    one_line(tmp_path / "text.jpg", "not a picture")
    one_line(tmp_path, "directory")


def test_forbidden(tmp_path, monkeypatch):
    path = tmp_path / "locked.jpg"
    PIL.Image.fromarray(BLOCKS).save(path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    one_line(path, "Permission denied")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_cut_short(tmp_path, suffix, share):
    path = tmp_path / f"picture{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    options = {"compression": "tiff_lzw"} if suffix == ".tif" else {}
    PIL.Image.fromarray(noise).save(path, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    one_line(path)


@pytest.mark.slow
@given(where=st.integers(0, 10_000), value=st.integers(0, 255), suffix=st.sampled_from(["jpg", "png", "webp", "tif"]))
def test_flipped_bytes_give_a_picture_or_one_line(tmp_path_factory, where, value, suffix):
    path = tmp_path_factory.mktemp("flip") / f"picture.{suffix}"
    PIL.Image.fromarray(BLOCKS).save(path)
    data = bytearray(path.read_bytes())
    data[where % len(data)] = value
    path.write_bytes(data)
    message = ""
    try:
        images.load(path)
    except ImageError as error:
        message = str(error)
    assert not message or (message.startswith(f"{path}: ") and "\n" not in message)


def test_decompression_bomb(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    one_line(path, "64 megapixels", "BMP_MAX_MEGAPIXELS")
    # Above its own limit Pillow only warns: such a picture is read, and silently.
    PIL.Image.fromarray(BLOCKS).save(path)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", BLOCKS.shape[0] * BLOCKS.shape[1] - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (pixels(path) == BLOCKS).all()


def png(width: int, height: int, depth: int, colour: int, data: bytes, interlaced: int = 0) -> bytes:
    """A PNG of this header whose one chunk of data is ``data``, compressed."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("depth", "colour", "row"), [(8, 2, 1 + 15 * 3), (16, 0, 1 + 15 * 2), (1, 0, 1 + 2)])
@pytest.mark.parametrize("rows", [0, 1, 8])
def test_rows_that_a_png_lacks_are_an_error(tmp_path, depth, colour, row, rows):
    path = tmp_path / "picture.png"
    path.write_bytes(png(15, 9, depth, colour, bytes(row * rows)))
    one_line(path, "rows are missing" if rows else "")
    path.write_bytes(png(15, 9, depth, colour, bytes(row * 9)))
    assert (pixels(path) == np.zeros((9, 15, 3))).all(), "black is a colour"


def test_an_interlaced_black_png_is_whole(tmp_path):
    # Bytes of Adam7's passes over 5 x 3 pixels of grey: 1x1, 1x1, none, 1x2, 2x1, 2x2 and 1x5, a filter each row.
    path = tmp_path / "picture.png"
    size = (1 + 1) + (1 + 1) + 0 + (1 + 1) + (1 + 3) + 2 * (1 + 2) + (1 + 5)
    for missing in range(3):
        path.write_bytes(png(5, 3, 8, 0, bytes(size - missing), interlaced=1))
        if missing:
            one_line(path)
        else:
            assert not pixels(path).any()


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        (np.array([[0, 255]], np.int32), [0, 255], "255 of 65535"),
        (np.array([[0, 4095]], np.int32), [0, 255], "4095 of 65535"),
        (np.array([[0, 2048, 4095]], np.uint16), [0, 128, 255], "4095 of 65535"),
        (np.array([[0, 600]], np.uint16), [0, 150], "1023 of 65535"),
        (np.array([[0, 16383]], np.uint16), [0, 255], "16383"),
        (np.array([[0, 65535]], np.uint16), [0, 255], None),
        (np.array([[0, 0]], np.uint16), [0, 0], None),
        (np.array([[0, 2**31 - 1]], np.int32), [0, 255], "stretched"),
        (np.array([[-7, 7]], np.int32), [0, 255], "stretched"),
        (np.array([[0, 255]], np.float32), [0, 255], None),
        (np.array([[0, 4095]], np.float32), [0, 255], "stretched"),
        (np.array([[0, np.nan, 1]], np.float32), [0, 0, 255], "NaN"),
    ],
)
def test_the_range_that_is_used_decides_and_is_said(tmp_path, values, expected, words):
    path = tmp_path / "grey.tif"
    PIL.Image.fromarray(values).save(path)
    said: list[str] = []
    assert images.load(path, notice=said.append).pixels[0, :, 0].tolist() == expected
    assert len(said) == (words is not None)
    assert not said or (said[0].startswith(f"{path}: ") and words in said[0])


def test_notices_go_to_the_logger_unless_somebody_asks(tmp_path, caplog):
    frames = [PIL.Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    images.load(tmp_path / "two.gif")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("bmp", f"{tmp_path / 'two.gif'}: the first of 2 frames is read")
    ]


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".gif", ".jp2", ".heic", ".ppm", ".dib"])
def test_more_formats(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    PIL.Image.fromarray(BLOCKS).save(path, format="JPEG" if suffix == ".jfif" else None)
    close(pixels(path), BLOCKS)
    assert images.find(tmp_path).sources == [path]


def test_heic_without_the_package_says_which(tmp_path, monkeypatch):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setattr(decoding, "has_heif", lambda: False)
    monkeypatch.setattr(images, "has_heif", lambda: False)
    one_line(path, "pip install pillow-heif")
    with pytest.raises(UserError, match="left out 1, HEIC pictures, which need pip install pillow-heif"):
        images.find(tmp_path)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".avif"])
def test_pixels_as_they_are_stored(tmp_path, suffix, orientation):
    path = tmp_path / f"picture{suffix}"
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](BLOCKS))
    PIL.Image.fromarray(stored).save(path, exif=exif)
    values = images.load(path, upright=False).pixels.numpy()
    assert values.shape == stored.shape
    assert np.abs(values[8::16, 8::16].astype(int) - stored[8::16, 8::16]).max() <= 20


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "EPS"),
        (b"\n  %!PS-Adobe", "EPS"),
        (b"\xc5\xd0\xd3\xc6\x20\0\0\0", "EPS"),
        (b"%PDF-1.7", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!doctype html><title>404</title>", "web page"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "a video, not a picture; name it without pictures beside it"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a video, not a picture; name it without pictures beside it"),
        (b"\x1aE\xdf\xa3\x01", "a video, not a picture; name it without pictures beside it"),
        (b"RIFF\x24\x10\0\0AVI LIST", "a video, not a picture; name it without pictures beside it"),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(tmp_path, start, words):
    path = tmp_path / "photo.jpg"
    path.write_bytes(start + bytes(200))
    one_line(path, words)


def test_eps_never_reaches_ghostscript(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was called"))
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(BLOCKS).save(path, format="EPS")
    one_line(path, "EPS")
    # Also where what comes first is not what we look for: only listed formats are tried.
    path.write_bytes(b"\0" + path.read_bytes())
    one_line(path, "not a picture")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()])
def test_only_regular_files_are_opened(tmp_path, make):
    path = tmp_path / "photo.jpg"
    make(path)
    one_line(path, "name a picture file")


def test_a_link_to_itself(tmp_path):
    path = tmp_path / "photo.jpg"
    path.symlink_to(path)
    assert images.find(path).sources == [path]
    assert images.find(tmp_path).sources == [path]
    one_line(path, "symbolic links")


def test_the_limit_of_megapixels_can_be_set(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(BLOCKS).save(path)
    monkeypatch.setenv("BMP_MAX_MEGAPIXELS", "0.001")
    one_line(path, "more than 0.001 megapixels")
    with pytest.raises(ImageError, match="megapixels"):
        images.load(BLOCKS)
    monkeypatch.setenv("BMP_MAX_MEGAPIXELS", "1")
    assert (pixels(path) == BLOCKS).all()
    monkeypatch.setenv("BMP_MAX_MEGAPIXELS", "many")
    with pytest.raises(UserError, match="expected a number above 0, got 'many'"):
        images.load(path)


@pytest.mark.slow
def test_what_stands_beside_the_pixels_is_bounded(tmp_path):
    PIL.Image.new("L", (8, 8)).save(tmp_path / "a.jpg")
    jpeg = (tmp_path / "a.jpg").read_bytes()
    segment = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)
    small = png(8, 8, 8, 0, bytes(9 * 8))
    data = bytes(20 << 20)
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    for content in (jpeg[:2] + segment * 300 + jpeg[2:], small[:33] + chunk + small[33:]):
        with pytest.raises(ImageError, match="too much beside its pixels"):
            images.load(content)
    for start, most in ((b"\x89PNG\r\n\x1a\n", 256), (b"RIFF\0\0\0\0WEBP", 100)):
        path = tmp_path / "long"
        with path.open("wb") as file:
            file.write(start)
            file.truncate(300 << 20)  # takes no room on most disks
        one_line(path, f"longer than {most} MB")


def test_tiles_larger_than_their_picture_are_refused():
    file = io.BytesIO()
    PIL.Image.new("L", (16, 16)).save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    table = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, table)[0]):
        place = table + 2 + 12 * index
        tag = struct.unpack_from("<H", data, place)[0]
        # Strips become tiles: their height and place, and their width in place of how channels are stored.
        if tag in (273, 278, 279, 284):
            new = {273: 324, 278: 323, 279: 325, 284: 322}[tag]
            struct.pack_into("<H", data, place, new)
            if new in (322, 323):
                struct.pack_into("<HII", data, place + 2, 4, 1, 60_000)
    with pytest.raises(ImageError, match="tiles or strips of more than 256 MB"):
        images.load(bytes(data))


def test_frames_of_large_files_are_not_counted():
    file = io.BytesIO()
    PIL.Image.new("P", (4, 4)).save(file, "GIF")
    data = file.getvalue()
    frame = data[data.find(b"\x2c") : -1]
    said: list[str] = []
    images.load(data[:-1] + frame * 20_000 + b";", notice=said.append)
    assert said == ["the bytes: the first of several frames is read"]


@pytest.mark.slow
def test_bytes_in_flight_are_bounded_over_threads():
    budget = decoding._Budget(10)
    inside, most, lock = [0.0], [0.0], threading.Lock()

    def read(count: float) -> None:
        with budget.take(count):
            with lock:
                inside[0] += count
                most[0] = max(most[0], inside[0])
            threading.Event().wait(0.01)
            with lock:
                inside[0] -= count

    threads = [threading.Thread(target=read, args=(count,)) for count in (4, 6, 5, 5, 12, 1, 9) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert most == [12], "what is larger than the budget goes alone, the rest together as far as it goes"


def test_libtiff_keeps_quiet(tmp_path, capfd):
    path = tmp_path / "a.tif"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(
        path, compression="tiff_lzw"
    )
    data = bytearray(path.read_bytes())
    for where in range(8, len(data) - 200, 7):
        data[where] ^= 0x55
    path.write_bytes(data)
    one_line(path)
    assert capfd.readouterr() == ("", "")


class Web(BaseHTTPRequestHandler):
    """Answers by the path: a picture, a picture cut short, one that takes its time, one without end, redirections."""

    picture = b""

    def do_GET(self):
        kind = self.path.strip("/").partition(".")[0]
        if kind == "missing":
            self.send_error(404)
            return
        if kind in ("moved", "file"):
            self.send_response(302)
            self.send_header("Location", "/photo.png" if kind == "moved" else "file:///etc/passwd")
            self.end_headers()
            return
        self.send_response(200)
        if kind != "endless":
            self.send_header("Content-Length", str(10**12 if kind == "huge" else len(self.picture)))
        self.end_headers()
        if kind == "slow":
            for byte in self.picture[:50]:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                threading.Event().wait(0.05)
        while kind == "endless":
            self.wfile.write(bytes(2**16))
        self.wfile.write(self.picture[: 20 if kind in ("cut", "huge") else None])

    def handle(self):
        with contextlib.suppress(OSError):  # whoever asked has gone
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def web():
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        stream = io.BytesIO()
        PIL.Image.fromarray(BLOCKS).save(stream, format="png")
        Web.picture = stream.getvalue()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls_are_read(web):
    assert (pixels(f"{web}/photo.png") == BLOCKS).all()
    assert (pixels(f"{web}/moved.png".replace("http", "HTTP")) == BLOCKS).all()
    assert (pixels(f"{web}/phöto of me.png?size=1") == BLOCKS).all()
    assert images.find([f"{web}/photo.png"]).sources == [f"{web}/photo.png"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "404"),
        ("cut", "20 of"),
        ("huge", "longer than"),
        ("file", "not allowed"),
    ],
)
def test_urls_that_fail_say_so_in_a_line(web, kind, words):
    with pytest.raises(ImageError) as caught:
        images.load(f"{web}/{kind}.png")
    message = str(caught.value)
    assert message.startswith(f"{web}/{kind}.png: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.slow
def test_urls_have_limits_of_size_and_time(web):
    with pytest.raises(ImageError, match=r"longer than 1 MB"):
        urls.fetch(f"{web}/endless.png", max_bytes=2**20)
    with pytest.raises(ImageError, match=r"not all there after 0.3 s"):
        urls.fetch(f"{web}/slow.png", timeout=0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with pytest.raises(ImageError, match="no answer in time"):
            urls.fetch(f"http://127.0.0.1:{port}/a.png", timeout=0.2)
    for url in (f"http://127.0.0.1:{port}/a.png", "http://", "http://[", "http://a b/c", "https://127.0.0.1:99999/a"):
        with pytest.raises(ImageError, match="cannot be fetched"):
            urls.fetch(url, timeout=5)


def test_output_names_of_urls():
    sources = ["https://a.org/x/b.jpg?q=1", "https://a.org/../../c.jpg", "/p/q/d.png"]
    names = images.output_names(sources, Path("/p/q"))
    assert names == ["a.org/x/b.jpg%3Fq%3D1", "a.org/%2E%2E/%2E%2E/c.jpg", "d.png"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        "deep/er/c.tif",
        "deep/a.PNG",
        ".hidden.jpg",
        ".cache/d.jpg",
        "odd.dat",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def test_find_in_folders(folder):
    expected = [folder / name for name in ("a.PNG", "b.jpg", "deep/a.PNG", "deep/er/c.tif")]
    assert images.find([str(folder)]).paths == expected
    assert images.find(folder).paths == expected
    assert images.find([f"{folder}/", folder / "deep", f"./{folder}/b.jpg"]).paths == expected


def test_find_takes_named_files_as_they_are(folder):
    assert images.find([folder / "odd.dat", folder / ".hidden.jpg"]).paths == [
        folder / ".hidden.jpg",
        folder / "odd.dat",
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", ["b.jpg"]),
        ("photos/[ab].*", ["a.PNG", "b.jpg"]),
        ("photos/*.???", ["a.PNG", "b.jpg"]),
        ("photos/**/*.PNG", ["a.PNG", "deep/a.PNG"]),
        ("photos/d*", ["deep/a.PNG", "deep/er/c.tif"]),
        ("**/er/*", ["deep/er/c.tif"]),
    ],
)
def test_find_by_glob(folder, pattern, expected):
    assert images.find([pattern]).paths == [folder / name for name in expected]
    absolute = Path.cwd() / pattern
    assert images.find([str(absolute)]).paths == [Path.cwd() / folder / name for name in expected]


def test_find_a_file_whose_name_is_a_pattern(folder):
    (folder / "b[1].jpg").touch()
    assert images.find([folder / "b[1].jpg"]).paths == [folder / "b[1].jpg"]


def test_find_follows_links_and_survives_their_loops(folder):
    (folder / "deep" / "up").symlink_to(folder.resolve(), target_is_directory=True)
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "z.jpg").touch()
    (folder / "link").symlink_to(outside.resolve(), target_is_directory=True)
    names = [path.as_posix() for path in images.find(folder).paths]
    assert names == [
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/deep/a.PNG",
        "photos/deep/er/c.tif",
        "photos/link/z.jpg",
    ]


def test_what_is_left_out_is_listed_and_counted(folder, monkeypatch):
    for name in ("a.mp4", "b.MOV", "c.psd", "d.cr2", ".e.mp4", "x/clip.avi", "x/.DS_Store"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "locked").mkdir()
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = images.find([folder, f"{folder}/*"])
    assert len(found.sources) == 4
    assert sorted((entry.path.as_posix(), entry.reason.partition(" ")[0]) for entry in found.left_out) == [
        ("photos/.e.mp4", "hidden"),
        ("photos/.hidden.jpg", "hidden"),
        ("photos/a.mp4", "videos,"),
        ("photos/b.MOV", "videos,"),
        ("photos/c.psd", ".psd"),
        ("photos/d.cr2", ".cr2"),
        ("photos/locked", "folders"),
        ("photos/notes.txt", "files"),
        ("photos/odd.dat", "files"),
        ("photos/x/.DS_Store", "hidden"),
        ("photos/x/clip.avi", "videos,"),
    ]
    lines = found.summary()
    videos = "photos/a.mp4, photos/b.MOV, photos/x/clip.avi"
    assert f"left out 3, videos, which are not done together with pictures; name them by themselves: {videos}" in lines
    assert "left out 1, folders that cannot be read (Permission denied): photos/locked" in lines
    assert images.find([folder, folder / "odd.dat"]).left_out == [e for e in found.left_out if e.path.name != "odd.dat"]


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a/" * 3000])
def test_names_that_no_file_can_have(name):
    with pytest.raises(UserError, match="no such file"):
        images.find(name)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (["photos/missing.jpg"], ["photos/missing.jpg", "no such file"]),
        (["photos/b.jpg", "nowhere"], ["nowhere", "no such file"]),
        (["photos/*.gif"], ["photos/*.gif", "no pictures", ".jpg"]),
        (["photos/notes.*"], ["photos/notes.*", "no pictures"]),
        (["void"], ["void", "no pictures"]),
        ([], ["no pictures", "no inputs"]),
        ([""], ["empty name"]),
    ],
)
def test_find_nothing(folder, inputs, words):
    Path("void").mkdir()
    with pytest.raises(UserError) as caught:
        images.find(inputs)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_output_names_are_relative_and_keep_extensions(tmp_path, monkeypatch):
    paths = [tmp_path / "x" / "a.jpg", tmp_path / "x" / "a.png", tmp_path / "y" / "a.jpg"]
    assert images.output_names(paths, tmp_path) == ["x/a.jpg", "x/a.png", "y/a.jpg"]
    assert images.output_names(paths[:2], tmp_path / "x") == ["a.jpg", "a.png"]
    assert images.output_names(paths[1:], tmp_path / "x") == ["a.png", "_up/y/a.jpg"]
    assert images.output_names([], tmp_path) == []
    monkeypatch.chdir(tmp_path / "..")
    relative = [os.path.relpath(path) for path in paths]
    assert images.output_names(relative, tmp_path) == ["x/a.jpg", "x/a.png", "y/a.jpg"]


def test_two_sources_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"would both be called _up/a\.jpg; do them in two runs"):
        images.output_names([tmp_path / "x" / "_up" / "a.jpg", tmp_path / "a.jpg"], tmp_path / "x")


def test_names_start_from_what_was_named_not_from_what_lies_there(tmp_path, monkeypatch):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.png").touch()
    monkeypatch.chdir(tmp_path)
    for inputs, root in (
        (["photos"], "photos"),
        (["photos/a/1.png"], "photos/a"),
        (["photos/*/1.png", "photos/a"], "photos"),
        (["photos/a/1.png", "."], "."),
        (["https://example.org/x.png"], "."),
    ):
        assert images.common_root(inputs) == (tmp_path / root).resolve()


@given(st.sets(st.lists(st.sampled_from(["a", "b", "a.jpg"]), min_size=1, max_size=4).map(tuple), min_size=1))
def test_output_names_are_unique_and_independent_of_order(parts):
    paths = [Path("/root", *names) for names in sorted(parts)]
    root = Path("/root", "a")
    names = images.output_names(paths, root)
    assert len(set(names)) == len(paths)
    assert images.output_names(paths[::-1], root) == names[::-1]
    assert [images.output_names([path], root) for path in paths] == [[name] for name in names]
    assert not any(name.startswith(("/", "..")) for name in names)
