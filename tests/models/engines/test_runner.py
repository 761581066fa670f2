"""The exported program's arithmetic in NumPy, piece by piece beside torch's; whole, ``tests/inference/test_export.py``."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

pytest.importorskip("onnxruntime", reason="the extra engines is not installed")

from bmp.models.engines import runner
from bmp.ops.heatmaps import decode_dark_udp, decode_expected_oks, oks_variances
from bmp.ops.masks import fill_holes, remove_specks
from bmp.ops.sparsemax import sparsemax
from bmp.poses.crops import crop, windows_around

SIGMAS = [0.025 + 0.005 * number for number in range(5)]


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize("given", [(50, 70), (301, 97), (1, 1), (1, 60)])
@pytest.mark.parametrize("wanted", [(20, 30), (128, 96), (1, 1)])
def test_resizing_with_antialias(generator, given, wanted):
    values = generator.random((*given, 3)).astype(np.float32)
    planes = torch.from_numpy(values).permute(2, 0, 1)[None]
    expected = F.interpolate(planes, wanted, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    np.testing.assert_allclose(runner._antialiased(values, *wanted), expected, atol=1e-5)
    np.testing.assert_allclose(runner._antialiased(values[..., 0], *wanted), expected[..., 0], atol=1e-5)


@pytest.mark.parametrize("spread", [0.0, 0.01, 3.0, 100.0])
def test_sparsemax_of_flat_and_peaked_rows(generator, spread):
    scores = (generator.standard_normal((2, 5, 3072)) * spread).astype(np.float32)
    np.testing.assert_allclose(runner._sparsemax(scores), sparsemax(torch.from_numpy(scores)), atol=1e-6)


def maps_of(generator, kind):
    shape = (2, 5, 64, 48)
    if kind == "zeros":
        return np.zeros(shape, np.float32)
    if kind == "noise":
        return generator.random(shape).astype(np.float32)
    ys, xs = np.mgrid[:64, :48]
    centres = generator.random((2, 5, 2, 1, 1)) * [[[47]], [[63]]]  # some at the edge
    centres[0, 0] = 0
    squares = (xs - centres[:, :, 0]) ** 2 + (ys - centres[:, :, 1]) ** 2
    return np.exp(-squares / 8).astype(np.float32)


@pytest.mark.parametrize("kind", ["peaks", "noise", "zeros"])
@pytest.mark.parametrize("decoder", ["dark_udp", "expected_oks"])
def test_decoding(generator, kind, decoder):
    maps = maps_of(generator, kind)
    settings = {"oks_variances": oks_variances(SIGMAS, 64, 48), "blur_kernel_size": 11}
    if decoder == "dark_udp":
        locations, scores = decode_dark_udp(torch.from_numpy(maps), blur_kernel_size=11)
        found = runner._dark_udp(maps, settings)
    else:
        locations, scores = decode_expected_oks(torch.from_numpy(maps), SIGMAS)
        found = runner._expected_oks(maps, settings)
    np.testing.assert_allclose(found[0], locations, atol=2e-3)
    np.testing.assert_array_equal(found[1], scores)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(100, 80), (1, 1), (7, 300)])
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("without_mask", ["box", "image"])
def test_crops_of_people_inside_across_and_beside_the_edge(generator, height, width, unbiased, without_mask):
    pixels = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
    shares = [[0.1, 0.1, 0.6, 0.9], [0.5, -0.2, 1.3, 0.7], [0.3, 0.3, 0.4, 0.5], [-0.9, -0.9, -0.5, -0.2]]
    boxes = np.array(shares, np.float32) * np.array([width, height] * 2, np.float32)
    masks = np.zeros((4, height, width), bool)
    masks[0, height // 8 : height - height // 4, width // 8 : max(1, width // 2)] = True
    masks[2, ::5, ::7] = True
    windows = windows_around(torch.from_numpy(boxes), aspect=0.75, padding=1.25)
    expected = crop(
        torch.from_numpy(pixels),
        windows,
        width=96,
        height=128,
        unbiased=unbiased,
        masks=torch.from_numpy(masks),
        boxes=torch.from_numpy(boxes) if without_mask == "box" else None,
    )
    settings = dict(width=96, height=128, unbiased=unbiased, alpha=0.25, without_mask=without_mask)
    for row, (centre, size) in enumerate(zip(windows.centers.numpy(), windows.sizes.numpy(), strict=True)):
        found = runner._crop(pixels, centre, size, boxes[row], masks[row], settings)
        assert np.abs(found - expected[row].permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.slow  # to import torchvision takes a second
def test_nms_is_that_of_torchvision(generator):
    from torchvision.ops import nms

    corners = generator.random((60, 2)) * 50
    boxes = np.concatenate((corners, corners + generator.random((60, 2)) * 40), 1).astype(np.float32)
    scores = generator.random(60).astype(np.float32)
    for limit in (0.0, 0.3, 0.7, 1.0):
        expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), limit)
        np.testing.assert_array_equal(runner._nms(boxes, scores, limit), expected)
    assert runner._nms(boxes[:0], scores[:0], 0.5).tolist() == []


@pytest.mark.parametrize(("holes", "specks"), [(0, 0), (3, 0), (0, 6), (3, 6), (2000, 2000)])
def test_cleaning_up(generator, holes, specks):
    logits = generator.standard_normal((40, 40)).astype(np.float32)
    filled = fill_holes(torch.from_numpy(logits > 0)[None], holes)
    clean = remove_specks(filled, specks)
    clean = clean if clean.any() else filled
    np.testing.assert_array_equal(runner._clean(logits, holes, specks) > 0, clean[0])
