"""Objects of pictures that somebody drew."""

import numpy as np
import PIL.Image
import pytest

from bmp.errors import UserError
from bmp.io.formats.index_masks import write_index_mask
from bmp.io.object_masks import frame_number, read_object_masks

DRAWN = np.array([[0, 3, 3], [0, 0, 7]], np.uint8)


def read(tmp_path, picture, name="mask.png"):
    picture.save(tmp_path / name)
    return {number: mask.int().tolist() for number, mask in read_object_masks(tmp_path / name).items()}


def test_numbers_of_a_palette(tmp_path):
    write_index_mask(tmp_path / "mask.png", DRAWN)
    found = {number: mask.int().tolist() for number, mask in read_object_masks(tmp_path / "mask.png").items()}
    assert found == {3: [[0, 1, 1], [0, 0, 0]], 7: [[0, 0, 0], [0, 0, 1]]}


def test_grey_levels(tmp_path):
    assert list(read(tmp_path, PIL.Image.fromarray(DRAWN))) == [3, 7]


@pytest.mark.parametrize("level", [1, 100, 9000])
def test_levels_of_16_bits_are_no_colours(tmp_path, level):
    assert list(read(tmp_path, PIL.Image.fromarray(DRAWN.astype(np.uint16) * level))) == [3 * level, 7 * level]
    white = (DRAWN > 0).astype(np.uint16) * 65535
    assert read(tmp_path, PIL.Image.fromarray(white)) == {1: [[0, 1, 1], [0, 0, 1]]}


def test_transparency_says_nothing_about_levels(tmp_path):
    assert list(read(tmp_path, PIL.Image.fromarray(DRAWN).convert("LA"))) == [3, 7]


@pytest.mark.parametrize("level", [255, 1])
def test_black_and_white_is_one_object(tmp_path, level):
    picture = PIL.Image.fromarray((DRAWN > 0).astype(np.uint8) * level)
    expected = {1: [[0, 1, 1], [0, 0, 1]]}
    assert read(tmp_path, picture) == expected
    assert read(tmp_path, picture.point(lambda value: 255 * (value > 0)).convert("1")) == expected


def test_void_belongs_to_nobody_and_that_is_said(tmp_path):
    said = []
    PIL.Image.fromarray(np.where(DRAWN == 7, 255, DRAWN).astype(np.uint8)).save(tmp_path / "mask.png")
    found = read_object_masks(tmp_path / "mask.png", said.append)
    assert list(found) == [3]
    assert len(said) == 1
    assert "taken for void" in said[0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_numbered_as_they_come(tmp_path, mode):
    colours = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 9]], np.uint8)[np.array([[0, 2, 2], [1, 0, 2]])]
    found = read(tmp_path, PIL.Image.fromarray(colours).convert(mode))
    assert found == {1: [[0, 1, 1], [0, 0, 1]], 2: [[0, 0, 0], [1, 0, 0]]}


def test_no_object_and_no_picture(tmp_path):
    with pytest.raises(UserError, match="has no object"):
        read(tmp_path, PIL.Image.fromarray(DRAWN * 0))
    (tmp_path / "mask.png").write_text("no picture")
    with pytest.raises(UserError, match=r"mask\.png: not a picture"):
        read_object_masks(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("name", "number"), [("00012.png", 12), ("walk_7.png", 7), ("first.png", None), ("7a.png", None)]
)
def test_numbers_of_frames(tmp_path, name, number):
    assert frame_number(tmp_path / name) == number
