"""Body parts by the parsing network on SAM 2's levels, refined by CLIP's semantics. Knows no loop and no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.models.compute import autocast, dtype_of
from bmp.models.schnet.network import build_schnet
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
        self.label_set = self.network.label_set
        self.encoder = encoder
        self.device = device
        # A linear layer on each level has no input for a mask.
        self._way: Way = way if self.network.head is not None else "image"
        self._grid = (grid[0], grid[1])
        self._fill, self._smallest, self._person_batch = fill, smallest, person_batch

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
        semantics = self.network.semantics
        with autocast(self.device, self._dtype):
            inputs = None if semantics is None else semantics.of_images([image], self.device)
            refined = self.network.refine([level.to(self.device) for level in levels], inputs)
        labels, scores = parts.labels.clone(), parts.scores.clone()
        whole = torch.tensor([0.0, 0.0, image.width, image.height])
        image_map = None if by_person else self._probabilities(refined)[0]
        size = (float(image.height), float(image.width))
        for start in range(0, len(people), self._person_batch):
            rows = range(start, min(start + self._person_batch, len(people)))
            boxes = people.detections.boxes[start : rows.stop].cpu()
            windows = windows_of(boxes, self._grid)
            maps = None
            if by_person:
                masks = torch.stack([parts.owners == row + 1 for row in rows])[:, None].to(self.device)
                inside = sample_windows(masks.to(refined[0].dtype), windows, size, self._grid)
                maps = self._probabilities(person_levels(refined, windows, size, self._grid), inside)
            for number, row in enumerate(rows):
                inside = parts.owners == row + 1
                place = window_of(inside)
                area = whole if maps is None else windows[number]
                values = image_map if maps is None else maps[number]
                assert values is not None  # one of the two ways was taken
                near = sampled(values, area, *place)
                own = labels_inside(near, inside[place].to(near.device), fill=self._fill, smallest=self._smallest)
                labels[place] += own.to(labels.device)
                scores[row] = mean_scores(near, own).to(scores.device)
        return replace(parts, labels=labels, scores=scores)

    def _probabilities(self, levels: Sequence[Tensor], masks: Tensor | None = None) -> Tensor:
        with autocast(self.device, self._dtype):
            logits, _ = self.network.classify(levels, masks)
        return logits.float().softmax(dim=1)
