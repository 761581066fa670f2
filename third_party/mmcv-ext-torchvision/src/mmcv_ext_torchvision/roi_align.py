"""RoI align, average and maximum, as `mmcv.ops.roi_align` calls it, over torchvision's.

torchvision only averages. Maximum mode asks it for a finer output in which every bin is one sampling point (the same
points), and takes the maximum of each block. It knows nothing of feature pyramids.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from .precision import gradients, widen

_MAXIMUM = 0  # mmcv's pool_mode; 1 is average


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill `output` (R, C, height, width) with features of `input` (N, C, H, W) sampled in each bin of each region.

    Args:
        input: Feature maps.
        rois: (R, 5): number of the image, then xyxy in units of the image.
        output: Filled.
        argmax_y: Of the output's shape in maximum mode, else empty; filled with the row of the winning sample
            in its bin (a small number: half precision holds it exactly).
        argmax_x: Likewise its column.
        aligned_height: Rows of bins.
        aligned_width: Columns of bins.
        spatial_scale: Size of a feature map relative to its image.
        sampling_ratio: Samples a bin in each direction; 0 takes one a feature cell.
        pool_mode: 0 maximum, 1 average.
        aligned: Whether pixel centres lie at half coordinates; without, regions are at least one cell large.
    """
    features, regions = widen(input), rois.to(widen(input).dtype)
    size = (aligned_height, aligned_width)
    if pool_mode != _MAXIMUM:
        output.copy_(roi_align(features, regions, size, spatial_scale, sampling_ratio, aligned))
        return
    for rows, grid in _sampling_grids(regions, size, spatial_scale, sampling_ratio, aligned):
        fine_size = (size[0] * grid[0], size[1] * grid[1])
        samples = roi_align(features, regions[rows], fine_size, spatial_scale, 1, aligned)
        best, where = functional.max_pool2d(samples, grid, return_indices=True)
        output[rows] = best.to(output.dtype)
        argmax_y[rows] = (where // fine_size[1] % grid[0]).to(argmax_y.dtype)
        argmax_x[rows] = (where % fine_size[1] % grid[1]).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill `grad_input` (N, C, H, W); arguments as in the forward, which also filled the two argmax tensors."""
    regions = rois.to(widen(grad_input).dtype)
    size = (aligned_height, aligned_width)

    def backward(regions: Tensor, size: tuple[int, int], sampling_ratio: int, grad_output: Tensor) -> Tensor:
        def align(features: Tensor) -> Tensor:
            sampled: Tensor = roi_align(features, regions, size, spatial_scale, sampling_ratio, aligned)
            return sampled

        # Sampling is linear in the features: its gradient does not depend on their values.
        return gradients(align, [torch.zeros_like(grad_input)], grad_output)[0]

    if pool_mode != _MAXIMUM:
        grad_input.copy_(backward(regions, size, sampling_ratio, grad_output))
        return
    total = torch.zeros_like(widen(grad_input))
    for rows, grid in _sampling_grids(regions, size, spatial_scale, sampling_ratio, aligned):
        fine_size = (size[0] * grid[0], size[1] * grid[1])
        fine_y = argmax_y[rows].long() + torch.arange(size[0], device=rois.device)[:, None] * grid[0]
        fine_x = argmax_x[rows].long() + torch.arange(size[1], device=rois.device) * grid[1]
        where = fine_y * fine_size[1] + fine_x
        values = widen(grad_output[rows])
        fine = values.new_zeros(*values.shape[:2], fine_size[0] * fine_size[1])
        fine.scatter_(2, where.flatten(2), values.flatten(2))
        total += backward(regions[rows], fine_size, 1, fine.view(*fine.shape[:2], *fine_size))
    grad_input.copy_(total)


def _sampling_grids(
    rois: Tensor, size: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Yield rows of `rois` that are sampled alike, with their number of samples a bin (down, across).

    A fixed ratio gives one group; ratio 0 gives one for each number of feature cells that a bin spans.
    """
    if sampling_ratio > 0:
        grids = rois.new_full((len(rois), 2), sampling_ratio, dtype=torch.int64)
    else:
        extent = (rois[:, [4, 3]] - rois[:, [2, 1]]) * spatial_scale
        if not aligned:
            extent = extent.clamp(min=1)
        grids = (extent / extent.new_tensor(size)).ceil().clamp(min=1).long()
    for grid in torch.unique(grids, dim=0):
        down, across = grid.tolist()
        yield (grids == grid).all(1).nonzero()[:, 0], (down, across)
