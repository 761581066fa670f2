"""Body parts by the parsing network: on SAM 2's levels, or inside SAM 1 on crops; with CLIP's semantics.

Knows no loop and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.models.compute import autocast, dtype_of
from bmp.models.schnet.inside import STRIDE, InsideSCHNet, crops_of
from bmp.models.schnet.network import SCHNet, build_schnet
from bmp.models.schnet.windows import GRID, person_levels, sample_windows, windows_of
from bmp.ops.parts import SMALLEST, labels_inside, mean_scores, sampled, window_of
from bmp.registry import PARSERS
from bmp.stages import ImageEncoder
from bmp.structures import Image, Instances, Parts

Way = Literal["auto", "image", "person"]
"""How the network is asked: once for the whole image, or once for each person with the person's mask."""
_FEW = 8


@PARSERS.register_module()
class SAMCLIPParser:
    """Parses people on the levels of an image encoder that the segmenter may share, which then costs nothing more.

    Args:
        checkpoint: of the parsing network, its semantic encoder and the embeddings of the labels' names, a
            .safetensors file: name, path or URL for ``bmp.checkpoints.sources.resolve``; "random" makes them up.
        encoder: gives SAM 2's levels, in most cases a part shared with the segmenter.
        model: the shape of the network, see ``bmp.models.schnet.network.settings_of``.
        way: "image": one map of the image, of which each person gets what lies in the mask, at the same cost for any
            number of people. "person": a grid of ``grid`` cells for each person's window, with the mask as input.
            "auto": by person for up to 8 people, else by image.
        grid: rows and columns of cells, of the finest level.
        flip: also ask of the mirrored image, and take the mean; this encodes every image once more.
        fill: pixels of a mask whose best label is the background get their best other one, so that parts tile it.
        smallest: connected parts of fewer pixels go to a neighbour.
        person_batch: people in the network at a time.
        device: of the network.
        dtype: "float32", or "bfloat16" for autocast.

    Raises:
        ImportError: where the network needs open_clip, which is not installed.
        UserError: for a model that there is not, weights that do not fit it, and values out of range.
    """

    def __init__(
        self,
        checkpoint: str,
        encoder: ImageEncoder,
        model: str | Mapping[str, Any] = "b+",
        *,
        way: Way = "auto",
        grid: tuple[int, int] = GRID,
        flip: bool = False,
        fill: bool = True,
        smallest: int = SMALLEST,
        person_batch: int = 8,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        if way not in ("auto", "image", "person"):
            raise UserError(f"way: expected 'auto', 'image' or 'person', got {way!r}")
        if person_batch < 1 or min(grid) < 1:
            raise UserError(f"person_batch, grid: expected numbers from 1, got {person_batch} and {tuple(grid)}")
        self._dtype = dtype_of(dtype)
        self.network = build_schnet(model, checkpoint).to(device)
        if self.network.settings.inside:
            raise UserError("model: it works inside SAM's blocks, on crops; use SAMCLIPCropParser")
        self.label_set = self.network.label_set
        self.encoder = encoder
        self.device = device
        # A linear layer on each level has no input for a mask.
        self._way: Way = way if self.network.head is not None else "image"
        self._grid = (grid[0], grid[1])
        self._flip, self._fill, self._smallest, self._person_batch = flip, fill, smallest, person_batch

    def parse(self, images: Sequence[Image], people: Sequence[Instances]) -> list[Parts]:
        """Return parts row by row for ``people``; an image without people costs nothing."""
        found = [Parts.nowhere(each, self.label_set) for each in people]
        busy = [row for row, each in enumerate(people) if len(each)]
        if not busy:
            return found
        with torch.inference_mode():
            for row, levels in zip(busy, self.encoder.levels([images[row] for row in busy]), strict=True):
                found[row] = self._of_image(images[row], people[row], found[row], levels)
        return found

    def _of_image(self, image: Image, people: Instances, parts: Parts, levels: Sequence[Tensor]) -> Parts:
        by_person = self._way == "person" or (self._way == "auto" and len(people) <= _FEW)
        views = [self._refined(image, levels)]
        if self._flip:
            mirrored = Image(image.pixels.flip(1))
            views.append(self._refined(mirrored, *self.encoder.levels([mirrored])))
        if not by_person:
            whole = torch.tensor([[0.0, 0.0, image.width, image.height]])
            (image_map,) = self._mean([self._probabilities(refined) for refined in views])
            return _filled_in(
                parts, range(len(people)), whole.expand(len(people), 4), lambda _: image_map, self._fill, self._smallest
            )
        size = (float(image.height), float(image.width))
        for rows in _batches(len(people), self._person_batch):
            windows = windows_of(people.detections.boxes[rows.start : rows.stop].cpu(), self._grid)
            inside = _masks(parts, rows, windows, self._grid).to(self.device, views[0][0].dtype)
            found = [self._probabilities(person_levels(views[0], windows, size, self._grid), inside)]
            if self._flip:
                left, top, right, bottom = windows.unbind(1)
                across = torch.stack((image.width - right, top, image.width - left, bottom), dim=1)
                found.append(self._probabilities(person_levels(views[1], across, size, self._grid), inside.flip(-1)))
            maps = self._mean(found)
            parts = _filled_in(parts, rows, windows, maps.__getitem__, self._fill, self._smallest)
        return parts

    def _refined(self, image: Image, levels: Sequence[Tensor]) -> list[Tensor]:
        semantics = self.network.semantics
        with autocast(self.device, self._dtype):
            inputs = None if semantics is None else semantics.of_images([image], self.device)
            return self.network.refine([level.to(self.device) for level in levels], inputs)

    def _probabilities(self, levels: Sequence[Tensor], masks: Tensor | None = None) -> Tensor:
        with autocast(self.device, self._dtype):
            return _classified(self.network, levels, masks)

    def _mean(self, views: Sequence[Tensor]) -> Tensor:
        """Return the mean of maps (B, labels, h, w) of an image and, where there is one, of its mirror image."""
        if len(views) == 1:
            return views[0]
        straight, mirrored = views
        return (straight + mirrored[:, list(self.label_set.flip_indices)].flip(-1)) / 2


@PARSERS.register_module()
class SAMCLIPCropParser:
    """Parses people each on a crop of the image, with SAM 1's encoder of its own: slow, and nearest to the paper.

    Args:
        checkpoint: of all of the network, SAM's encoder and CLIP included, a .safetensors file: name, path or URL for
            ``bmp.checkpoints.sources.resolve``; "random" makes it up.
        model: the shape of the network, see ``bmp.models.schnet.network.settings_of``; it has to have ``inside``.
        fill: as for ``SAMCLIPParser``.
        smallest: connected parts of fewer pixels go to a neighbour.
        person_batch: people in the network at a time.
        device: of the network.
        dtype: "float32", or "bfloat16" for autocast.

    Raises:
        ImportError: where segment-anything is not installed, or open_clip if the network needs it.
        UserError: for a model that there is not, weights that do not fit it, and values out of range.
    """

    def __init__(
        self,
        checkpoint: str,
        model: str | Mapping[str, Any] = "inside_b",
        *,
        fill: bool = True,
        smallest: int = SMALLEST,
        person_batch: int = 2,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        if person_batch < 1:
            raise UserError(f"person_batch: expected at least 1, got {person_batch}")
        self._dtype = dtype_of(dtype)
        network = build_schnet(model, checkpoint)
        if not isinstance(network, InsideSCHNet):
            raise UserError("model: it works on levels of SAM 2, not on crops; use SAMCLIPParser")
        self.network = network.to(device)
        self.label_set = network.label_set
        self.device = device
        self._fill, self._smallest, self._person_batch = fill, smallest, person_batch

    def parse(self, images: Sequence[Image], people: Sequence[Instances]) -> list[Parts]:
        """Return parts row by row for ``people``; an image without people costs nothing."""
        with torch.inference_mode():
            return [self._of_image(*each) for each in zip(images, people, strict=True)]

    def _of_image(self, image: Image, people: Instances) -> Parts:
        parts = Parts.nowhere(people, self.label_set)
        height, width = self.network.settings.crop
        grid = (height // STRIDE, width // STRIDE)
        for rows in _batches(len(people), self._person_batch):
            windows = windows_of(people.detections.boxes[rows.start : rows.stop].cpu(), grid)
            crops = crops_of(image.pixels.permute(2, 0, 1)[None].to(self.device), windows, (height, width))
            inside = _masks(parts, rows, windows, grid).to(self.device)
            with autocast(self.device, self._dtype):
                maps = _classified(self.network, self.network.refine_crops(crops), inside)
            parts = _filled_in(parts, rows, windows, maps.__getitem__, self._fill, self._smallest)
        return parts


def _batches(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _masks(parts: Parts, rows: range, windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the shares of cells that are inside each person's mask, float32 (P, 1, *grid)."""
    masks = torch.stack([parts.owners == row + 1 for row in rows])[:, None].float()
    return sample_windows(masks, windows, (float(masks.shape[2]), float(masks.shape[3])), grid)


def _classified(network: SCHNet, levels: Sequence[Tensor], masks: Tensor | None) -> Tensor:
    logits, _ = network.classify(levels, masks)
    return logits.float().softmax(dim=1)


def _filled_in(
    parts: Parts, rows: range, areas: Tensor, maps: Callable[[int], Tensor], fill: bool, smallest: int
) -> Parts:
    """Return the parts with those of some people, told by maps of probabilities over areas, (P, 4) xyxy."""
    labels, scores = parts.labels.clone(), parts.scores.clone()
    for number, row in enumerate(rows):
        inside = parts.owners == row + 1
        window = window_of(inside)
        near = sampled(maps(number), areas[number], *window)
        own = labels_inside(near, inside[window].to(near.device), fill=fill, smallest=smallest)
        labels[window] += own.to(labels.device)
        scores[row] = mean_scores(near, own).to(scores.device)
    return replace(parts, labels=labels, scores=scores)
