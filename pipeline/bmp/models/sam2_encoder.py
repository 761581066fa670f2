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
from bmp.models.compute import autocast, cast_weights, dtype_of, weights_digest
from bmp.models.engines import check_engine, run_by
from bmp.models.sam2 import build_sam2, encoder_graph, prepare_encoder, to_input
from bmp.registry import ENCODERS
from bmp.structures import Image

_DIGEST = 32  # bytes of a SHA-256


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
        engine: what runs the encoder, see ``bmp.models.engines``.
        channels_last, compile: with engine "torch", see ``bmp.models.compute.prepare``.
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
        engine: str = "torch",
        channels_last: bool = False,
        compile: bool = False,
        image_batch: int = 4,
    ) -> None:
        if image_batch < 1:
            raise UserError(f"image_batch: expected at least 1, got {image_batch}")
        self._dtype = dtype_of(dtype)
        check_engine("SAM2Encoder", engine, device=device, dtype=dtype, compile=compile)
        network = build_sam2(model, checkpoint)
        self.module: nn.Module = network.image_encoder.to(device)
        self.fingerprint = weights_digest(self.module)
        if engine == "torch":
            if self._dtype != torch.float32:
                cast_weights(self.module, dtype=self._dtype)
            prepare_encoder(self.module, channels_last=channels_last, compiled=compile)
        self._run = run_by(engine, encoder_graph(self.module), device, self._dtype)
        self.side: int = network.image_size
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
                    levels = self._run(pixels)
                for row, image in enumerate(batch):
                    # Copies, so that an image does not keep the features of the whole batch alive.
                    self._known[image] = tuple(level[row : row + 1].clone() for level in levels)
        return [self._known[image] for image in images]

    @torch.no_grad()
    def levels_at(self, images: Sequence[Image], side: int) -> list[tuple[Tensor, ...]]:
        """Return the features of images in a square of ``side`` pixels instead of the encoder's own; none are kept.

        side: a multiple of 32.
        """
        found: list[tuple[Tensor, ...]] = []
        for start in range(0, len(images), self._image_batch):
            batch = images[start : start + self._image_batch]
            with autocast(self.device, self._dtype):
                levels = self.module(torch.stack([to_input(image, side, self.device) for image in batch]))
            found += [tuple(level[row : row + 1] for level in levels["backbone_fpn"]) for row in range(len(batch))]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is remembered: a copy in another process has other images."""
        return {**vars(self), "_known": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with nothing remembered."""
        vars(self).update(state, _known=weakref.WeakKeyDictionary())


class EncoderBound(nn.Module):
    """A network on the features of one encoder: its weights hold the fingerprint of that encoder, all zeros at first.

    Features of another encoder look fine and give nonsense.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder_digest: Tensor
        self.register_buffer("encoder_digest", torch.zeros(_DIGEST, dtype=torch.uint8))

    @property
    def fingerprint(self) -> str:
        """Which encoder the weights were trained with, as ``bmp.models.compute.weights_digest`` tells encoders apart.

        It is stored with the weights; all zeros before training.
        """
        return bytes(self.encoder_digest.tolist()).hex()

    @fingerprint.setter
    def fingerprint(self, digest: str) -> None:
        self.encoder_digest.copy_(torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8))

    def expect(self, encoder: SAM2Encoder, checkpoint: str) -> None:
        """Raise ``UserError`` unless the weights, which are those of ``checkpoint``, belong to this encoder."""
        if self.fingerprint != encoder.fingerprint:
            raise UserError(
                f"encoder: {checkpoint!r} was trained with another image encoder, whose features these weights would "
                "take for nonsense; give SAM2Encoder the checkpoint that they were trained with"
            )
