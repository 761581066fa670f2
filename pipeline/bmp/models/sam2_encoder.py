"""SAM 2's image encoder as a part that stages share: an image is encoded once, for all of them.

It does not know which stages those are, nor what they make of the features.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bmp.errors import UserError
from bmp.models.compute import autocast, dtype_of, prepare, weights_digest
from bmp.models.sam2 import build_sam2, to_input
from bmp.registry import ENCODERS
from bmp.structures import Image


@ENCODERS.register_module()
class SAM2Encoder:
    """The image encoder (trunk and neck) of SAM 2.1, for a segmenter and other stages that read its features.

    It remembers the features of an ``Image`` for as long as that object exists, and no longer: the loop lets go of its
    images one by one as they are finished. Two objects of the same picture are two images.

    Args:
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``, or "random" for weights made up from a
            fixed seed. Fine-tuned decoders such as SAM-pose2seg's work on the encoder that they were trained with:
            ``SAM2Segmenter`` refuses another.
        model: as for ``SAM2Segmenter``.
        device: torch device of the network and the features.
        dtype: "float32", or "bfloat16" for autocast.
        channels_last, compile: see ``bmp.models.compute.prepare``.
        image_batch: images encoded at one time.

    Raises:
        ImportError: where sam2 is not installed.
        UserError: for a model that does not exist, a checkpoint that does not fit it, and values out of range.
    """

    def __init__(
        self,
        checkpoint: str,
        model: str = "sam2.1_hiera_b+",
        *,
        device: str = "cpu",
        dtype: str = "float32",
        channels_last: bool = False,
        compile: bool = False,
        image_batch: int = 4,
    ) -> None:
        if image_batch < 1:
            raise UserError(f"image_batch: expected at least 1, got {image_batch}")
        self._dtype = dtype_of(dtype)
        network = build_sam2(model, checkpoint)
        self.module: nn.Module = network.image_encoder.to(device)
        prepare(self.module, channels_last=channels_last, compiled=compile)
        self.side: int = network.image_size
        self.fingerprint = weights_digest(self.module)
        self.device = device
        self._image_batch = image_batch
        self._known = weakref.WeakKeyDictionary[Image, tuple[Tensor, ...]]()

    def levels(self, images: Sequence[Image]) -> list[tuple[Tensor, ...]]:
        """Return each image's features: (1, C, h, w) at strides 4, 8 and 16 of the square input, in ``dtype``.

        They are what sam2 calls backbone_fpn: before the first layers of the mask decoder, and without the embedding
        that stands for no memory.
        """
        new = [image for image in dict.fromkeys(images) if image not in self._known]
        # Whoever asks first may be in inference mode, whose tensors the others could not use.
        with torch.inference_mode(False), torch.no_grad():
            for start in range(0, len(new), self._image_batch):
                batch = new[start : start + self._image_batch]
                pixels = torch.stack([to_input(image, self.side, self.device) for image in batch])
                with autocast(self.device, self._dtype):
                    levels = self.module(pixels)["backbone_fpn"]
                for row, image in enumerate(batch):
                    # Copies, so that an image does not keep the features of the whole batch alive.
                    self._known[image] = tuple(level[row : row + 1].clone() for level in levels)
        return [self._known[image] for image in images]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is remembered: a copy in another process has other images."""
        return {**vars(self), "_known": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with nothing remembered."""
        vars(self).update(state, _known=weakref.WeakKeyDictionary())
