"""Tests of square, turned regions: geometry, cutting out, putting back."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bmp.models.lite import regions
from bmp.models.lite.regions import ImagePyramid
from bmp.structures import Image

pixels = st.floats(-2000, 2000, width=32)
region = st.tuples(pixels, pixels, st.floats(4, 4000, width=32), st.floats(-3.125, 3.125, width=32))


def picture(height: int, width: int, seed: int = 0) -> ImagePyramid:
    return ImagePyramid.of(Image(torch.randint(1, 256, (height, width, 3), generator=torch.manual_seed(seed)).byte()))


@given(st.lists(region, min_size=1, max_size=4), arrays(np.float32, (3, 2), elements=st.floats(-1, 2, width=32)))
def test_points_survive_the_way_to_the_image_and_back(rows, points):
    wanted = np.array(rows, dtype=np.float32)
    places = np.broadcast_to(points, (len(wanted), 3, 2))
    back = regions.to_region(regions.to_image(places, wanted), wanted)
    assert back == pytest.approx(places, abs=2e-3)


@given(pixels, pixels, st.floats(2, 500), st.floats(-3.1, 3.1))
def test_a_region_from_points_has_its_top_straight_above_its_middle(x, y, length, angle):
    centre = np.array([[x, y]], dtype=np.float32)
    top = centre + np.array([[np.sin(angle), -np.cos(angle)]], dtype=np.float32) * np.float32(length)
    wanted = regions.from_points(centre, top, 2.5)
    places = regions.to_region(np.stack([centre, top], axis=1), wanted)
    assert places[0] == pytest.approx(np.array([[0.5, 0.5], [0.5, 0.5 - 1 / 2.5]]), abs=1e-3)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((100, 100, 50, 0), True),
        ((103, 98, 52, 0.05), True),
        ((106, 100, 50, 0), False),
        ((100, 100, 56, 0), False),
        ((100, 100, 44, 0), False),
        ((100, 100, 50, 0.2), False),
        ((100, 100, 50, 2 * np.pi - 0.05), True),
    ],
)
def test_regions_are_alike_that_show_nearly_the_same(other, expected):
    first, second = (np.array([row], np.float32) for row in (other, (100, 100, 50, 0)))
    assert regions.alike(first, second, 0.1).tolist() == [expected]


def test_turning_a_quarter_clockwise_makes_right_point_down():
    wanted = np.array([[10, 20, 4, np.pi / 2]], dtype=np.float32)
    corners = regions.to_image(np.array([[[0, 0], [1, 0]]], dtype=np.float32), wanted)[0]
    assert corners == pytest.approx(np.array([[12, 18], [12, 22]]), abs=1e-5)


def test_from_boxes_is_upright_and_never_empty():
    wanted = regions.from_boxes(np.array([[0, 10, 20, 50], [3, 3, 3, 3]], dtype=np.float32), 1.25)
    assert wanted.tolist() == [[10, 30, 50, 0], [3, 3, 1, 0]]


def test_zero_rows_everywhere():
    none = np.zeros((0, 4), dtype=np.float32)
    assert regions.from_boxes(none, 1.25).shape == (0, 4)
    assert regions.from_points(none[:, :2], none[:, 2:], 2.5).shape == (0, 4)
    assert regions.to_image(np.zeros((0, 5, 2), np.float32), none).shape == (0, 5, 2)


def test_a_crop_at_full_size_is_the_image_itself():
    image = picture(64, 64)
    assert (image.crop(np.array([32, 32, 64, 0], np.float32), 64) == image.levels[0]).all()


def test_a_quarter_turned_crop_is_the_turned_image():
    image = picture(64, 64)
    crop = image.crop(np.array([32, 32, 64, np.pi / 2], np.float32), 64)
    assert np.abs(crop.astype(int) - np.rot90(image.levels[0]).astype(int)).max() <= 1


def test_a_crop_is_black_outside_the_image():
    image = picture(10, 10)
    crop = image.crop(np.array([0, 0, 20, 0], np.float32), 20)
    assert not crop[:9, :9].any()
    assert (crop[10:, 10:] == image.levels[0]).all()
    assert not image.crop(np.array([500, 500, 20, 0], np.float32), 20).any()


def test_shrinking_averages_instead_of_picking_pixels():
    checkers = np.indices((512, 512)).sum(axis=0) % 2 * 255
    image = ImagePyramid.of(Image(torch.from_numpy(np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8))))
    crop = image.crop(np.array([256, 256, 512, 0], np.float32), 64)
    assert np.abs(crop.astype(int) - 128).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(40, 700), (301, 517), (333, 40), (300, 40000)])
def test_crops_of_odd_sizes_show_the_right_place(height, width):
    """A white right half must be the right half of the crop, however many times the image was shrunk."""
    pixels = torch.zeros(height, width, 3, dtype=torch.uint8)
    pixels[:, width // 2 :] = 255
    crop = ImagePyramid.of(Image(pixels)).crop(np.array([width / 2, height / 2, width, 0], np.float32), 224)
    middle = crop[111:113, :, 0].max(axis=0)
    assert (middle[2:110] < 60).all()
    assert (middle[114:222] > 120).all()


def test_a_crop_of_one_pixel():
    crop = picture(1, 1).crop(np.array([0.5, 0.5, 1, 0], np.float32), 225)
    assert (crop[112, 112] == picture(1, 1).levels[0][0, 0]).all()


def test_equal_images_have_equal_keys_and_others_do_not():
    assert picture(5, 7).key == picture(5, 7).key
    assert picture(5, 7).key != picture(5, 7, seed=1).key
    flat = torch.zeros(4, 6, 3, dtype=torch.uint8)
    assert ImagePyramid.of(Image(flat)).key != ImagePyramid.of(Image(flat.reshape(6, 4, 3))).key


def test_paste_puts_a_turned_mask_where_its_points_are():
    mask = np.zeros((64, 64), dtype=np.float32)
    mask[10:30, 5:50] = 1
    turned = np.array([40, 30, 50, 0.6], dtype=np.float32)
    bits = regions.paste(mask, turned, 90, 70)
    x, y = np.meshgrid(np.arange(90) + 0.5, np.arange(70) + 0.5)
    places = regions.to_region(np.stack([x, y], axis=2).reshape(1, -1, 2).astype(np.float32), turned[None])[0] * 64
    ground_truth = ((places > [5, 10]) & (places < [50, 30])).all(axis=1).reshape(70, 90)
    assert ground_truth.sum() > 400
    assert (bits & ground_truth).sum() / (bits | ground_truth).sum() > 0.98


def test_paste_undoes_crop():
    disc = np.zeros((120, 160, 3), dtype=np.uint8)
    cv2.circle(disc, (70, 60), 30, (255, 255, 255), -1)
    turned = np.array([75, 55, 100, -0.8], dtype=np.float32)
    crop = ImagePyramid.of(Image(torch.from_numpy(disc))).crop(turned, 256)[..., 0]
    bits = regions.paste(crop.astype(np.float32) / 255, turned, 160, 120)
    ground_truth = disc[..., 0] > 0
    assert (bits & ground_truth).sum() / (bits | ground_truth).sum() > 0.98


def test_paste_outside_the_canvas_is_empty_and_full_inside_the_region():
    mask = np.ones((8, 8), dtype=np.float32)
    assert not regions.paste(mask, np.array([-50, -50, 10, 0], np.float32), 20, 20).any()
    bits = regions.paste(mask, np.array([10, 10, 8, 0], np.float32), 20, 20)
    assert np.argwhere(bits).min(axis=0).tolist() == [6, 6]
    assert np.argwhere(bits).max(axis=0).tolist() == [13, 13]


def test_paste_on_a_smaller_canvas_scales_with_it():
    mask = np.ones((8, 8), dtype=np.float32)
    bits = regions.paste(mask, np.array([100, 60, 80, 0], np.float32), 50, 30, 0.25)
    assert bits.sum() == pytest.approx(20 * 20, abs=4)  # the corners are rounded
    assert np.argwhere(bits).min(axis=0).tolist() == [5, 15]


def test_a_mask_over_a_box_is_the_part_of_the_region_in_it():
    mask = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    wanted = np.array([50, 50, 64, 0], np.float32)  # from 18 to 82, a cell a pixel
    part = regions.over_box(mask, wanted, np.array([26, 34, 58, 66], np.float32), 32)
    assert part == pytest.approx(mask[16:48, 8:40], abs=1e-3)
    beyond = regions.over_box(mask, wanted, np.array([66, 34, 98, 66], np.float32), 32)
    assert beyond[:, :15] == pytest.approx(mask[16:48, 48:63], abs=1e-3)
    assert not beyond[:, 17:].any()


def test_a_mask_over_a_box_is_turned_with_its_region_and_averaged_where_it_shrinks():
    mask = np.zeros((64, 64), np.float32)
    mask[:, 32:] = 1
    turned = np.array([50, 50, 64, np.pi / 2], np.float32)  # its right is down
    part = regions.over_box(mask, turned, np.array([18, 18, 82, 82], np.float32), 8)
    assert part[:3].mean() < 0.05
    assert part[5:].mean() > 0.8
    stripes = np.tile(np.array([0, 1], np.float32), (64, 32))
    shrunk = regions.over_box(stripes, np.array([32, 32, 64, 0], np.float32), np.array([0, 0, 64, 64], np.float32), 8)
    assert shrunk == pytest.approx(np.full((8, 8), 0.5), abs=0.1)


def test_extents_hold_masks_wherever_their_regions_are():
    masks = np.zeros((3, 64, 64), bool)
    masks[:2, 10:20, 30:50] = True
    wanted = np.array([[32, 32, 64, 0], [32, 32, 128, np.pi / 2], [7, 8, 64, 0]], np.float32)
    boxes, some = regions.extents(masks, wanted)
    assert boxes[0].tolist() == [30, 10, 50, 20]
    assert boxes[1] == pytest.approx([56, 28, 76, 68], abs=1e-3)  # right is down, and twice as large
    assert some.tolist() == [True, True, False]
    assert boxes[2].tolist() == [7, 8, 7, 8]
    assert regions.extents(masks[:0], wanted[:0])[0].shape == (0, 4)
