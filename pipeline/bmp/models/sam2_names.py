"""From SAM 2.1 as the package sam2 names its weights to transformers' ``Sam2Model``; knows no file and no stage.

The names were compared on the two packages' own networks of all sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bmp.config import packaged

_FREQUENCIES = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_POINTS = "sam_prompt_encoder.point_embeddings."
_LAYERS = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}
_DOWNSCALING = {"0": "conv1", "1": "layer_norm1", "3": "conv2", "4": "layer_norm2", "6": "conv3"}
_UPSCALING = {"0": "upscale_conv1", "1": "upscale_layer_norm", "3": "upscale_conv2"}

_RULES: tuple[tuple[str, Any], ...] = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.mlp\.layers\.([01])\.", lambda found: f".mlp.{('proj_in', 'proj_out')[int(found[1])]}."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.mask_downscaling\.(\d)\.", lambda found: f".mask_embed.{_DOWNSCALING[found[1]]}."),
    (r"\.output_upscaling\.(\d)\.", lambda found: f".{_UPSCALING[found[1]]}."),
    (
        r"\.(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.layers\.(\d)\.",
        lambda found: f".{found[1]}.{_LAYERS[found[2]]}.",
    ),
)
_VIDEO = ("maskmem_tpos_enc", "no_mem_pos_enc", "no_obj_", "mask_downsample", "memory_", "obj_ptr_")

# Width, heads, blocks of each stage, blocks of global attention, windows, and cells of the learnt positions.
_HIERA: dict[str, tuple[int, int, list[int], list[int], list[int], list[int]]] = {
    "sam2.1_hiera_t": (96, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7], [7, 7]),
    "sam2.1_hiera_s": (96, 1, [1, 2, 11, 2], [7, 10, 13], [8, 4, 14, 7], [7, 7]),
    "sam2.1_hiera_b+": (112, 2, [2, 3, 16, 3], [12, 16, 20], [8, 4, 14, 7], [14, 14]),
    "sam2.1_hiera_l": (144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8], [7, 7]),
}


def is_sam2(state: Mapping[str, Tensor]) -> bool:
    """Say whether weights have the names of the package sam2."""
    return _FREQUENCIES in state


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of SAM 2.1, or SAM-pose2seg, under the names of ``Sam2Model``; what serves videos is left out."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == _FREQUENCIES:
            renamed["shared_image_embedding.positional_embedding"] = tensor
            renamed["prompt_encoder.shared_embedding.positional_embedding"] = tensor
        elif not name.startswith((_POINTS, *_VIDEO)):
            new = name
            for pattern, replacement in _RULES:
                new = re.sub(pattern, replacement, new)
            renamed[new] = tensor
    points = [name for name in sorted(state) if name.startswith(_POINTS)]
    if points:
        renamed["prompt_encoder.point_embed.weight"] = torch.cat([state[name] for name in points])
    return renamed


def config_for(model: str) -> dict[str, Any] | None:
    """Return the settings of ``Sam2Model`` for a model that ``SAM2Segmenter`` knows by that name, None for others.

    Such a name is "sam2.1_hiera_b+" and its like, or a file (YAML) in sam2's style.
    """
    if model in _HIERA:
        width, heads, blocks, global_blocks, windows, cells = _HIERA[model]
        return _settings(1024, 256, [2, 3], width, heads, blocks, global_blocks, windows, cells, [2, 2], 3)
    file = packaged(model) if model.endswith((".yaml", ".yml")) else None
    if file is None:
        return None
    import yaml

    model_settings = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]
    trunk, neck = model_settings["image_encoder"]["trunk"], model_settings["image_encoder"]["neck"]
    return _settings(
        model_settings["image_size"],
        neck["d_model"],
        neck.get("fpn_top_down_levels", [0, 1, 2, 3]),
        trunk["embed_dim"],
        trunk["num_heads"],
        trunk["stages"],
        trunk["global_att_blocks"],
        trunk.get("window_spec", [8, 4, 14, 7]),
        trunk.get("window_pos_embed_bkg_spatial_size", [7, 7]),
        trunk.get("q_stride", [2, 2]),
        trunk.get("q_pool", 3),
    )


def _settings(
    side: int,
    channels: int,
    top_down: list[int],
    width: int,
    heads: int,
    blocks: list[int],
    global_blocks: list[int],
    windows: list[int],
    cells: list[int],
    stride: list[int],
    pooled_stages: int,
) -> dict[str, Any]:
    widths = [width * 2**stage for stage in range(len(blocks))]
    backbone = dict(
        model_type="sam2_hiera_det_model",
        hidden_size=width,
        num_attention_heads=heads,
        image_size=[side, side],
        query_stride=stride,
        num_query_pool_stages=pooled_stages,
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**stage for stage in range(len(blocks))],
        window_size_per_stage=windows,
        global_attention_blocks=global_blocks,
        window_positional_embedding_background_size=cells,
    )
    vision = dict(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[side // stride, side // stride] for stride in (4, 8, 16)],
        fpn_hidden_size=channels,
        fpn_top_down_levels=top_down,
    )
    return dict(
        sam2=True,
        architectures=["Sam2Model"],
        vision_config=vision,
        prompt_encoder_config=dict(hidden_size=channels, image_size=side),
        mask_decoder_config=dict(
            hidden_size=channels,
            iou_head_hidden_dim=256,
            dynamic_multimask_via_stability=True,
            dynamic_multimask_stability_delta=0.05,
            dynamic_multimask_stability_thresh=0.98,
        ),
    )
