"""Windows around people: levels and masks sampled on a grid of each person's own. Knows no network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

GRID = (128, 96)
"""Height and width of the grid of a person, in cells of the finest level."""
MARGIN = 1.2
"""The window is so many times as large as the box."""


def windows_of(boxes: Tensor, grid: tuple[int, int] = GRID, margin: float | Tensor = MARGIN) -> Tensor:
    """Return the window around each box, float32 (N, 4) xyxy: larger by ``margin``, of the shape of ``grid``.

    margin: a number, or one for each box, (N, 1).
    """
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    aspect = grid[1] / grid[0]
    height = torch.maximum(size[:, 1:], size[:, :1] / aspect) * margin
    half = torch.cat([height * aspect, height], dim=1) / 2
    return torch.cat([middle - half, middle + half], dim=1)


def sample_windows(
    values: Tensor, windows: Tensor, size: tuple[float, float], grid: tuple[int, int], rows: Tensor | None = None
) -> Tensor:
    """Sample maps at the middles of the cells of windows.

    Args:
        values: float (B, C, h, w), maps that cover whole images.
        windows: float (N, 4), xyxy in pixels.
        size: of the images, (height, width) in pixels.
        grid: rows and columns of cells.
        rows: int64 (N,), the map of each window; None where there is one for all, or one for each.

    Returns:
        float (N, C, *grid), bilinear, 0 outside the images.
    """
    count = len(windows)
    if rows is not None:
        values = values[rows]
    elif len(values) != count:
        values = values.expand(count, -1, -1, -1)
    steps = [
        (torch.arange(cells, device=values.device) + 0.5) / cells for cells in grid
    ]  # of y, of x, as shares of the window
    extent = windows.to(values.device)
    y = extent[:, 1:2] + steps[0] * (extent[:, 3:] - extent[:, 1:2])
    x = extent[:, :1] + steps[1] * (extent[:, 2:3] - extent[:, :1])
    places = torch.stack(
        [
            (x / size[1] * 2 - 1)[:, None, :].expand(count, *grid),
            (y / size[0] * 2 - 1)[:, :, None].expand(count, *grid),
        ],
        dim=-1,
    )
    return F.grid_sample(values, places.to(values.dtype), align_corners=False)


def person_levels(
    levels: Sequence[Tensor],
    windows: Tensor,
    size: tuple[float, float],
    grid: tuple[int, int] = GRID,
    rows: Tensor | None = None,
) -> list[Tensor]:
    """Sample each level on a grid that is coarser for coarser levels, as the levels are."""
    finest = levels[0].shape[2]
    return [
        sample_windows(
            level,
            windows,
            size,
            (max(1, grid[0] * level.shape[2] // finest), max(1, grid[1] * level.shape[2] // finest)),
            rows,
        )
        for level in levels
    ]
