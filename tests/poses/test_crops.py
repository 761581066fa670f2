"""Top-down crops: geometry, borders and mask conditioning, against OpenCV and by hand."""

import math

import cv2
import numpy as np
import pytest
import torch

from bmp.poses.crops import Windows, crop, windows_around

_SIZE = {"width": 24, "height": 32}


@pytest.fixture
def pixels():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8, generator=generator)


def _windows(*boxes, padding=1.25):
    return windows_around(torch.tensor(boxes).float().reshape(-1, 4), aspect=0.75, padding=padding)


def test_a_window_has_the_aspect_and_holds_the_enlarged_box():
    windows = _windows([0, 0, 10, 10], [0, 0, 2, 8])
    assert windows.centers.tolist() == [[5, 5], [1, 4]]
    torch.testing.assert_close(windows.sizes, torch.tensor([[12.5, 12.5 / 0.75], [7.5, 10.0]]))


def test_nobody(pixels):
    assert crop(pixels, _windows(), unbiased=True, **_SIZE).shape == (0, 3, 32, 24)
    assert crop(pixels, _windows(), unbiased=True, masks=torch.zeros(0, 60, 80) > 0, **_SIZE).shape == (0, 3, 32, 24)


def test_a_box_without_size_gives_a_crop():
    windows = _windows([5, 5, 5, 5])
    assert (windows.sizes > 0).all()
    keypoints = windows.to_image(torch.tensor([[[0.0, 0.0], [24.0, 32.0]]]), 24, 32)
    assert keypoints.isfinite().all()


def test_a_window_of_the_crops_own_size_copies_the_pixels(pixels):
    center, size = torch.tensor([[20.0, 25.0]]), torch.tensor([[24.0, 32.0]])
    biased = crop(pixels, Windows(center, size), unbiased=False, **_SIZE)
    assert torch.equal(biased[0].permute(1, 2, 0), pixels[9:41, 8:32])
    unbiased = crop(pixels, Windows(center + 0.5, size - 1), unbiased=True, **_SIZE)
    assert torch.equal(unbiased[0].permute(1, 2, 0), pixels[10:42, 9:33])


def test_beyond_the_image_all_is_black(pixels):
    outside = crop(pixels, _windows([200, 200, 210, 220]), unbiased=True, **_SIZE)
    assert (outside == 0).all()
    across = crop(pixels.clamp_min(1), _windows([-20, 10, 20, 40]), unbiased=True, **_SIZE)
    assert (across[..., 0] == 0).all()
    assert (across[..., 4:-4, -1] > 0).all()


@pytest.mark.parametrize("unbiased", [True, False])
def test_the_pixels_are_opencvs(pixels, unbiased):
    windows = _windows([3.3, 4.7, 40.2, 50.9], [-10, -8, 30, 70], [70, 50, 95, 66])
    ours = crop(pixels, windows, unbiased=unbiased, **_SIZE)
    span = torch.tensor([24.0, 32.0]) - (1 if unbiased else 0)
    for center, size, image in zip(windows.centers, windows.sizes, ours, strict=True):
        scale = span / size
        shift = (0.5 * size - center) * scale
        matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]], np.float32)
        theirs = cv2.warpAffine(pixels.numpy(), matrix, (24, 32), flags=cv2.INTER_LINEAR)
        difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - theirs)
        # OpenCV 4 interpolates at whole 32nds of a pixel; noise shows it by up to 255 / 32 levels and rounding.
        assert difference.max() <= (1 if int(cv2.__version__.split(".")[0]) >= 5 else 9)


def test_moving_image_and_box_moves_nothing_in_the_crop(pixels):
    moved = torch.zeros(100, 120, 3, dtype=torch.uint8)
    moved[17:77, 23:103] = pixels
    here = crop(pixels, _windows([10, 5, 50, 45]), unbiased=True, **_SIZE)
    there = crop(moved, _windows([33, 22, 73, 62]), unbiased=True, **_SIZE)
    assert (here.int() - there.int()).abs().max() <= 1


def test_conditioning_is_opencvs_for_every_grey(pixels):
    greys = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).expand(16, 16, 3).contiguous()
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, 0, 0] = True
    window = Windows(torch.tensor([[7.5, 7.5]]), torch.tensor([[15.0, 15.0]]))
    for alpha in (0.25, 0.5, 1.0):
        ours = crop(greys, window, width=16, height=16, unbiased=True, masks=mask, alpha=alpha)
        masked = greys.numpy() * mask[0].numpy()[..., None]
        theirs = cv2.addWeighted(greys.numpy(), 1 - alpha, masked, alpha, 0)
        np.testing.assert_array_equal(ours[0].permute(1, 2, 0).numpy(), theirs)


def test_each_person_has_its_own_mask_and_an_empty_one_is_none(pixels):
    pixels = pixels.clamp_min(9)
    windows = _windows(*[[20, 15, 50, 45]] * 3)
    masks = torch.zeros(3, 60, 80, dtype=torch.bool)
    masks[0, :, :40] = True
    masks[1, :, 40:] = True
    conditioned = crop(pixels, windows, unbiased=True, masks=masks, **_SIZE)
    plain = crop(pixels, windows, unbiased=True, **_SIZE)
    assert torch.equal(conditioned[2], plain[2])
    assert torch.equal(conditioned[0, ..., :8], plain[0, ..., :8])
    assert torch.equal(conditioned[1, ..., -4:], plain[1, ..., -4:])
    assert (conditioned[0, ..., -4:] < plain[0, ..., -4:]).all()
    assert (conditioned[1, ..., :8] < plain[1, ..., :8]).all()
    full = crop(pixels, windows, unbiased=True, masks=torch.ones_like(masks), **_SIZE)
    assert torch.equal(full, plain)
    assert torch.equal(crop(pixels, windows, unbiased=True, masks=masks, alpha=0.0, **_SIZE), plain)


@pytest.mark.parametrize(
    "boxes",
    [
        [[20, 15, 50, 45], [20.5, 15.25, 49.5, 44.75], [-30, -30, 30, 30]],
        [[70, 50, 1e4, 1e4], [10, 10, 10, 10], [500, 500, 520, 560]],
        [[-100, -100, -90, -90], [5, 5, 5, 30], [30, 40, 20, 20]],
    ],
)
def test_a_box_stands_in_for_a_mask_as_one_that_fills_it(pixels, boxes):
    windows = _windows([20, 15, 50, 45], [0, 0, 80, 60], [-10, -10, 30, 30])
    filled = torch.zeros(3, 60, 80, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(filled, boxes, strict=True):
        mask[max(0, math.floor(y1)) : max(0, math.ceil(y2)), max(0, math.floor(x1)) : max(0, math.ceil(x2))] = True
    corners = torch.tensor(boxes).float()
    expected = crop(pixels, windows, unbiased=True, masks=filled, **_SIZE)
    assert torch.equal(crop(pixels, windows, unbiased=True, boxes=corners, **_SIZE), expected)
    assert torch.equal(crop(pixels, windows, unbiased=True, masks=filled & False, boxes=corners, **_SIZE), expected)
    masks = torch.zeros(3, 60, 80, dtype=torch.bool)
    masks[0, 20:30, 20:40] = True
    some = crop(pixels, windows, unbiased=True, masks=masks, boxes=corners, **_SIZE)
    assert torch.equal(some[0], crop(pixels, windows, unbiased=True, masks=masks, **_SIZE)[0])
    assert torch.equal(some[1:], expected[1:])


def test_points_map_back_to_where_the_window_is():
    windows = Windows(torch.tensor([[50.0, 60.0]]), torch.tensor([[30.0, 40.0]]))
    points = torch.tensor([[[0.0, 0.0], [12.0, 16.0], [24.0, 32.0]]])
    assert windows.to_image(points, 24, 32)[0].tolist() == [[35, 40], [50, 60], [65, 80]]
