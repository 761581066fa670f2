"""COCO's segmentations as masks: whole, and within the windows that hold them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bmp.io.segmentations import to_mask, to_windows
from bmp.ops.masks import to_rle


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(npst.arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))))
def test_windows_are_the_tightest_ones_of_the_whole_masks(pixels):
    bits = torch.from_numpy(pixels)
    size = pixels.shape[1:]
    windows = to_windows([*to_rle(bits), None], *size)
    assert torch.equal(windows.whole()[:-1], bits)
    assert windows.patches[-1].numel() == 0
    for patch in windows.patches:
        assert not patch.numel() or bool(patch[0].any() & patch[-1].any() & patch[:, 0].any() & patch[:, -1].any())


def test_polygons_are_painted_as_everywhere():
    polygons = [[1.0, 1.0, 6.0, 2.0, 3.0, 7.0], [8.0, 8.0, 8.0, 9.0, 9.0, 9.0]]
    assert torch.equal(to_windows([polygons], 12, 10).whole()[0], to_mask(polygons, 12, 10))
