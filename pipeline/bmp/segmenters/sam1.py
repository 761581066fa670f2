"""SAM 1 as a segmenter, for the paper's comparison with SAM 2.1 (Table 4): the networks of segment_anything.

It does not know which keypoints prompt it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from typing_extensions import Unpack

from bmp.models.compute import autocast, dtype_of, prepare
from bmp.models.sam1 import build_sam1
from bmp.registry import SEGMENTERS
from bmp.segmenters.prompted import PromptedSegmenter, PromptingOptions, best_mask
from bmp.stages import Prompter
from bmp.structures import Image, Prompts


@SEGMENTERS.register_module()
class SAM1Segmenter(PromptedSegmenter):
    """SAM 1: the masks of segment_anything's ``SamPredictor``, single-mask output (paper §4.3.4).

    Args:
        prompter: chooses the points of each person; the paper's choice is ``MaxSpread(count=6)``.
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``, of a file in segment_anything's own
            layout (``sam_vit_l_0b3195.pth``), or "random" for weights made up from a fixed seed, whose masks mean
            nothing.
        model: "vit_b", "vit_l" (the paper's) or "vit_h".
        device, dtype: of the network; "bfloat16" for autocast in image encoder and mask decoder, else "float32".
        channels_last, compile: for the image encoder; see ``bmp.models.compute.prepare``.
        options: see ``PromptedSegmenter``. Encoding takes about 4 GB for each image of a batch with ViT-L in float32,
            so ``image_batch`` is 1 by default. SAM 1 publishes no clean-up, so it is off.

    Raises:
        ImportError: where segment_anything is not installed.
        UserError: for a model that does not exist and a checkpoint that does not fit it.
    """

    def __init__(
        self,
        prompter: Prompter,
        checkpoint: str,
        model: str = "vit_l",
        *,
        device: str = "cpu",
        dtype: str = "float32",
        channels_last: bool = False,
        compile: bool = False,
        **options: Unpack[PromptingOptions],
    ) -> None:
        options.setdefault("image_batch", 1)
        super().__init__(prompter, device=device, **options)
        self._dtype = dtype_of(dtype)
        self._network = build_sam1(model, checkpoint).to(device)
        prepare(self._network.image_encoder, channels_last=channels_last, compiled=compile)
        self._size = self._network.image_encoder.img_size
        self.logit_size = self._network.prompt_encoder.mask_input_size
        from segment_anything.utils.transforms import ResizeLongestSide

        self._transform = ResizeLongestSide(self._size)
        self._position = self._network.prompt_encoder.get_dense_pe()

    def _encode(self, images: Sequence[Image]) -> tuple[Tensor, ...]:
        pixels = torch.stack([self._preprocess(image) for image in images])
        with autocast(self.device, self._dtype):
            return (self._network.image_encoder(pixels),)

    def _preprocess(self, image: Image) -> Tensor:
        # SAM 1 expects the rounding of its own resizing, which is Pillow's, on the CPU.
        resized = self._transform.apply_image(image.pixels.cpu().numpy())
        padded: Tensor = self._network.preprocess(torch.as_tensor(resized, device=self.device).permute(2, 0, 1))
        return padded

    def _to_network(self, points: Tensor, height: int, width: int) -> Tensor:
        resized: Tensor = self._transform.apply_coords_torch(points, (height, width))
        return resized

    def _decode(
        self, features: tuple[Tensor, ...], prompts: Prompts, previous: Tensor | None = None, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        (embedding,) = features
        sparse, dense = self._network.prompt_encoder(
            points=(prompts.points, prompts.labels.int()),
            boxes=prompts.boxes,
            masks=None if previous is None else previous.unsqueeze(1),
        )
        with autocast(self.device, self._dtype):
            # The decoder repeats one image's embedding and adds the dense prompts to it. Prompts of several images
            # go through it together when the embeddings come in with the latter.
            masks, ious = self._network.mask_decoder(
                image_embeddings=torch.zeros_like(embedding[:1]),
                image_pe=self._position,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=embedding + dense,
                multimask_output=multimask,
            )
        return best_mask(masks, ious)

    def _framed(self, logits: Tensor, height: int, width: int) -> Tensor:
        rows, columns = self._transform.get_preprocess_shape(height, width, self._size)
        square = F.interpolate(logits.unsqueeze(1), (self._size,) * 2, mode="bilinear", align_corners=False)
        return square[:, 0, :rows, :columns]
