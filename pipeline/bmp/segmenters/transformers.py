"""SAM 2.1, SAM-pose2seg and SAM 3's tracker through Hugging Face's transformers; does not know what prompts them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Unpack

from bmp.config import ConfigSection
from bmp.models.compute import autocast, dtype_of, prepare
from bmp.models.engines import Function, Graph, check_engine, run_by
from bmp.models.transformers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEVELS,
    ImageEmbeddings,
    Portable,
    PromptedMasks,
    build_transformers,
)
from bmp.ops.resize import squeezed
from bmp.registry import SEGMENTERS
from bmp.segmenters.prompted import PromptedSegmenter, PromptingOptions, best_mask
from bmp.stages import Prompter
from bmp.structures import Image, Prompts


@SEGMENTERS.register_module()
class TransformersSegmenter(Portable, PromptedSegmenter):
    """Gives the masks of ``SAM2Segmenter`` without the package sam2, or those of SAM 3's tracker.

    Args:
        prompter: chooses the points of each person; see ``SAM2Segmenter``.
        checkpoint, config: see ``bmp.models.transformers.build_transformers``. Files under sam2's names, such as
            SAM-pose2seg's, are renamed: say which model they are, ``config="sam2.1_hiera_b+"``.
        device, dtype: of the network; "bfloat16" for autocast, else "float32".
        engine: what runs the network, see ``bmp.models.engines``.
        compile: the image encoder, with engine "torch"; see ``bmp.models.compute.prepare``.
        options: see ``PromptedSegmenter``; by default ``hole_area`` is 10 and ``speck_area`` 50.

    Raises:
        ImportError: where transformers is not installed.
        UserError: for a network of another kind, and weights that cannot be had or do not fit it.
    """

    def __init__(
        self,
        prompter: Prompter,
        checkpoint: str,
        config: str | ConfigSection | None = None,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        engine: str = "torch",
        compile: bool = False,
        **options: Unpack[PromptingOptions],
    ) -> None:
        options.setdefault("hole_area", 10)
        options.setdefault("speck_area", 50)
        super().__init__(prompter, device=device, **options)
        self._dtype = dtype_of(dtype)
        check_engine("TransformersSegmenter", engine, device=device, dtype=dtype, compile=compile)
        network = build_transformers("TransformersSegmenter", checkpoint, config, ["Sam2Model", "Sam3TrackerModel"])
        self._network = network.to(device)
        self._engine = engine
        graph = Graph("sam-encoder", ImageEmbeddings(self._network), {"pixels": {}}, LEVELS)
        self._run = run_by(engine, graph, device, self._dtype)
        self._decoders: dict[tuple[bool, bool], Function] = {}
        prepare(self._network.vision_encoder, channels_last=False, compiled=compile)
        self._size = int(network.config.prompt_encoder_config.image_size)
        self.logit_size = (self._size // 16 * 4, self._size // 16 * 4)
        third = type(network).__name__.startswith("Sam3")
        self._colours = ((0.5,) * 3, (0.5,) * 3) if third else (IMAGENET_MEAN, IMAGENET_STD)

    def _encode(self, images: Sequence[Image]) -> tuple[Tensor, ...]:
        pixels = torch.stack([squeezed(image.pixels.to(self.device), self._size) for image in images])
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in self._colours)
        pixels.sub_(mean).div_(std)
        with autocast(self.device, self._dtype):
            return self._run(pixels)

    def _to_network(self, points: Tensor, height: int, width: int) -> Tensor:
        return points / points.new_tensor([width, height]) * self._size

    def _decode(
        self, features: tuple[Tensor, ...], prompts: Prompts, previous: Tensor | None = None, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        points, labels = prompts.points, prompts.labels.long()
        if prompts.boxes is not None:  # to SAM 2 the corners of a box are two points with labels of their own
            points = torch.cat([prompts.boxes.reshape(-1, 2, 2), points], dim=1)
            labels = torch.cat([labels.new_tensor([[2, 3]]).expand(len(prompts), -1), labels], dim=1)
        if not points.shape[1]:  # to these networks no point at all is one that is none
            points, labels = points.new_zeros(len(points), 1, 2), labels.new_full((len(points), 1), -1)
        earlier = () if previous is None else (previous.clamp(-32, 32),)
        with autocast(self.device, self._dtype):
            masks, ious = self._decoder(multimask, previous is not None)(*features, points, labels, *earlier)
        return best_mask(masks.float(), ious.float())

    def _decoder(self, multimask: bool, corrects: bool) -> Function:
        """Return what answers prompts; another engine has a graph of its own for each kind of question."""
        if (multimask, corrects) not in self._decoders:
            inputs: dict[str, dict[int, str]] = {level: {} for level in LEVELS}
            inputs |= {"points": {1: "points"}, "labels": {1: "points"}, **({"previous": {}} if corrects else {})}
            graph = Graph("sam-decoder", PromptedMasks(self._network, multimask), inputs, ("logits", "ious"))
            self._decoders[multimask, corrects] = run_by(self._engine, graph, self.device, self._dtype)
        return self._decoders[multimask, corrects]
