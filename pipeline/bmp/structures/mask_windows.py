"""Masks of people in one image, each stored only within a window that holds it; knows nobody's meaning or score.

A person covers a small part of a photo, so work on windows costs what the people's boxes cover, and memory likewise,
where whole masks cost every person the whole photo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

Window = tuple[slice, slice]
"""Rows and columns of an image."""


@dataclass(frozen=True, eq=False)
class MaskWindows:
    """N masks of an image of ``height`` x ``width`` pixels; nothing belongs to a mask outside its window.

    corners: (x, y) of each window's first pixel. patches: bool (h, w) each, the mask within its window; h and w may be
    0. device: where the patches are.

    Raises ``ValueError`` for a window that is not within the image, and ``TypeError`` for patches of another type.
    """

    height: int
    width: int
    corners: tuple[tuple[int, int], ...]
    patches: tuple[Tensor, ...]
    device: torch.device

    def __post_init__(self) -> None:
        for (x, y), patch in zip(self.corners, self.patches, strict=True):
            if patch.dtype != torch.bool:
                raise TypeError(f"MaskWindows: expected patches of torch.bool, got {patch.dtype}; compare with > 0")
            high, wide = patch.shape
            if not (0 <= x <= x + wide <= self.width and 0 <= y <= y + high <= self.height):
                raise ValueError(
                    f"MaskWindows: expected windows within {self.width}x{self.height} pixels, got {wide}x{high} at "
                    f"({x}, {y}); cut them to the image"
                )

    @classmethod
    def of(cls, bits: Tensor) -> MaskWindows:
        """Return whole masks bool (N, H, W) within the tightest windows, which share their memory."""
        boxes = tight_boxes(bits).tolist()
        _, height, width = bits.shape
        return cls(
            height,
            width,
            tuple((left, top) for left, top, _, _ in boxes),
            tuple(mask[top:bottom, left:right] for mask, (left, top, right, bottom) in zip(bits, boxes, strict=True)),
            bits.device,
        )

    @classmethod
    def empty(cls, height: int, width: int, device: torch.device | str = "cpu") -> MaskWindows:
        """Return no masks."""
        return cls(height, width, (), (), torch.device(device))

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the whole masks: (N, H, W)."""
        return len(self.patches), self.height, self.width

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, rows: Tensor | slice | Sequence[int]) -> MaskWindows:
        """Select masks by a slice, or by indices or bools as for a tensor."""
        if isinstance(rows, slice):
            return self._with(self.corners[rows], self.patches[rows])
        chosen = torch.as_tensor(rows, device="cpu")
        indices: list[int] = torch.arange(len(self))[chosen if len(chosen) else chosen.long()].tolist()
        return self._with(tuple(self.corners[row] for row in indices), tuple(self.patches[row] for row in indices))

    def windows(self) -> Iterator[Window]:
        """Yield rows and columns of each window."""
        for (x, y), patch in zip(self.corners, self.patches, strict=True):
            yield slice(y, y + patch.shape[0]), slice(x, x + patch.shape[1])

    def replaced(self, patches: Sequence[Tensor]) -> MaskWindows:
        """Return other masks in the same windows."""
        return self._with(self.corners, tuple(patches))

    def to(self, device: torch.device | str) -> MaskWindows:
        """Copy to ``device``; shared if they are there already."""
        device = torch.device(device)
        return MaskWindows(
            self.height, self.width, self.corners, tuple(patch.to(device) for patch in self.patches), device
        )

    def whole(self) -> Tensor:
        """Return the masks of the whole image, bool (N, H, W)."""
        bits = torch.zeros(self.shape, dtype=torch.bool, device=self.device)
        for mask, window, patch in zip(bits, self.windows(), self.patches, strict=True):
            mask[window] = patch
        return bits

    def any(self) -> Tensor:
        """Tell which masks have any pixel: bool (N,)."""
        if not self.patches:
            return torch.zeros(0, dtype=torch.bool, device=self.device)
        return torch.stack([patch.any() for patch in self.patches])

    def at(self, row: int, x: Tensor, y: Tensor) -> Tensor:
        """Tell which pixels, int64 of any shape and anywhere, belong to a mask: bool of that shape."""
        (left, top), patch = self.corners[row], self.patches[row]
        if not patch.numel():
            return torch.zeros_like(x, dtype=torch.bool)
        across, down, (high, wide) = x - left, y - top, patch.shape
        near = (across >= 0) & (across < wide) & (down >= 0) & (down < high)
        return near & patch[down.clamp(0, high - 1), across.clamp(0, wide - 1)]

    @classmethod
    def concat(cls, parts: Sequence[MaskWindows]) -> MaskWindows:
        """Put the masks of at least one part in a row; ``ValueError`` where they are of images of different size."""
        first = parts[0]
        if any(part.shape[1:] != first.shape[1:] for part in parts):
            sizes = sorted({f"{part.width}x{part.height}" for part in parts})
            raise ValueError(f"MaskWindows: expected masks of one image, got images of {', '.join(sizes)} pixels")
        return first._with(
            tuple(corner for part in parts for corner in part.corners),
            tuple(patch for part in parts for patch in part.patches),
        )

    def _with(self, corners: tuple[tuple[int, int], ...], patches: tuple[Tensor, ...]) -> MaskWindows:
        return MaskWindows(self.height, self.width, corners, patches, self.device)


def tight_boxes(bits: Tensor) -> Tensor:
    """Return the box around each mask of bool (N, H, W): int64 (N, 4), xyxy edges, zeros for an empty mask."""
    if not bits.numel():
        return torch.zeros(len(bits), 4, dtype=torch.int64, device=bits.device)
    if bits.device.type == "cpu":  # nine times as fast there
        found = [cv2.boundingRect(np.ascontiguousarray(mask)) for mask in bits.view(torch.uint8).numpy()]
        boxes = torch.tensor(found)
        return torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1)
    return boxes_of_tensor(bits)


def boxes_of_tensor(bits: Tensor) -> Tensor:
    """Do what ``tight_boxes`` does on any device, of at least one mask and pixel."""
    _, height, width = bits.shape
    columns, rows = bits.any(dim=1).byte(), bits.any(dim=2).byte()
    # the first of the largest values is where a mask begins, and seen from the other side where it ends
    edges = [columns.argmax(dim=1), rows.argmax(dim=1)]
    edges += [width - columns.flip(1).argmax(dim=1), height - rows.flip(1).argmax(dim=1)]
    return torch.stack(edges, dim=1) * columns.any(dim=1)[:, None]


class MaskField:
    """A field of masks, bool (N, H, W): it takes whole masks or windows, and is whole when it is read.

    Windows are kept until somebody reads the field, and whole masks from then on. ``kept`` returns them as they are.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: object | None, owner: type | None = None) -> Tensor:
        if record is None:
            raise AttributeError(self._name)  # the field has no default
        return _whole(record, self._name)

    def __set__(self, record: object, value: Tensor | MaskWindows) -> None:
        vars(record)[self._name] = value


class OptionalMaskField:
    """As ``MaskField``; None where there are no masks."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: object | None, owner: type | None = None) -> Tensor | None:
        if record is None or vars(record)[self._name] is None:
            return None
        return _whole(record, self._name)

    def __set__(self, record: object, value: Tensor | MaskWindows | None) -> None:
        vars(record)[self._name] = value


def _whole(record: object, name: str) -> Tensor:
    kept: Tensor | MaskWindows = vars(record)[name]
    if isinstance(kept, MaskWindows):
        kept = vars(record)[name] = kept.whole()
    return kept
