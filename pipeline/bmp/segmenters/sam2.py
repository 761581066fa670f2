"""SAM 2.1 and SAM-pose2seg as a segmenter: the networks of the package sam2, built, loaded and called in batches.

It does not know which keypoints prompt it, nor anything of SAM's video side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchvision.transforms.v2.functional import normalize, resize

from bmp.models.compute import prepare
from bmp.models.sam2 import PIXEL_MEAN, PIXEL_STD, SAM2Network, build_sam2
from bmp.registry import SEGMENTERS
from bmp.segmenters.prompted import PromptedSegmenter, best_mask
from bmp.stages import Prompter
from bmp.structures import Image, Prompts


@SEGMENTERS.register_module()
class SAM2Segmenter(PromptedSegmenter):
    """SAM 2.1, or SAM-pose2seg, which is its b+ model with a fine-tuned prompt encoder and mask decoder (paper §3).

    Gives the masks of sam2's ``SAM2ImagePredictor``, single-mask output, followed by clean-up.

    Args:
        prompter: chooses the points of each person; each checkpoint has one that suits it (paper §3.3):
            ``MaxVisibility(count=3)`` SAM-pose2seg, ``MaxSpread(count=6)`` base SAM 2.1.
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``, or "random" for weights made up from a
            fixed seed, whose masks mean nothing.
        model: "sam2.1_hiera_t", "_s", "_b+" or "_l", or a model config (YAML) like those of sam2: a path, or one within
            the ``configs`` of this package, such as "models/sam2_nano.yaml".
        device, dtype, channels_last, compile, image_batch, prompt_chunk, hole_area, speck_area: see
            ``PromptedSegmenter``. Encoding takes
            about 0.5 GB for each image of a batch with b+ in float32.

    Raises:
        ImportError: where sam2 is not installed.
        UserError: for a model that does not exist and a checkpoint that does not fit it.
    """

    def __init__(
        self,
        prompter: Prompter,
        checkpoint: str,
        model: str = "sam2.1_hiera_b+",
        *,
        device: str = "cpu",
        dtype: str = "float32",
        channels_last: bool = False,
        compile: bool = False,
        image_batch: int = 4,
        prompt_chunk: int | None = None,
        hole_area: int = 10,
        speck_area: int = 50,
    ) -> None:
        super().__init__(
            prompter,
            device=device,
            dtype=dtype,
            image_batch=image_batch,
            prompt_chunk=prompt_chunk,
            hole_area=hole_area,
            speck_area=speck_area,
        )
        network = build_sam2(model, checkpoint).to(device)
        prepare(network.image_encoder, channels_last=channels_last, compiled=compile)
        self._use(network)

    @classmethod
    def of(
        cls,
        network: Any,
        prompter: Prompter,
        *,
        dtype: str = "float32",
        image_batch: int = 4,
        prompt_chunk: int | None = None,
        hole_area: int = 10,
        speck_area: int = 50,
    ) -> SAM2Segmenter:
        """Return the segmenter of a network that there is, whose weights and device it shares.

        ``network`` as for ``SAM2Network``, the others as for the class.
        """
        segmenter = cls.__new__(cls)
        PromptedSegmenter.__init__(
            segmenter,
            prompter,
            device=str(network.no_mem_embed.device),
            dtype=dtype,
            image_batch=image_batch,
            prompt_chunk=prompt_chunk,
            hole_area=hole_area,
            speck_area=speck_area,
        )
        segmenter._use(network)
        return segmenter

    def _use(self, network: Any) -> None:
        self.network = SAM2Network(network, self.dtype)
        self._size = self.network.prompt_encoder.input_image_size[0]
        self.logit_size = self.network.prompt_encoder.mask_input_size

    def _encode(self, images: Sequence[Image]) -> tuple[Tensor, ...]:
        pixels = torch.stack([self._preprocess(image) for image in images])
        return self.network.features(self.network.encode(pixels))

    def _preprocess(self, image: Image) -> Tensor:
        pixels = image.pixels.to(self.device).permute(2, 0, 1).float() / 255
        normal: Tensor = normalize(resize(pixels, [self._size, self._size], antialias=True), PIXEL_MEAN, PIXEL_STD)
        return normal

    def _to_network(self, points: Tensor, height: int, width: int) -> Tensor:
        return points / points.new_tensor([width, height]) * self._size

    def _decode(
        self, features: tuple[Tensor, ...], prompts: Prompts, previous: Tensor | None = None, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        points, labels = prompts.points, prompts.labels
        if prompts.boxes is not None:  # to SAM 2 the corners of a box are two points with labels of their own
            corners = labels.new_tensor([[2, 3]]).expand(len(prompts), -1)
            points = torch.cat([prompts.boxes.reshape(-1, 2, 2), points], dim=1)
            labels = torch.cat([corners, labels], dim=1)
        logits, ious, _ = self.network.decode(features, points, labels, previous, multimask)
        return best_mask(logits, ious)

    def _enlarge(self, logits: Tensor, height: int, width: int) -> Tensor:
        return F.interpolate(logits.unsqueeze(1), (height, width), mode="bilinear", align_corners=False).squeeze(1)
