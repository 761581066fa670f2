"""Mask conditioning in an MMPose pipeline."""

import numpy as np
import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmpose.registry import TRANSFORMS

import bmp.mmpose_ext  # noqa: F401 -- registers
from bmp.poses.crops import Windows, crop


def _image():
    return np.random.default_rng(0).integers(0, 256, (16, 12, 3), np.uint8)


def test_it_is_the_conditioning_of_inference():
    image, mask = _image(), np.zeros((16, 12), np.uint8)
    mask[4:10, 3:8] = 1
    results = TRANSFORMS.build({"type": "MaskConditioning", "alpha": 0.25})({"img": image.copy(), "mask": mask})
    window = Windows(torch.tensor([[5.5, 7.5]]), torch.tensor([[11.0, 15.0]]))
    masks = torch.from_numpy(mask).bool()[None]
    expected = crop(torch.from_numpy(image), window, width=12, height=16, unbiased=True, masks=masks, alpha=0.25)
    np.testing.assert_array_equal(results["img"], expected[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("mask", [None, np.zeros((16, 12), bool)])
def test_without_a_mask_the_image_stays(mask):
    image = _image()
    results = TRANSFORMS.build({"type": "MaskConditioning"})({"img": image, "mask": mask})
    assert results["img"] is image


def test_the_given_image_is_not_written_to():
    image = _image()
    before = image.copy()
    mask = np.zeros((16, 12), bool)
    mask[0, 0] = True
    TRANSFORMS.build({"type": "MaskConditioning", "alpha": 1.0})({"img": image, "mask": mask})
    np.testing.assert_array_equal(image, before)
