"""SAM 2's memory: a mask that is followed from frame to frame by what the network remembers of the object.

As in the published predictor of the package sam2, but in bounded memory and a frame at a time: that one wants the whole
video, and keeps what it remembers of every frame, though only the last ones are read. Knows no person and no video.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from bmp.models.compute import autocast

_SURE = 100.0  # a logit whose sigmoid is 1
_LONG = 2**31  # frames of a video whose length is not known


class _Remembered(TypedDict):
    """What the network reads of an earlier frame, by the names that it has there."""

    obj_ptr: Tensor
    maskmem_features: NotRequired[Tensor]
    maskmem_pos_enc: NotRequired[list[Tensor]]


@dataclass(eq=False)
class ObjectMemory:
    """What is remembered of one object.

    now: number of the last frame. given: the frame in which its mask was given. frames: by number, ``given`` and the
    last ones; what the network does not read any more is dropped.
    """

    now: int = 0
    given: int = 0
    frames: dict[int, _Remembered] = field(default_factory=dict)


class MaskMemory:
    """Follows masks by the memory of a SAM 2 network.

    Features are of one frame: (1, C, h, w) at strides 4, 8 and 16 of the network's input, the first two as the mask
    decoder wants them, the third without the embedding that stands for no memory.

    Args:
        network: sam2's, with its parts for videos.
        dtype: number format, by autocast; features of earlier frames are remembered in bfloat16, as published.
    """

    def __init__(self, network: Any, dtype: torch.dtype) -> None:
        self._network = network
        self._dtype = dtype
        self._positions: list[Tensor] | None = None
        self._with_features: int = network.num_maskmem - 1
        self._with_pointer: int = network.max_obj_ptrs_in_encoder - 1

    @torch.no_grad()
    def give(self, features: tuple[Tensor, ...], mask: Tensor, memory: ObjectMemory, *, anew: bool) -> None:
        """Remember a mask that is known to be right, in place of the one that was given before.

        Args:
            features: of the frame.
            mask: bool (H, W), of the whole frame.
            memory: of the object; brought up to date.
            anew: the frame comes after the last one that ``memory`` knows, and is not that one.
        """
        side = self._network.image_size
        pixels = mask[None, None].to(features[2].device).float()
        if pixels.shape[-2:] != (side, side):
            pixels = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)
            pixels = (pixels >= 0.5).float()
        with autocast(features[2].device, self._dtype):
            *_, small, _, pointer, presence = self._network._use_mask_as_output(features[2], list(features[:2]), pixels)
            large = F.interpolate(small.float(), (side, side), mode="bilinear", align_corners=False)
            remembered = self._remembered(features, torch.where(large > 0, _SURE, -_SURE), pointer, presence)
        memory.now += int(anew)
        memory.frames.pop(memory.given, None)
        memory.given = memory.now
        memory.frames[memory.now] = remembered
        self._forget(memory)

    @torch.no_grad()
    def follow(self, features: tuple[Tensor, ...], memory: ObjectMemory) -> tuple[Tensor, Tensor]:
        """Find the object in the frame after the last one that ``memory`` knows, which is brought up to date.

        Returns:
            the mask's logits float32 (1, h, w), far below 0 everywhere where the object is not seen; and its score (1,)
            in [0, 1]: predicted IoU, 0 where the object is not seen.
        """
        network = self._network
        frame = memory.now + 1
        grid = features[2]
        given = {memory.given: memory.frames[memory.given]}
        others = {number: each for number, each in memory.frames.items() if number != memory.given}
        with autocast(grid.device, self._dtype):
            positions = network.image_encoder.neck.position_encoding(grid)
            conditioned = network._prepare_memory_conditioned_features(
                frame_idx=frame,
                is_init_cond_frame=False,
                current_vision_feats=[_flat(grid)],
                current_vision_pos_embeds=[_flat(positions)],
                feat_sizes=[grid.shape[-2:]],
                output_dict={"cond_frame_outputs": given, "non_cond_frame_outputs": others},
                num_frames=_LONG,
            )
            _, _, ious, small, large, pointer, presence = network._forward_sam_heads(
                backbone_features=conditioned,
                high_res_features=list(features[:2]),
                multimask_output=network._use_multimask(False, None),
            )
            memory.frames[frame] = self._remembered(features, large, pointer, presence)
        memory.now = frame
        self._forget(memory)
        score = ious.float().amax(dim=1).clamp(0, 1) * (presence[:, 0] > 0)
        return small[:, 0].float(), score

    def _remembered(self, features: tuple[Tensor, ...], mask: Tensor, pointer: Tensor, presence: Tensor) -> _Remembered:
        """Encode a mask (1, 1, S, S) of logits together with the frame that it belongs to."""
        maps, positions = self._network._encode_new_memory(
            current_vision_feats=[_flat(features[2])],
            feat_sizes=[features[2].shape[-2:]],
            pred_masks_high_res=mask,
            object_score_logits=presence,
            is_mask_from_pts=False,
        )
        # The same in every frame, so that all of them share one copy.
        self._positions = self._positions or positions
        return {"obj_ptr": pointer, "maskmem_features": maps.to(torch.bfloat16), "maskmem_pos_enc": self._positions}

    def _forget(self, memory: ObjectMemory) -> None:
        """Drop what is not read from the next frame on."""
        for number in list(memory.frames):
            if number == memory.given:
                continue
            age = memory.now + 1 - number
            if age > self._with_pointer:
                del memory.frames[number]
            elif age > self._with_features:
                memory.frames[number] = {"obj_ptr": memory.frames[number]["obj_ptr"]}


def _flat(maps: Tensor) -> Tensor:
    """Turn (1, C, h, w) into (h * w, 1, C)."""
    return maps.flatten(2).permute(2, 0, 1)
