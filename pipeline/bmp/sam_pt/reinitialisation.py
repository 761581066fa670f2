"""When objects are begun anew from a mask that was found; numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from bmp.errors import UserError

Variant: TypeAlias = Literal["on-horizon-and-sync", "median-of-area", "similar-area", "similar-area-and-sync"]

_SMALL = 25  # pixels up to which a mask is no start
_NO_MASK, _START = 720.0, 36.0  # cost of an object without a mask, and bonus of a frame in which another one begins


@dataclass(frozen=True)
class Reinitialisation:
    """Follow points for a while, choose one of the masks found, draw new points from it and go on from there.

    Points that slipped off an object are so replaced; what was found behind the new start is found once more.

    Attributes:
        variant: which frame of a window is the next start. "on-horizon-and-sync" is its last one, or the first in
            which another object begins. "median-of-area" is the one with the median area, "similar-area" the one whose
            area is closest to that of the window's first mask, both for each object by itself;
            "similar-area-and-sync" is the one where the areas of all objects together are closest to those.
        horizon: frames of a window, the first included.

    Masks of up to 25 pixels and the first quarter of a window are no start, but for the first variant. Raises
    ``UserError`` for another variant and a horizon below 2.
    """

    variant: Variant = "median-of-area"
    horizon: int = 24

    def __post_init__(self) -> None:
        if self.variant not in _CHOICES:
            raise UserError(f"variant: expected one of {', '.join(_CHOICES)}, got {self.variant!r}")
        if self.horizon < 2:
            raise UserError(f"horizon: expected at least 2 frames, got {self.horizon}")

    def next_starts(self, areas: Tensor, begins: Collection[int] = ()) -> list[int]:
        """Choose the next start of each object of a window that does not reach the end of the video.

        Args:
            areas: (O, horizon), pixels of each object's mask in the frames of the window.
            begins: frames of the window, counted from its first, in which other objects begin.

        Returns:
            For each object a frame of the window from 1 on.
        """
        return _CHOICES[self.variant](areas.to(torch.float64), self._eligible(areas), begins)

    def _eligible(self, areas: Tensor) -> Tensor:
        late = torch.arange(self.horizon, device=areas.device) > self.horizon // 4
        return (areas > _SMALL) & late


def _on_horizon(areas: Tensor, eligible: Tensor, begins: Collection[int]) -> list[int]:
    return [min([areas.shape[1] - 1, *(frame for frame in begins if frame > 0)])] * len(areas)


def _median(areas: Tensor, eligible: Tensor, begins: Collection[int]) -> list[int]:
    starts = []
    for own, possible in zip(areas, eligible, strict=True):
        frames = possible.nonzero()[:, 0]
        if len(frames):
            order = own[frames].argsort(stable=True)
            starts.append(int(frames[order[(len(frames) - 1) // 2]]))
        else:
            starts.append(1)
    return starts


def _similar(areas: Tensor, eligible: Tensor, begins: Collection[int]) -> list[int]:
    away = torch.where(eligible, (areas - areas[:, :1]).abs(), torch.inf)
    return (away[:, 1:].argmin(dim=1) + 1).tolist()


def _similar_together(areas: Tensor, eligible: Tensor, begins: Collection[int]) -> list[int]:
    first = areas[:, :1]
    away = torch.where(eligible & (first > 0), (areas - first).abs() / first, _NO_MASK)
    cost = away.sum(dim=0)
    for frame in begins:
        cost[frame] -= _START
    return [int(cost[1:].argmin()) + 1] * len(areas)


_CHOICES = {
    "on-horizon-and-sync": _on_horizon,
    "median-of-area": _median,
    "similar-area": _similar,
    "similar-area-and-sync": _similar_together,
}
