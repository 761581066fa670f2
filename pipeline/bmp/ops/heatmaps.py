"""From heatmaps to locations and back, batched on the device of the maps; knows no network, crop or image.

Locations are (x, y) in map pixels: the centres of cells are whole numbers, so (0, 0) is the centre of the first cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bmp.label_sets import COCO_KEYPOINTS

_BOX_PADDING = 1.25  # crops show the box this much enlarged, so the box's own area in map cells is smaller
_VARIANCE_RANGE = (0.55, 3.0)
_LOG_RANGE = (1e-3, 50.0)
_LEAST_TARGET = 1e-3  # a keypoint whose map is nowhere above this lies too far outside to be moved to the edge


def find_maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Find the highest cell of each map, the first in reading order among equals.

    Args:
        maps: float (..., H, W).

    Returns:
        locations int64 (..., 2) and the values there, (...).
    """
    values, cells = maps.flatten(-2).max(-1)
    width = maps.shape[-1]
    return torch.stack((cells % width, cells // width), -1), values


def decode_dark_udp(maps: Tensor, *, blur_kernel_size: int = 11) -> tuple[Tensor, Tensor]:
    """Decode by arg-max and one Newton step on the log of the blurred map (DARK with UDP's stencil).

    The arg-max stays where that step is longer than the blur reaches, as on a flat map or a ramp.

    Args:
        maps: float32 (B, K, H, W).
        blur_kernel_size: odd width of the Gaussian in cells; its sigma is OpenCV's for that width.

    Returns:
        locations float32 (B, K, 2) and scores (B, K), the maximum of each map.
    """
    places, scores = find_maxima(maps)
    peak = _neighbourhood(_log_blurred(maps, scores, blur_kernel_size), places)
    (up_left, up, _), (left, centre, right), (_, down, down_right) = (row.unbind(-1) for row in peak.unbind(-2))
    dx, dy = (right - left) / 2, (down - up) / 2
    # UDP's stencil: the mixed derivative is taken along one diagonal only, and the Hessian is nudged off singular.
    nudge = torch.finfo(torch.float32).eps
    dxx = right - 2 * centre + left + nudge
    dyy = down - 2 * centre + up + nudge
    dxy = (down_right - right - down + 2 * centre - left - up + up_left) / 2
    determinant = dxx * dyy - dxy * dxy
    step = torch.stack((dyy * dx - dxy * dy, dxx * dy - dxy * dx), -1) / determinant[..., None]
    within_reach = (step.abs() <= blur_kernel_size // 2).all(-1, keepdim=True)  # false also for NaN
    return places - torch.where(within_reach, step, 0), scores


def decode_expected_oks(maps: Tensor, sigmas: Sequence[float] = COCO_KEYPOINTS.sigmas) -> tuple[Tensor, Tensor]:
    """Decode to the location of the highest expected OKS (ProbPose): arg-max of the map convolved with an OKS kernel.

    Between cells, a parabola is fitted to the maximum and its neighbours along each axis; a maximum at the
    edge of the map stays there.

    Args:
        maps: float32 (B, K, H, W), ideally the probability of each cell.
        sigmas: K OKS falloffs.

    Returns:
        locations float32 (B, K, 2) and scores (B, K), the given (not the convolved) map at the highest cell.
    """
    height, width = maps.shape[-2:]
    variances = oks_variances(sigmas, height, width)
    columns = torch.stack([_oks_smoothing(height, variance) for variance in variances]).to(maps)
    rows = torch.stack([_oks_smoothing(width, variance) for variance in variances]).to(maps)
    expected = columns @ maps @ rows.mT
    places, _ = find_maxima(expected)
    peak = _neighbourhood(expected, places)
    centre, before = peak[..., 1, 1, None], torch.stack((peak[..., 1, 0], peak[..., 0, 1]), -1)
    after = torch.stack((peak[..., 1, 2], peak[..., 2, 1]), -1)
    curvature = before - 2 * centre + after
    step = torch.where(curvature == 0, 0, (before - after) / (2 * curvature))
    last = places.new_tensor((width - 1, height - 1))
    inside = ((places > 0) & (places < last)).all(-1, keepdim=True)
    scores = maps.flatten(-2).gather(-1, (places[..., 1] * width + places[..., 0])[..., None])[..., 0]
    return places + torch.where(inside, step, 0), scores


def oks_variances(sigmas: Sequence[float], height: int, width: int) -> list[float]:
    """Return the variance in square cells of each keypoint's OKS kernel on maps of that size.

    The person is assumed to fill the map except for the crop's padding; the variance is limited to what a grid of
    cells can show.
    """
    scale = 2 * math.sqrt(height / _BOX_PADDING * width / _BOX_PADDING)
    low, high = _VARIANCE_RANGE
    return [min(max((2 * sigma) ** 2 * scale, low), high) for sigma in sigmas]


def oks_targets(keypoints: Tensor, height: int, width: int, sigmas: Sequence[float] = COCO_KEYPOINTS.sigmas) -> Tensor:
    """Draw the map of a perfect network: in each cell, the OKS of a prediction there.

    The best cell has 1, also for keypoints slightly outside the map; a keypoint far outside leaves its map nearly
    as zero.

    Args:
        keypoints: float (..., K, 2), in map pixels.
        height: of the maps.
        width: of the maps.
        sigmas: K OKS falloffs.

    Returns:
        float32 (..., K, H, W) in [0, 1].
    """
    variances = keypoints.new_tensor(oks_variances(sigmas, height, width))[:, None]
    maps = _bells(keypoints, height, width, variances)
    highest = maps.amax((-2, -1), keepdim=True)
    return (maps / torch.where(highest > _LEAST_TARGET, highest, 1)).float()


def gaussian_targets(keypoints: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """Draw the plain map of a keypoint: a Gaussian about its exact place, which is between cells mostly (UDP).

    Args:
        keypoints: float (..., K, 2), in map pixels.
        height: of the maps.
        width: of the maps.
        sigma: of the Gaussian, in cells.

    Returns:
        float32 (..., K, H, W) in [0, 1]; 1 only where a keypoint is at the middle of a cell.
    """
    return _bells(keypoints, height, width, keypoints.new_tensor(sigma**2)).float()


def _bells(keypoints: Tensor, height: int, width: int, variances: Tensor) -> Tensor:
    xs = torch.arange(width, dtype=keypoints.dtype, device=keypoints.device)
    ys = torch.arange(height, dtype=keypoints.dtype, device=keypoints.device)
    along_x = torch.exp(-((xs - keypoints[..., :1]) ** 2) / (2 * variances))
    along_y = torch.exp(-((ys - keypoints[..., 1:]) ** 2) / (2 * variances))
    return along_y[..., :, None] * along_x[..., None, :]


def _neighbourhood(maps: Tensor, places: Tensor) -> Tensor:
    """Return the 3x3 cells around each location, (..., 3, 3); beyond the edge the nearest cell counts."""
    height, width = maps.shape[-2:]
    around = torch.arange(-1, 2, device=maps.device)
    xs = (places[..., :1] + around).clamp(0, width - 1)
    ys = (places[..., 1:] + around).clamp(0, height - 1)
    cells = ys[..., :, None] * width + xs[..., None, :]
    return maps.flatten(-2).gather(-1, cells.flatten(-2)).view(cells.shape)


def _log_blurred(maps: Tensor, highest: Tensor, kernel_size: int) -> Tensor:
    """Blur, scale back to the old maximum, and take the log within a range that keeps it finite."""
    height, width = maps.shape[-2:]
    blurred = _blurring(height, kernel_size).to(maps) @ maps @ _blurring(width, kernel_size).to(maps)
    blurred_highest = blurred.amax((-2, -1))
    scale = torch.where(blurred_highest > 0, highest / blurred_highest, 1)
    return (blurred * scale[..., None, None]).clamp(*_LOG_RANGE).log()


# Both smoothings are separable, and on maps this small two matrix products beat convolutions by far.
def _blurring(size: int, kernel_size: int) -> Tensor:
    """Return the symmetric (size, size) matrix of a Gaussian blur that takes cells beyond the edge for zero."""
    sigma = 0.3 * ((kernel_size - 1) * 0.5 - 1) + 0.8
    radius = kernel_size // 2
    steps = torch.arange(size, dtype=torch.float64)
    distance = (steps[:, None] - steps).abs()
    taps = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    return torch.where(distance <= radius, torch.exp(-(distance**2) / (2 * sigma**2)) / taps.sum(), 0)


def _oks_smoothing(size: int, variance: float) -> Tensor:
    """Return the (size, size) matrix of an OKS kernel; beyond the edge the map is mirrored, edge cell included."""
    radius = math.ceil(3 * variance)
    offsets = torch.arange(-radius, radius + 1)
    taps = torch.exp(-(offsets.double() ** 2) / (2 * variance))
    source = (torch.arange(size)[:, None] + offsets) % (2 * size)
    source = torch.minimum(source, 2 * size - 1 - source)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, source, (taps / taps.sum()).expand(size, -1))
