"""Part maps as files: palettes, numbers beyond 255, and CIHP's folders by hand."""

import io

import numpy as np
import PIL.Image
import pytest
import torch

from bmp.io.annotations import part_rows
from bmp.io.part_maps import cihp_submission, number_picture, part_pictures
from bmp.label_sets.part_sets import CIHP
from bmp.ops.masks import from_rle
from bmp.structures import Parts

LABELS = torch.tensor([[5, 5, 0, 5], [9, 9, 0, 13]], dtype=torch.uint8)
OWNERS = torch.tensor([[1, 1, 0, 2], [1, 1, 0, 2]], dtype=torch.int32)


@pytest.fixture
def parts():
    scores = torch.zeros(2, 20)
    scores[0, 5], scores[0, 9], scores[1, 5], scores[1, 13] = 0.9, 0.123456, 0.5, 0.25
    return Parts(LABELS, OWNERS, scores, CIHP)


def stored(picture):
    """The pixels of a picture as a file has them."""
    picture.save(file := io.BytesIO(), "PNG")
    with PIL.Image.open(file) as read:
        return np.asarray(read), read.mode


def test_maps_of_labels_and_people(parts):
    files = dict(part_pictures("sub/a.jpg", parts))
    assert list(files) == ["parts/sub/a.jpg.png", "people_ids/sub/a.jpg.png"]
    pixels, mode = stored(files["parts/sub/a.jpg.png"])
    assert mode == "P"
    assert np.array_equal(pixels, LABELS)
    assert files["parts/sub/a.jpg.png"].convert("RGB").getpixel((0, 0)) == (128, 0, 128)  # VOC's colour of 5
    assert np.array_equal(stored(files["people_ids/sub/a.jpg.png"])[0], OWNERS)
    assert next(iter(dict(part_pictures("b.PNG", parts)))) == "parts/b.PNG"


def test_a_submission_to_cihp_by_hand(parts):
    files = dict(cihp_submission("val/0000007.jpg", parts, [0.75, 0.5]))
    assert np.array_equal(stored(files["global_parsing/0000007.png"])[0], LABELS)
    assert stored(files["instance_parsing/0000007.png"])[0].tolist() == [[1, 1, 0, 3], [2, 2, 0, 4]]
    assert files["instance_parsing/0000007.txt"] == "5 0.900000\n9 0.123456\n5 0.500000\n13 0.250000\n"
    assert np.array_equal(stored(files["instance_segmentation/0000007.png"])[0], OWNERS)
    assert files["instance_segmentation/0000007.txt"] == "1 0.750000\n1 0.500000\n"


def test_nobody():
    nobody = Parts(LABELS * 0, OWNERS * 0, torch.zeros(0, 20), CIHP)
    files = dict(cihp_submission("a.jpg", nobody, []))
    assert files["instance_parsing/a.txt"] == files["instance_segmentation/a.txt"] == ""
    assert not stored(files["global_parsing/a.png"])[0].any()
    assert part_rows(nobody) == []


@pytest.mark.parametrize(("most", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_numbers_of_any_size(most, dtype):
    pixels, _ = stored(number_picture(np.array([[0, most]], np.int32)))
    assert pixels.tolist() == [[0, most]]
    assert pixels.dtype == dtype


def test_more_numbers_than_a_png_has():
    with pytest.raises(ValueError, match="up to 65535, got 65536"):
        number_picture(np.array([[65536]], np.int32))


def test_rows_of_people_json(parts):
    first, second = part_rows(parts)
    assert [(row["id"], row["name"], row["area"], row["score"]) for row in first] == [
        (5, "upper clothes", 2, 0.9),
        (9, "pants", 2, 0.1235),
    ]
    masks = from_rle([row["segmentation"] for row in second], 2, 4)
    assert masks.tolist() == [[[False] * 3 + [True], [False] * 4], [[False] * 4, [False] * 3 + [True]]]
