"""SAM 2's mask decoder for training: the same weights and the same answers, in fewer and larger operations.

sam2 keeps what it decodes as images, channels first, and turns it into rows and back for the transformer. Here a cell
of the coarsest level stays a row, with its 2 x 2 parts and their 2 x 2 parts behind it. A convolution whose windows do
not overlap is then a product of matrices, and a normalisation of channels is one of rows; only masks are ever images,
and of them only those that are asked for are computed.

It does not know where points and masks come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def to_cells(features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Turn levels (N, E, 4h, 4w), (N, D, 2h, 2w), (N, C, h, w), as of ``SAM2Network.features``, into rows.

    Returns (N, hw, 16, E), (N, hw, 4, D) and (N, h, w, C): the parts of a cell are in the order of rows, and so are
    the four parts of each part, which are the sixteen.
    """
    stride4, stride8, stride16 = features
    height, width = stride16.shape[2:]
    fine = stride4.unflatten(3, (width, 2, 2)).unflatten(2, (height, 2, 2)).permute(0, 2, 5, 3, 6, 4, 7, 1)
    middle = stride8.unflatten(3, (width, 2)).unflatten(2, (height, 2)).permute(0, 2, 4, 3, 5, 1)
    return (
        fine.flatten(3, 6).flatten(1, 2),
        middle.flatten(3, 4).flatten(1, 2),
        stride16.permute(0, 2, 3, 1).contiguous(),
    )


class CellDecoder:
    """Prompt encoder and mask decoder of sam2, for features in rows; it has no weights of its own.

    Args:
        prompt_encoder: sam2's.
        mask_decoder: sam2's, with high-resolution features and scores of objects, as all SAM 2.1 have.
    """

    def __init__(self, prompt_encoder: Any, mask_decoder: Any) -> None:
        self._prompt_encoder = prompt_encoder
        self._mask_decoder = mask_decoder

    def embed(self, points: Tensor, labels: Tensor, previous: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embed prompts, for ``decode``; arguments as for ``SAM2Network.decode``.

        Returns tokens (N, P + 1, C), of which the last is padding, and what is added to cells: (N, hw, C), or (C,) if
        there is no ``previous``.
        """
        encoder = self._prompt_encoder
        tokens: Tensor = encoder(points=(points, labels.int()), boxes=None, masks=None)[0]
        if previous is None:
            return tokens, encoder.no_mask_embed.weight[0]
        height, width = encoder.image_embedding_size
        parts = previous.unflatten(2, (width, 2, 2)).unflatten(1, (height, 2, 2)).permute(0, 1, 4, 2, 5, 3, 6)
        first, norm, activation, second, second_norm, second_activation, last = encoder.mask_downscaling
        cells = F.linear(parts.flatten(5).flatten(3, 4).flatten(1, 2), first.weight.flatten(1), first.bias)
        cells = activation(_normalised(cells, norm)).flatten(2)
        cells = F.linear(cells, second.weight.permute(0, 2, 3, 1).flatten(1), second.bias)
        cells = second_activation(_normalised(cells, second_norm))
        return tokens, F.linear(cells, last.weight.flatten(1), last.bias)

    def decode(
        self, features: Sequence[Tensor], positions: Tensor, tokens: Tensor, dense: Tensor, multimask: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer the prompts of N people.

        Args:
            features: of ``to_cells``, a row a person, which may be an expanded view.
            positions: of the cells, (1, C, h, w), as the prompt encoder makes them.
            tokens: of ``embed``.
            dense: of ``embed``.
            multimask: three masks instead of one.

        Returns:
            of M masks a person the logits (N, M, 4h, 4w) and predicted IoU (N, M), and the logit of there being
            anybody (N, 1).
        """
        decoder = self._mask_decoder
        stride4, stride8, stride16 = features
        _, height, width, _ = stride16.shape
        own = torch.cat((decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight))
        tokens = torch.cat((own.expand(len(tokens), -1, -1), tokens), dim=1)
        found, cells = _transform(
            decoder.transformer, tokens, stride16.flatten(1, 2) + dense, positions[0].flatten(1).transpose(0, 1)
        )
        upscale, norm, activation, second_upscale, second_activation = decoder.output_upscaling
        cells = activation(_normalised(_divided(cells, upscale) + stride8, norm))
        cells = second_activation(_divided(cells, second_upscale).flatten(2, 3) + stride4)
        masks = found[:, 2 : 2 + decoder.num_mask_tokens].unbind(dim=1)
        channels = torch.stack(
            [layers(mask) for layers, mask in zip(decoder.output_hypernetworks_mlps, masks, strict=True)], dim=1
        )
        ious = decoder.iou_prediction_head(found[:, 1])
        # The network in use looks at all of them to choose one.
        chooses = not (multimask or decoder.training) and decoder.dynamic_multimask_via_stability
        wanted = slice(0 if chooses or not multimask else 1, None if chooses or multimask else 1)
        shares = cells.flatten(1, 2) @ channels[:, wanted].transpose(1, 2)
        logits = shares.transpose(1, 2).unflatten(2, (height, width, 2, 2, 2, 2)).permute(0, 1, 2, 4, 6, 3, 5, 7)
        logits, ious = logits.flatten(5).flatten(2, 4), ious[:, wanted]
        if chooses:
            logits, ious = decoder._dynamic_multimask_via_stability(logits, ious)
        return logits, ious, decoder.pred_obj_score_head(found[:, 0])


def _transform(transformer: Any, tokens: Tensor, cells: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Let tokens (N, P, C) and cells (N, T, C) at positions (T, C) see each other, by sam2's two-way transformer."""
    prompts = tokens
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            tokens = layer.self_attn(q=tokens, k=tokens, v=tokens)
        else:
            tokens = tokens + layer.self_attn(q=tokens + prompts, k=tokens + prompts, v=tokens)
        tokens = layer.norm1(tokens)
        placed = cells + positions
        tokens = layer.norm2(tokens + layer.cross_attn_token_to_image(q=tokens + prompts, k=placed, v=cells))
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        cells = layer.norm4(cells + layer.cross_attn_image_to_token(q=placed, k=tokens + prompts, v=tokens))
    found = tokens + transformer.final_attn_token_to_image(q=tokens + prompts, k=cells + positions, v=cells)
    return transformer.norm_final_attn(found), cells


def _normalised(rows: Tensor, norm: Any) -> Tensor:
    """Normalise the channels of rows as sam2's ``LayerNorm2d`` does those of images."""
    return F.layer_norm(rows, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _divided(rows: Tensor, upscale: Any) -> Tensor:
    """Turn rows (..., C) into their four parts each, (..., 4, D), as a transposed convolution of stride 2 does."""
    weight = upscale.weight.permute(2, 3, 1, 0)
    return F.linear(rows, weight.flatten(0, 2)).unflatten(-1, (4, -1)) + upscale.bias
