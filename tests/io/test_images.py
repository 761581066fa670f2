"""Pictures of every format, mode, depth and orientation; broken ones; and what inputs name which files."""

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import UserError
from bmp.io import images
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
        ("I;16", [[257 * 3 + 100, 257 * 3 + 200]], ".tif", [[3] * 3, [4] * 3]),
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


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 2, 3)),
        np.zeros((2, 2, 3), np.uint16),
        np.zeros((2, 2, 3), bool),
        np.zeros((3, 4, 5), np.uint8),
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


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="got bytes"):
        images.load(b"\xff\xd8")
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

    monkeypatch.setattr(PIL.Image, "open", refuse)
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
    one_line(path, "179 megapixels")
    # Between once and twice its limit Pillow only warns: such a picture is read, and silently.
    PIL.Image.fromarray(BLOCKS).save(path)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", BLOCKS.shape[0] * BLOCKS.shape[1] - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (pixels(path) == BLOCKS).all()


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
    assert images.find([str(folder)]) == expected
    assert images.find(folder) == expected
    assert images.find([f"{folder}/", folder / "deep", f"./{folder}/b.jpg"]) == expected


def test_find_takes_named_files_as_they_are(folder):
    assert images.find([folder / "odd.dat", folder / ".hidden.jpg"]) == [folder / ".hidden.jpg", folder / "odd.dat"]


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
    assert images.find([pattern]) == [folder / name for name in expected]
    absolute = Path.cwd() / pattern
    assert images.find([str(absolute)]) == [Path.cwd() / folder / name for name in expected]


def test_find_a_file_whose_name_is_a_pattern(folder):
    (folder / "b[1].jpg").touch()
    assert images.find([folder / "b[1].jpg"]) == [folder / "b[1].jpg"]


def test_find_follows_links_and_survives_their_loops(folder):
    (folder / "deep" / "up").symlink_to(folder.resolve(), target_is_directory=True)
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "z.jpg").touch()
    (folder / "link").symlink_to(outside.resolve(), target_is_directory=True)
    names = [path.as_posix() for path in images.find(folder)]
    assert names == [
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/deep/a.PNG",
        "photos/deep/er/c.tif",
        "photos/link/z.jpg",
    ]


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
    assert images.output_names(paths) == ["x/a.jpg", "x/a.png", "y/a.jpg"]
    assert images.output_names(paths[:2]) == ["a.jpg", "a.png"]
    assert images.output_names(paths[:1]) == ["a.jpg"]
    assert images.output_names([]) == []
    monkeypatch.chdir(tmp_path / "..")
    assert images.output_names([os.path.relpath(path) for path in paths]) == ["x/a.jpg", "x/a.png", "y/a.jpg"]


@given(st.sets(st.lists(st.sampled_from(["a", "b", "a.jpg"]), min_size=1, max_size=4).map(tuple), min_size=1))
def test_output_names_are_unique_and_independent_of_order(parts):
    paths = [Path("/root", *names) for names in sorted(parts)]
    names = images.output_names(paths)
    assert len(set(names)) == len(paths)
    assert images.output_names(paths[::-1]) == names[::-1]
    assert not any(name.startswith(("/", "..")) for name in names)
