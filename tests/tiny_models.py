"""The networks of the adapters with less of everything, built from the libraries' own configs; weights are made up."""

from __future__ import annotations

import copy
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from bmp.models.configs import load_model_config

SAM_SIDE = 128
DETECTOR_SIDE = 320
VIT = {"embed_dims": 32, "num_layers": 1, "num_heads": 2, "feedforward_channels": 32}


def sam2_config(folder: Path, side: int = SAM_SIDE) -> str:
    """Write the config of a SAM 2.1 of so many pixels: that of the smallest one, shrunk. Returns its path."""
    path = folder / "tiny.yaml"
    path.write_text(_sam2_yaml(side))
    return str(path)


@cache
def _sam2_yaml(side: int) -> str:
    from omegaconf import OmegaConf

    from bmp.models.sam2 import _config_file, _import_sam2

    config: Any = OmegaConf.load(_config_file(_import_sam2(), "sam2.1_hiera_t"))
    encoder = config.model.image_encoder
    config.model.image_size = side
    encoder.trunk.update(embed_dim=16, stages=[1, 1, 2, 1], global_att_blocks=[3])
    encoder.neck.update(d_model=64, backbone_channel_list=[128, 64, 32, 16])
    encoder.neck.position_encoding.num_pos_feats = 64
    attention, memory = config.model.memory_attention, config.model.memory_encoder
    attention.update(num_layers=1, d_model=64)
    attention.layer.update(d_model=64, dim_feedforward=64)
    attention.layer.self_attention.update(embedding_dim=64, feat_sizes=[8, 8])
    attention.layer.cross_attention.update(embedding_dim=64, kv_in_dim=32, feat_sizes=[8, 8])
    memory.update(in_dim=64, out_dim=32)
    memory.position_encoding.num_pos_feats = 32
    memory.mask_downsampler.embed_dim = 64
    memory.fuser.layer.dim = 64
    return OmegaConf.to_yaml(config)


# Of a parser inside the blocks of ``sam1``, which a test has to register as "tiny".
SCHNET_INSIDE = dict(
    base="inside_b",
    inside="tiny",
    level_channels=(32, 32),
    blocks=(0, 1),
    crop=(64, 48),
    tokens=4,
    rank=2,
    semantics="nano",
    head=8,
)


def sam1(side: int = SAM_SIDE) -> Any:
    """A SAM 1 of two layers, of 128 x 128 pixels or of another side."""
    from segment_anything import modeling

    encoder = modeling.ImageEncoderViT(
        depth=2,
        embed_dim=32,
        img_size=side,
        mlp_ratio=2,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=2,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[1],
        window_size=4,
        out_chans=64,
    )
    prompts = modeling.PromptEncoder(
        embed_dim=64, image_embedding_size=(side // 16,) * 2, input_image_size=(side, side), mask_in_chans=16
    )
    decoder = modeling.MaskDecoder(
        num_multimask_outputs=3,
        transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=64, mlp_dim=64, num_heads=8),
        transformer_dim=64,
        iou_head_depth=3,
        iou_head_hidden_dim=64,
    )
    return modeling.Sam(encoder, prompts, decoder)


def detector_config(name: str, side: int = DETECTOR_SIDE) -> Any:
    """The config of one of mmdet's detectors for images of 320 x 320 pixels, or of another side."""
    config = copy.deepcopy(_detector_config(name))
    for step in config.test_dataloader.dataset.pipeline:
        for key in {"scale", "size"} & set(step):
            step[key] = (side, side)
    return config


@cache
def _detector_config(name: str) -> Any:
    import mmdet
    from mmengine.config import Config

    return Config.fromfile(Path(mmdet.__path__[0]) / ".mim" / "configs" / name)


def rtmdet(name: str, side: int = DETECTOR_SIDE) -> Any:
    """The config of a small "rtmdet" or "rtmdet-ins" for three classes."""
    config = detector_config(f"rtmdet/{name}_tiny_8xb32-300e_coco.py", side)
    config.model.backbone.update(deepen_factor=0.167, widen_factor=0.125)
    config.model.neck.update(in_channels=[32, 64, 128], out_channels=24)
    config.model.bbox_head.update(in_channels=24, feat_channels=24, num_classes=3)
    # mmdet counts all classes against these limits, we count people
    config.model.test_cfg.update(score_thr=0.25, nms_pre=10_000, max_per_img=1000)
    config.test_dataloader.dataset.metainfo = {"classes": ("person", "dog", "cat")}
    return config


def pose_section(family: str = "pmpose") -> dict[str, Any]:
    """The model section of a small "pmpose" or "maskpose" for crops of 96 x 128 pixels."""
    section: dict[str, Any] = copy.deepcopy(_pose_section(family))
    # The head needs 16 x 12 cells: patches of half the side, and one deconvolution less.
    section["backbone"].update(arch=VIT, img_size=(128, 96), patch_size=8)
    section["head"]["decoder"].update(input_size=(96, 128), heatmap_size=(24, 32))
    section["head"].update(in_channels=32, deconv_out_channels=(16,), deconv_kernel_sizes=(4,))
    return section


@cache
def _pose_section(family: str) -> dict[str, Any]:
    section: dict[str, Any] = load_model_config(f"models/{family}_b.py", "mmpose")["model"]
    return section


RCNN_SIDES = (32, 53)


@cache
def torchvision_detector(**options: Any) -> Any:
    """A detector on a small Mask R-CNN, the same for all tests of a process."""
    from bmp.detectors.torchvision import TorchvisionDetector

    network = dict(layers=(1, 1, 1, 1), channels=16, classes=3)
    return _sure(TorchvisionDetector("random", network, sides=RCNN_SIDES, score_threshold=0.5, **options))


@cache
def torchvision_pose() -> Any:
    """A pose estimator on a small Keypoint R-CNN, the same for all tests of a process."""
    from bmp.poses.torchvision import TorchvisionPose

    return _sure(TorchvisionPose("random", dict(layers=(1, 1, 1, 1), channels=16), sides=RCNN_SIDES))


def _sure(stage: Any) -> Any:
    """Let made-up weights tell one thing from another: as they are made, all scores are nearly the same."""
    heads = stage._network.roi_heads
    heads.box_predictor.cls_score.weight.mul_(30)
    if heads.mask_predictor is not None:
        heads.mask_predictor.mask_fcn_logits.weight.mul_(100)
    return stage


def transformers_config(architecture: str) -> dict[str, Any]:
    """The config of a small network of transformers."""
    names = {"0": "dog", "1": "person", "2": "cat"}
    resnet = dict(embedding_size=16, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1], layer_type="basic")
    encoder = dict(
        encoder_hidden_dim=32, encoder_ffn_dim=32, encoder_attention_heads=2, encoder_in_channels=[24, 32, 40]
    )
    decoder = dict(decoder_ffn_dim=32, decoder_attention_heads=2, decoder_in_channels=[32] * 3, decoder_layers=2)
    detr = dict(
        backbone_config=dict(model_type="rt_detr_resnet", out_features=["stage2", "stage3", "stage4"], **resnet)
    )
    detr |= dict(d_model=32, num_queries=12, id2label=names, num_denoising=0, **encoder, **decoder)
    vit = dict(model_type="vitpose_backbone", image_size=[128, 96], patch_size=[16, 16], hidden_size=32)
    vit |= dict(num_hidden_layers=1, num_attention_heads=2, out_features=["stage1"])
    windows = dict(
        model_type="rf_detr_dinov2", hidden_size=24, num_hidden_layers=4, num_attention_heads=2, image_size=64
    )
    windows |= dict(patch_size=16, num_windows=2, mlp_ratio=1, out_indices=[2, 4], window_block_indexes=[0, 2])
    rf_detr = dict(backbone_config=windows, d_model=32, num_queries=12, id2label=names, decoder_layers=1)
    rf_detr |= dict(decoder_self_attention_heads=2, decoder_cross_attention_heads=4, decoder_ffn_dim=32)
    sam: dict[str, Any] = dict(
        vision_config=dict(
            backbone_config=dict(
                model_type="sam2_hiera_det_model",
                hidden_size=16,
                image_size=[SAM_SIDE] * 2,
                blocks_per_stage=[1, 1, 2, 1],
                embed_dim_per_stage=[16, 32, 64, 128],
                global_attention_blocks=[3],
            ),
            backbone_channel_list=[128, 64, 32, 16],
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
            fpn_hidden_size=64,
        ),
        prompt_encoder_config=dict(hidden_size=64, image_size=SAM_SIDE),
        mask_decoder_config=dict(hidden_size=64, mlp_dim=64, iou_head_hidden_dim=64),
    )
    sections = {
        "RTDetrV2ForObjectDetection": detr,
        "DFineForObjectDetection": {**detr, "backbone_config": dict(model_type="hgnet_v2", **_hgnet())},
        "RfDetrForObjectDetection": rf_detr,
        "RfDetrForInstanceSegmentation": rf_detr,
        "VitPoseForPoseEstimation": dict(backbone_config=vit, num_labels=17),
        "VitPoseForPoseEstimation, experts": dict(
            backbone_config={**vit, "num_experts": 3, "part_features": 8}, num_labels=17
        ),
        "Sam2Model": sam,
    }
    return dict(architectures=[architecture.partition(",")[0]], **copy.deepcopy(sections[architecture]))


def _hgnet() -> dict[str, Any]:
    return dict(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 24, 32],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 24, 32, 40],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[16, 24, 32, 40],
        depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
