"""The levels of a frozen image encoder for the heads that are trained on them, from a cache; it knows no head."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from bmp.models.sam2_encoder import SAM2Encoder
from bmp.structures import Image
from bmp.training.segmenter.cache import EmbeddingCache, image_key


class FrozenLevels:
    """Encodes images, or looks up those that were encoded before.

    Args:
        encoder: stays as it is.
        cache: folder of an ``EmbeddingCache``, which all heads on one encoder can share; None encodes an image whenever
            it comes.
    """

    def __init__(self, encoder: SAM2Encoder, cache: str | os.PathLike[str] | None) -> None:
        self._encoder = encoder
        self._cache = None if cache is None else EmbeddingCache(cache, encoder.module, "levels")

    def move(self, device: torch.device) -> None:
        """Let the encoder run on ``device``, where the levels are from then on."""
        self._encoder.device = str(device)
        self._encoder.module.to(device)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image]) -> list[tuple[Tensor, ...]]:
        """Return the levels of each image, (1, C, h, w), the finest first; float32 where they come from a cache."""
        if self._cache is None:
            return self._encoder.levels(images)
        keys = [image_key(image.pixels) for image in images]
        known = [self._cache.read(key) for key in keys]
        fresh = [row for row, levels in enumerate(known) if levels is None]
        for row, levels in zip(fresh, self._encoder.levels([images[row] for row in fresh]), strict=True):
            # Rounded like what is read from the disk, so that the cache's state changes nothing.
            known[row] = tuple(level.half() for level in levels)
            self._cache.write(keys[row], known[row] or ())
        device = self._encoder.device
        return [tuple(level.to(device).float() for level in levels) for levels in known if levels is not None]
