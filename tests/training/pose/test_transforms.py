"""Masks in an MMPose pipeline: loaded, made faulty, flipped, used for conditioning."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmpose.registry import TRANSFORMS
from pycocotools import mask as coco_mask

import bmp.training.pose  # noqa: F401 -- registers
from bmp.label_sets import COCO_KEYPOINTS
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


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.25, 0.5, 0.77, 1.0])
def test_it_is_the_weighted_sum_of_image_and_masked_image(alpha):
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.random.default_rng(2).random((64, 64)) < 0.5
    masked = image * mask[..., None].astype(np.uint8)
    expected = cv2.addWeighted(image, 1 - alpha, masked, alpha, 0)
    results = TRANSFORMS.build({"type": "MaskConditioning", "alpha": alpha})({"img": image, "mask": mask[:, ::-1]})
    flipped = TRANSFORMS.build({"type": "MaskConditioning", "alpha": alpha})({"img": image, "mask": mask})
    np.testing.assert_array_equal(flipped["img"], expected)
    assert alpha == 0 or not np.array_equal(results["img"], expected)


def _mask():
    mask = np.zeros((60, 80), bool)
    mask[10:50, 20:45] = True
    return mask


def _rle(mask, *, compressed=True):
    rle = coco_mask.encode(np.asfortranarray(mask))
    if compressed:
        return {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    runs = np.flatnonzero(np.diff(np.r_[0, mask.T.ravel(), 0])).tolist()
    counts = np.diff([0, *runs, mask.size]).tolist()
    return {"size": list(mask.shape), "counts": counts}


@pytest.mark.parametrize(
    "segmentation",
    [
        _rle(_mask()),
        _rle(_mask(), compressed=False),
        [[20, 10, 45, 10, 45, 50, 20, 50]],
        [[20, 10, 45, 10, 45, 30, 20, 30], [20, 30, 45, 30, 45, 50, 20, 50]],
    ],
    ids=["compressed", "counts", "polygon", "two polygons"],
)
def test_masks_are_loaded(segmentation):
    loaded = TRANSFORMS.build({"type": "LoadPersonMask"})({"segmentation": segmentation, "img_shape": (60, 80)})
    assert loaded["mask"].dtype == bool
    np.testing.assert_array_equal(loaded["mask"], _mask())


@pytest.mark.parametrize("results", [{}, {"segmentation": None}, {"segmentation": []}])
def test_who_is_not_segmented_has_no_mask(results):
    assert TRANSFORMS.build({"type": "LoadPersonMask"})({**results, "img_shape": (4, 4)})["mask"] is None


def _noisy(seed=0, neighbours=(), mask=None, **chances):
    never = {"none": 0.0, "neighbour": 0.0, "patches": 0.0, "rim": 0.0}
    np.random.seed(seed)
    mask = _mask() if mask is None else mask
    given = mask.copy()
    found = TRANSFORMS.build({"type": "NoisyMask", **never, **chances})({"mask": mask, "neighbours": neighbours})
    np.testing.assert_array_equal(mask, given)
    return found["mask"]


def _beside():
    mask = np.zeros((60, 80), bool)
    mask[20:60, 40:70] = True
    return mask


def test_without_a_fault_the_mask_stays():
    np.testing.assert_array_equal(_noisy(), _mask())


@pytest.mark.parametrize("seed", range(10))
def test_patches_only_take_away(seed):
    noisy, mask = _noisy(seed, patches=1.0), _mask()
    assert not (noisy & ~mask).any()
    assert 0 < noisy.sum() < mask.sum()


@pytest.mark.parametrize("seed", range(10))
def test_a_neighbour_only_adds_what_is_his_in_the_box(seed):
    noisy, mask = _noisy(seed, [_rle(_beside())], neighbour=1.0), _mask()
    assert not (mask & ~noisy).any()
    added = noisy & ~mask
    assert not (added & ~_beside()).any()
    rows, columns = np.nonzero(added)
    assert ((rows >= 10) & (rows < 50) & (columns >= 20) & (columns < 45)).all()


def test_a_neighbour_does_add_something():
    overlapping = np.zeros((60, 80), bool)
    overlapping[:, 30:] = True
    hollow = _mask()
    hollow[15:45, 25:40] = False
    assert any((_noisy(seed, [_rle(overlapping)], hollow, neighbour=1.0) & ~hollow).any() for seed in range(10))


def test_the_rim_moves_both_ways_and_no_further_than_it_may():
    mask = _mask()
    furthest = round(0.1 * np.sqrt(mask.sum()))
    reach = np.ones((2 * furthest + 1,) * 2, np.uint8)
    widest, narrowest = (change(mask.astype(np.uint8), reach).astype(bool) for change in (cv2.dilate, cv2.erode))
    sizes = []
    for seed in range(20):
        noisy = _noisy(seed, rim=1.0, rim_width=0.1)
        assert not (noisy & ~widest).any()
        assert not (narrowest & ~noisy).any()
        sizes.append(noisy.sum())
    assert min(sizes) < mask.sum() < max(sizes)


def test_no_mask():
    assert _noisy(none=1.0) is None


def test_a_mask_is_never_emptied():
    dot = np.zeros((60, 80), bool)
    dot[30, 40] = True
    for seed in range(20):
        assert _noisy(seed, mask=dot, patches=1.0, rim=1.0, patch_size=2.0, rim_width=3.0).any()


@given(seed=st.integers(0, 2**31 - 1))
def test_the_seed_decides(seed):
    chances = {"none": 0.2, "neighbour": 0.5, "patches": 0.5, "rim": 0.5}
    first, second = (_noisy(seed, [_rle(_beside())], **chances) for _ in range(2))
    assert (first is None) == (second is None)
    if first is not None:
        assert first.dtype == bool
        assert first.shape == (60, 80)
        assert first.any()
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("mask", [None, np.zeros((4, 4), bool)])
def test_no_noise_without_a_mask(mask):
    results = {"mask": mask}
    assert TRANSFORMS.build({"type": "NoisyMask", "rim": 1.0})(results) is results


def _person(mask):
    return {
        "img": _image(),
        "img_shape": (16, 12),
        "bbox": np.array([[2.0, 3, 6, 9]], np.float32),
        "keypoints": np.random.default_rng(3).uniform(0, 12, (1, 17, 2)).astype(np.float32),
        "keypoints_visible": (np.arange(17)[None] % 3 > 0).astype(np.float32),
        "keypoints_visibility": np.arange(17)[None] % 3,
        "flip_indices": list(COCO_KEYPOINTS.flip_indices),
        "mask": mask,
    }


def test_flipping_swaps_sides_of_flags_and_mask():
    mask = np.random.default_rng(4).random((16, 12)) < 0.5
    person = _person(mask)
    flipped = TRANSFORMS.build({"type": "FlipPerson", "prob": 1.0})(_person(mask))
    order = list(COCO_KEYPOINTS.flip_indices)
    np.testing.assert_array_equal(flipped["img"], person["img"][:, ::-1])
    np.testing.assert_array_equal(flipped["mask"], mask[:, ::-1])
    np.testing.assert_array_equal(flipped["keypoints_visibility"], person["keypoints_visibility"][:, order])
    np.testing.assert_array_equal(flipped["keypoints_visible"], person["keypoints_visible"][:, order])
    np.testing.assert_allclose(flipped["keypoints"][..., 0], 11 - person["keypoints"][:, order, 0])
    assert (flipped["keypoints_visibility"] != person["keypoints_visibility"]).any()


def test_flipping_twice_gives_the_same_person_without_a_mask_too():
    flip = TRANSFORMS.build({"type": "FlipPerson", "prob": 1.0})
    twice, person = flip(flip(_person(None))), _person(None)
    assert twice["mask"] is None
    for name in ("img", "keypoints", "keypoints_visible", "keypoints_visibility"):
        np.testing.assert_allclose(twice[name], person[name], atol=1e-5)


def test_not_flipped():
    mask = np.ones((16, 12), bool)
    results = TRANSFORMS.build({"type": "FlipPerson", "prob": 0.0})(_person(mask))
    assert results["mask"] is mask
    np.testing.assert_array_equal(results["keypoints_visibility"], _person(mask)["keypoints_visibility"])


def test_somebody_without_a_mask_can_have_the_box():
    sample = {"img_shape": (20, 30), "bbox": np.float32([[3.5, 4, 9.2, 40]])}
    assert TRANSFORMS.build({"type": "LoadPersonMask"})(dict(sample))["mask"] is None
    mask = TRANSFORMS.build({"type": "LoadPersonMask", "without_mask": "box"})(dict(sample))["mask"]
    expected = np.zeros((20, 30), bool)
    expected[4:, 3:10] = True
    np.testing.assert_array_equal(mask, expected)
    with pytest.raises(ValueError, match="without_mask to be 'none' or 'box', got 'image'"):
        TRANSFORMS.build({"type": "LoadPersonMask", "without_mask": "image"})
