"""SAM 2.1 and SAM-pose2seg as a segmenter: the networks of the package sam2, built, loaded and called in batches.

It does not know which keypoints prompt it, nor what a video is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Unpack

from bmp.errors import UserError
from bmp.io.json_fields import JsonObject
from bmp.models.compute import cast_weights, default_dtype, dtype_of, weights_digest
from bmp.models.engines import check_engine
from bmp.models.engines.folder import ExportedStage
from bmp.models.sam2 import PIXEL_MEAN, PIXEL_STD, SAM2Network, build_sam2, prepare_encoder, to_input
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.models.sam2_memory import MaskMemory
from bmp.registry import SEGMENTERS
from bmp.segmenters.prompted import CERTAIN, EncodedImage, PromptedSegmenter, PromptingOptions, best_mask
from bmp.segmenters.prompting import MaxVisibility
from bmp.stages import ImageEncoder, Prompter
from bmp.structures import Image, Prompts


class SAM2NetworkSegmenter(PromptedSegmenter):
    """The segmenter of an existing SAM 2 network, with its weights and on its device.

    Args:
        prompter: chooses the points of each person.
        network: what it calls.
        encoder: encodes images in place of the network's own image encoder; None is the latter.
        video: what follows masks through videos, behind the same encoder; None for ``network``.
        options: see ``PromptedSegmenter``; by default ``hole_area`` is 10 and ``speck_area`` 50.
    """

    def __init__(
        self,
        prompter: Prompter,
        network: SAM2Network,
        *,
        encoder: ImageEncoder | None = None,
        video: SAM2Network | None = None,
        **options: Unpack[PromptingOptions],
    ) -> None:
        options.setdefault("hole_area", 10)
        options.setdefault("speck_area", 50)
        super().__init__(prompter, device=str(network.device), **options)
        self.network = network
        self._leaves_out_padding = network.engine == "torch"
        self.encoder = encoder
        self.video = network if video is None else video
        self._size = network.side
        self.logit_size = network.prompt_encoder.mask_input_size

    def exported(self, mask_prompts: bool = False) -> ExportedStage:
        """Return the network and its constants for ``bmp export``; ``UserError`` for what its runner cannot prompt.

        mask_prompts: whether masks of the detector are prompts, too.
        """
        prompter = self.prompter
        if type(prompter) is not MaxVisibility or prompter.negative is not None or prompter.box is not None:
            raise UserError(
                f"segmenter: prompts of {type(prompter).__name__} cannot be exported; take MaxVisibility without "
                "negative points and boxes"
            )
        if self.without_prompts != "empty":
            raise UserError("segmenter: without_prompts='unprompted' cannot be exported; take 'empty'")
        settings: JsonObject = {
            "side": self._size,
            "logit_size": list(self.logit_size),
            "mean": PIXEL_MEAN,
            "std": PIXEL_STD,
            "hole_area": self.hole_area,
            "speck_area": self.speck_area,
            "signal": prompter.signal,
            "count": prompter.count,
            "threshold": prompter.threshold,
            "excluded": list(prompter.excluded),
            "mask_prompt": CERTAIN if mask_prompts else None,
        }
        return ExportedStage("sam2", self.network.exported(), settings)

    def _encode(self, images: Sequence[Image]) -> tuple[Tensor, ...]:
        if self.encoder is None:
            levels = self.network.encode(torch.stack([to_input(image, self._size, self.device) for image in images]))
        else:
            rows = self.encoder.levels(images)
            levels = tuple(torch.cat(level).to(self.device) for level in zip(*rows, strict=True))
        own = self.network.features(levels)
        return own if self.video is self.network else (*own, *self.video.features(levels))

    @property
    def memory(self) -> MaskMemory:
        """Follows masks from frame to frame."""
        return self.video.memory

    def memory_features(self, view: EncodedImage) -> tuple[Tensor, ...]:
        """Return what ``memory`` takes of a frame, as ``open`` returned it."""
        *_, stride4, stride8, stride16 = view.features
        return stride4, stride8, stride16 - self.video.no_memory.reshape(1, -1, 1, 1)

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
        absent = labels == -1
        if previous is not None:  # as sam2's predictors do with extreme logits, and its training does not
            previous = previous.clamp(-32, 32)
        logits, ious, _ = self.network.decode(
            features[:3], points, labels, previous, multimask, absent=absent if bool(absent.any()) else None
        )
        return best_mask(logits, ious)


@SEGMENTERS.register_module()
class SAM2Segmenter(SAM2NetworkSegmenter):
    """SAM 2.1, or SAM-pose2seg, which is its b+ model with a fine-tuned prompt encoder and mask decoder (paper §3).

    Gives the masks of sam2's ``SAM2ImagePredictor``, single-mask output, followed by clean-up.

    Args:
        prompter: chooses the points of each person; each checkpoint has one that suits it (paper §3.3):
            ``MaxVisibility(count=3)`` SAM-pose2seg, ``MaxSpread(count=6)`` base SAM 2.1.
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``, or "random" for weights made up from a
            fixed seed, whose masks mean nothing.
        model: "sam2.1_hiera_t", "_s", "_b+" or "_l", or a model config (YAML) like those of sam2: a path, or one within
            the ``configs`` of this package, such as "models/sam2_nano.yaml".
        encoder: shared with other stages, in place of the checkpoint's own image encoder, which has to be the
            same; None for the checkpoint's own.
        memory_checkpoint: of a SAM 2 with the same image encoder, whose decoder follows masks by memory
            (``SAM2Memory``), such as that from which SAM-pose2seg was tuned; None for ``checkpoint`` itself.
        device, dtype: of the network; "bfloat16" for autocast in image encoder and mask decoder, else "float32". None
            is bfloat16 on CUDA with engine "torch", else float32.
        engine: what runs image encoder and mask decoder, see ``bmp.models.engines``.
        channels_last, compile: for the image encoder, with engine "torch"; see ``bmp.models.compute.prepare``.
        options: see ``SAM2NetworkSegmenter``. Encoding takes about 0.5 GB for each image of a batch with b+ in float32.

    Raises:
        ImportError: where sam2 is not installed.
        UserError: for a model that does not exist, a checkpoint that does not fit it, and an encoder of other weights,
            given or in ``memory_checkpoint``.
    """

    def __init__(
        self,
        prompter: Prompter,
        checkpoint: str,
        model: str = "sam2.1_hiera_b+",
        *,
        encoder: SAM2Encoder | None = None,
        memory_checkpoint: str | None = None,
        device: str = "cpu",
        dtype: str | None = None,
        engine: str = "torch",
        channels_last: bool = False,
        compile: bool = False,
        **options: Unpack[PromptingOptions],
    ) -> None:
        dtype = default_dtype(dtype, device, engine)
        number_format = dtype_of(dtype)
        check_engine("SAM2Segmenter", engine, device=device, dtype=dtype, compile=compile)
        network = build_sam2(model, checkpoint)
        if encoder is not None:
            if encoder.side != network.image_size or encoder.fingerprint != weights_digest(network.image_encoder):
                raise UserError(
                    f"encoder: its weights are not those of the image encoder in {checkpoint!r}, and the mask decoder "
                    "knows no other; give both the same base model, or leave the encoder out"
                )
            network.image_encoder = encoder.module  # one set of weights in memory
        video = None
        if memory_checkpoint is not None:
            other = build_sam2(model, memory_checkpoint)
            if weights_digest(other.image_encoder) != weights_digest(network.image_encoder):
                raise UserError(
                    f"memory_checkpoint: the image encoder in {memory_checkpoint!r} is not that in {checkpoint!r}; "
                    "give the checkpoint from which the other was tuned"
                )
            other.image_encoder = network.image_encoder
            video = SAM2Network(other.to(device), number_format)  # its memory is torch's
        network.to(device)
        if engine == "torch":
            own_parts = (
                [network.sam_mask_decoder] if encoder is not None else [network.sam_mask_decoder, network.image_encoder]
            )
            if number_format != torch.float32:
                cast_weights(*own_parts, dtype=number_format)
            if encoder is None:
                prepare_encoder(network.image_encoder, channels_last=channels_last, compiled=compile)
        own = SAM2Network(network, number_format, engine)
        super().__init__(prompter, own, encoder=encoder, video=video, **options)
