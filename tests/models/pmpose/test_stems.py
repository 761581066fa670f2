"""The convolution stem: the size of its output, and the geometries that it refuses."""

import pytest
import torch

pytest.importorskip("mmpose")

from bmp.models.pmpose.stems import ConvStem


@pytest.mark.parametrize(("height", "width"), [(128, 96), (256, 192), (8, 8)])
def test_a_patch_is_8_pixels(height, width):
    assert ConvStem(3, 16)(torch.zeros(2, 3, height, width)).shape == (2, 16, height // 8, width // 8)


def test_what_a_vit_passes_is_taken():
    ConvStem(3, 16, kernel_size=(8, 8), stride=(8, 8), padding=(0, 0), dilation=(1, 1), bias=True)


@pytest.mark.parametrize("other", [dict(kernel_size=16), dict(stride=4), dict(padding=2), dict(dilation=(2, 1))])
def test_other_geometries_are_refused(other):
    with pytest.raises(ValueError, match="patches of 8 pixels side by side"):
        ConvStem(3, 16, **other)
