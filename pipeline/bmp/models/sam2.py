"""SAM 2.1 and SAM-pose2seg: the networks of the package sam2, built, loaded and called, in use and in training.

It does not know which keypoints prompt it. SAM's video side is in ``bmp.models.sam2_memory``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.config import packaged
from bmp.errors import MissingExtraError, UserError
from bmp.models.compute import autocast, prepare
from bmp.models.engines import Function, Graph, Shapes, run_by
from bmp.models.sam2_memory import MaskMemory
from bmp.ops.resize import squeezed
from bmp.structures import Image

PIXEL_MEAN, PIXEL_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Of red, green and blue in [0, 1]: what SAM 2's networks expect to have been taken off, and divided by."""


# What sam2's own builder sets for images: where the single mask's outline is unsure, the best of three is taken.
_STABILITY = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


class EncoderLevels(nn.Module):
    """An image encoder of sam2 as a function of tensors: normalised images to levels of strides 4, 8 and 16."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode float32 (B, 3, S, S)."""
        return tuple(self.encoder(pixels)["backbone_fpn"])


class ImageFeatures(EncoderLevels):
    """The same, and the decoder's layers before any prompt: ``SAM2Network.features``."""

    def __init__(self, network: Any) -> None:
        super().__init__(network.image_encoder)
        self.mask_decoder = network.sam_mask_decoder
        self.no_memory = network.no_mem_embed

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode float32 (B, 3, S, S)."""
        stride4, stride8, stride16 = super().forward(pixels)
        decoder: Any = self.mask_decoder
        return decoder.conv_s0(stride4), decoder.conv_s1(stride8), stride16 + self.no_memory.reshape(1, -1, 1, 1)


class PromptedMasks(nn.Module):
    """Prompt encoder and mask decoder of sam2 as a function of tensors.

    Args:
        network: sam2's.
        positions: of the cells of an embedding, as the prompt encoder makes them.
    """

    def __init__(self, network: Any, positions: Tensor) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = network.sam_prompt_encoder, network.sam_mask_decoder
        self.positions = positions

    def forward(
        self,
        stride4: Tensor,
        stride8: Tensor,
        stride16: Tensor,
        points: Tensor,
        labels: Tensor,
        previous: Tensor,
        corrects: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer the prompts of N people; see ``SAM2Network.decode``.

        Args:
            stride4: with the next two what ``SAM2Network.features`` returns, a row a person.
            stride8: see there.
            stride16: see there.
            points: float32 (N, P, 2).
            labels: int64 (N, P).
            previous: float32 (N, h, w), of any value where ``corrects`` is 0.
            corrects: float32 (N,), 1 where ``previous`` is an answer to correct, else 0.

        Returns:
            of four masks a person, the single one and three that may be others, the logits (N, 4, h, w) and predicted
            IoU (N, 4), and the logit of there being anybody (N, 1).
        """
        sparse, dense = self.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        earlier = self.prompt_encoder._embed_masks(previous[:, None])
        dense = torch.where(corrects[:, None, None, None] > 0, earlier, dense)
        logits, ious, _, anybody = self.mask_decoder.predict_masks(
            image_embeddings=stride16,
            image_pe=self.positions,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=[stride4, stride8],
        )
        single, its_iou = self.mask_decoder._dynamic_multimask_via_stability(logits, ious)
        return torch.cat((single, logits[:, 1:]), 1), torch.cat((its_iou, ious[:, 1:]), 1), anybody


class _KnownPositions:
    """Stands where an encoder of sam2 makes its positional embedding, and makes one for each size only once.

    It is the same for all images, and its weights may not change any more.
    """

    def __init__(self, trunk: Any) -> None:
        self._trunk = trunk
        self._known: dict[tuple[Any, ...], Tensor] = {}

    def __call__(self, size: Sequence[int]) -> Tensor:
        key = (*map(int, size), self._trunk.pos_embed.device)
        if key not in self._known:
            # Whoever comes first may be in inference mode, whose tensors others could not use.
            with torch.inference_mode(False), torch.no_grad():
                self._known[key] = type(self._trunk)._get_pos_embed(self._trunk, size)
        return self._known[key]


def prepare_encoder(encoder: Any, *, channels_last: bool, compiled: bool) -> None:
    """Set up an image encoder of sam2 for use, in place; arguments as for ``bmp.models.compute.prepare``."""
    if not compiled:  # a compiler sees to constants itself
        encoder.trunk._get_pos_embed = _KnownPositions(encoder.trunk)
    prepare(encoder, channels_last=channels_last, compiled=compiled)


def encoder_graph(encoder: nn.Module) -> Graph:
    """Return an image encoder for other engines."""
    return Graph("sam2-encoder", EncoderLevels(encoder), {"pixels": {}}, ("stride4", "stride8", "stride16"))


class SAM2Network:
    """What SAM 2.1 makes masks of images with, in use and in training; the rest of sam2's network serves videos.

    Its ``memory`` follows masks through videos. It has no weights of its own, and gradients pass where they are
    enabled.

    Args:
        network: sam2's, or another with an ``image_encoder``, ``sam_prompt_encoder``, ``sam_mask_decoder`` and
            ``no_mem_embed`` like its own.
        dtype: number format of image encoder and mask decoder, by autocast.
        engine: what runs these two, see ``bmp.models.engines``; gradients pass with "torch" only.
    """

    def __init__(self, network: Any, dtype: torch.dtype, engine: str = "torch") -> None:
        self.image_encoder: nn.Module = network.image_encoder
        self.prompt_encoder: Any = network.sam_prompt_encoder
        self.mask_decoder: Any = network.sam_mask_decoder
        self._network = network
        self.dtype = dtype
        self.engine = engine
        self._known_positions: tuple[Tensor, int, Tensor] | None = None

    @property
    def no_memory(self) -> Tensor:
        """The embedding that replaces the memory of a video; a move to another device may replace it."""
        embedding: Tensor = self._network.no_mem_embed
        return embedding

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.no_memory.device

    @functools.cached_property
    def memory(self) -> MaskMemory:
        """What follows masks from frame to frame, by the parts of the network that serve videos."""
        return MaskMemory(self._network, self.dtype)

    @property
    def side(self) -> int:
        """Height and width of the input, in pixels."""
        return int(self.prompt_encoder.input_image_size[0])

    @functools.cached_property
    def _encode(self) -> Function:
        return run_by(self.engine, encoder_graph(self.image_encoder), self.device, self.dtype)

    @functools.cached_property
    def _decode(self) -> Function:
        return run_by(self.engine, self.decoder_graph(), self.device, self.dtype)

    def decoder_graph(self) -> Graph:
        """Return prompt encoder and mask decoder for other engines."""
        features: dict[str, dict[int, str]] = {"stride4": {}, "stride8": {}, "stride16": {}}
        prompts = {"points": {1: "points"}, "labels": {1: "points"}, "previous": {}, "corrects": {}}
        names = ("logits", "ious", "anybody")
        return Graph("sam2-decoder", PromptedMasks(self._network, self._positions), {**features, **prompts}, names)

    def exported(self) -> dict[str, tuple[Graph, Shapes]]:
        """Return encoder and decoder for ``bmp export``, with the shapes of their inputs."""
        side, decoder = self.side, self.mask_decoder
        channels = (decoder.conv_s0.out_channels, decoder.conv_s1.out_channels, self.no_memory.shape[-1])
        height, width = self.prompt_encoder.mask_input_size
        shapes: dict[str, tuple[tuple[int | None, ...], torch.dtype]] = {
            f"stride{stride}": ((None, count, side // stride, side // stride), torch.float32)
            for stride, count in zip((4, 8, 16), channels, strict=True)
        }
        shapes["points"] = ((None, None, 2), torch.float32)
        shapes["labels"] = ((None, None), torch.int64)
        shapes["previous"] = ((None, height, width), torch.float32)
        shapes["corrects"] = ((None,), torch.float32)
        names = ("stride4", "stride8", "stride16")
        encoder = Graph("sam2-features", ImageFeatures(self._network), {"pixels": {}}, names)
        return {
            "encoder": (encoder, {"pixels": ((None, 3, side, side), torch.float32)}),
            "decoder": (self.decoder_graph(), shapes),
        }

    @property
    def _positions(self) -> Tensor:
        """Encoded positions of the cells of an embedding, for the decoder: float32 (1, C, h, w).

        They are computed once, and anew where the frequencies that they are made of were moved or loaded.
        """
        frequencies: Tensor = self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        version = 0 if frequencies.is_inference() else frequencies._version
        known = self._known_positions
        if known is not None and known[0] is frequencies and known[1] == version:
            return known[2]
        # Whoever comes first may be in inference mode, whose tensors no gradient can pass later.
        with torch.inference_mode(False), torch.no_grad():
            positions: Tensor = self.prompt_encoder.get_dense_pe()
        self._known_positions = frequencies, version, positions
        return positions

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode normalised images float32 (B, 3, S, S): (B, C, ., .) at strides 4, 8 and 16."""
        if self.engine != "torch":
            return self._encode(images)
        with self._autocast():
            return tuple(self.image_encoder(images)["backbone_fpn"])

    def features(self, embeddings: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Turn the output of ``encode`` into input of ``decode``: the decoder's layers before any prompt."""
        stride4, stride8, stride16 = embeddings
        with self._autocast():
            return (
                self.mask_decoder.conv_s0(stride4),
                self.mask_decoder.conv_s1(stride8),
                stride16 + self.no_memory.reshape(1, -1, 1, 1),
            )

    def decode(
        self,
        features: Sequence[Tensor],
        points: Tensor,
        labels: Tensor,
        previous: Tensor | None = None,
        multimask: bool = False,
        *,
        absent: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer the prompts of N people.

        Args:
            features: a row a person, which may be an expanded view.
            points: float32 (N, P, 2) in pixels of the network's input, 0 being the middle of the first.
            labels: integers (N, P): 1 positive, 0 negative, -1 padding, 2 and 3 the corners of a box.
            previous: logits (N, h, w) of an earlier answer, which the prompts are to correct.
            multimask: three masks instead of one.
            absent: bool (N, P), points that are there only to fill the row: nothing looks at them, so that the answer
                is the one without them. None for none, and with other engines than torch.

        Returns:
            of M masks a person the logits (N, M, h, w) and predicted IoU (N, M), and the logit of there being anybody
            (N, 1), all float32.
        """
        stride4, stride8, stride16 = features
        if self.engine != "torch":
            if absent is not None:
                raise ValueError("decode: engines look at all points; ask people with fewer points separately")
            height, width = self.prompt_encoder.mask_input_size
            corrects = points.new_full((len(points),), float(previous is not None))
            earlier = points.new_zeros(len(points), height, width) if previous is None else previous
            logits, ious, anybody = self._decode(stride4, stride8, stride16, points, labels.long(), earlier, corrects)
            wanted = slice(1, None) if multimask else slice(1)
            return logits[:, wanted], ious[:, wanted], anybody
        masks = None if previous is None else previous.unsqueeze(1)
        # Neither positions nor prompts under autocast: in bfloat16 a coordinate would be off by up to 4 of 1024 pixels.
        positions = self._positions
        sparse, dense = self.prompt_encoder(points=(points, labels.int()), boxes=None, masks=masks)
        with self._autocast(), _overlooking(self.mask_decoder.transformer, absent):
            logits, ious, _, object_scores = self.mask_decoder(
                image_embeddings=stride16,
                image_pe=positions,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
                repeat_image=False,
                high_res_features=[stride4, stride8],
            )
        return logits.float(), ious.float(), object_scores.float()

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.dtype)


_present: ContextVar[Tensor | None] = ContextVar("_present", default=None)
"""Which of the last tokens may be looked at, bool (N, P); None for all. A variable of its own for each thread."""


@contextmanager
def _overlooking(transformer: Any, absent: Tensor | None) -> Iterator[None]:
    """Keep attention from the tokens of absent points, bool (N, P); SAM 2 puts one token more behind the points."""
    if absent is None:
        yield
        return
    for layer in transformer.layers:
        for attention in (layer.self_attn, layer.cross_attn_image_to_token):
            attention.forward = functools.partial(_attend, attention)
    token = _present.set(F.pad(~absent, (0, 1), value=True))
    try:
        yield
    finally:
        _present.reset(token)


def _attend(attention: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Call an attention of sam2's mask decoder, which itself has no way to leave out tokens."""
    present = _present.get()
    if present is None:
        return type(attention).forward(attention, q, k, v)  # type: ignore[no-any-return]
    projected = ((attention.q_proj, q), (attention.k_proj, k), (attention.v_proj, v))
    q, k, v = (attention._separate_heads(project(value), attention.num_heads) for project, value in projected)
    mask = F.pad(present, (k.shape[2] - present.shape[1], 0), value=True)[:, None, None]
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return attention.out_proj(attention._recombine_heads(found))  # type: ignore[no-any-return]


def to_input(image: Image, side: int, device: torch.device | str) -> Tensor:
    """Stretch an image to the network's square input and normalise it: float32 (3, side, side) on ``device``."""
    pixels = squeezed(image.pixels.to(device), side)
    mean, deviation = (pixels.new_tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    return pixels.sub_(mean).div_(deviation)


def build_sam2(model: str, checkpoint: str) -> Any:
    """Return sam2's network on the CPU, in evaluation mode; arguments and errors as for ``SAM2Segmenter``."""
    package = _import_sam2()
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config: Any = OmegaConf.load(_config_file(package, model))
    OmegaConf.update(config, "model.sam_mask_decoder_extra_args", _STABILITY, force_add=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = instantiate(config.model)
    if checkpoint != RANDOM:
        path = resolve(checkpoint)
        load_strictly(network, load_state_dict(path), file=path)
    return network.eval().requires_grad_(False)


def _import_sam2() -> ModuleType:
    """Import sam2 without its side effect: it takes hydra's one global slot, which belongs to the user's program."""
    try:
        from hydra.core.global_hydra import GlobalHydra

        was_free = not GlobalHydra.instance().is_initialized()
        import sam2
    except ImportError as error:
        raise MissingExtraError("SAM2Segmenter", "sam2", "openmmlab", error) from error
    if was_free:
        GlobalHydra.instance().clear()
    return sam2  # type: ignore[no-any-return]


def _config_file(package: ModuleType, model: str) -> Path:
    folder = Path(package.__path__[0]) / "configs" / "sam2.1"
    for file in (folder / f"{model}.yaml", packaged(model)):
        if file is not None and file.is_file():
            return file
    names = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
    raise UserError(f"model {model!r} does not exist; there is: {names}, or give the path of a YAML file")
