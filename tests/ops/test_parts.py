"""Part maps: labels inside masks, specks, scores."""

import numpy as np
import pytest
import torch

from bmp.ops.parts import labels_inside, mean_scores, merge_specks, sampled, window_of


def grid(text):
    return np.array([[int(value) for value in row] for row in text.split()], np.uint8)


@pytest.mark.parametrize(
    ("before", "smallest", "after"),
    [
        ("1111 1121 1111", 2, "1111 1111 1111"),
        ("1111 1221 1111", 2, "1111 1221 1111"),  # large enough
        ("1122 1322 1122", 2, "1122 1122 1122"),  # 3 touches 1 at three sides and 2 at one
        ("0000 0300 0000", 9, "0000 0300 0000"),  # nobody to join
        ("0330 0000 0000", 9, "0330 0000 0000"),
        ("1230 0000 0000", 9, "3330 0000 0000"),  # one after the other, and what they join grows
        ("1110 0002 0000", 2, "1110 0002 0000"),  # a corner is no border
        ("0000 0000 0000", 5, "0000 0000 0000"),
    ],
)
def test_specks_join_the_neighbour_with_the_longest_border(before, smallest, after):
    labels = grid(before)
    assert np.array_equal(merge_specks(labels, labels > 0, smallest), grid(after))
    assert np.array_equal(labels, grid(before))


def test_unfilled_background_is_a_part_like_the_others():
    labels, inside = grid("1101 1111 0000"), grid("1111 1111 0000") > 0
    assert np.array_equal(merge_specks(labels, inside, 2), grid("1111 1111 0000"))


@pytest.mark.parametrize("fill", [True, False])
def test_a_filled_mask_has_no_background(fill):
    probabilities = torch.tensor([0.5, 0.2, 0.3])[:, None, None].expand(3, 6, 6)
    inside = torch.zeros(6, 6, dtype=torch.bool)
    inside[1:5, 1:5] = True
    labels = labels_inside(probabilities, inside, fill=fill)
    assert labels.dtype == torch.uint8
    assert labels.unique().tolist() == ([0, 2] if fill else [0])
    assert not labels[~inside].any()
    assert not labels_inside(probabilities, inside & False).any()


def test_scores_are_means_over_a_labels_pixels():
    probabilities = torch.tensor([[[0.1, 0.2, 0.9]], [[0.9, 0.7, 0.1]], [[0.0, 0.1, 0.0]]])
    found = mean_scores(probabilities, torch.tensor([[1, 1, 0]], dtype=torch.uint8))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.8, 0.0]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (8, 6)])
def test_a_map_of_an_images_size_is_read_as_it_is(height, width):
    values = torch.rand(2, height, width)
    whole = torch.tensor([0.0, 0.0, width, height])
    torch.testing.assert_close(sampled(values, whole, slice(0, height), slice(0, width)), values)
    window = sampled(values, whole, slice(1, height), slice(0, width))
    torch.testing.assert_close(window, values[:, 1:])


def test_a_coarse_map_is_read_between_the_middles_of_its_cells():
    values = torch.tensor([[[0.0, 4.0]]])
    found = sampled(values, torch.tensor([10.0, 0.0, 18.0, 2.0]), slice(0, 1), slice(10, 18))
    torch.testing.assert_close(found[0, 0], torch.tensor([0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.0, 4.0]))


def test_windows():
    bits = torch.zeros(5, 7, dtype=torch.bool)
    assert window_of(bits) == (slice(0, 0), slice(0, 0))
    bits[1:3, 4] = True
    assert window_of(bits) == (slice(1, 3), slice(4, 5))
