"""Trains PMPose-b on COCO, MPII and AIC, from MAE's weights; drop path and layer decay are MMPose's for ViTPose-b."""

_base_ = ["../models/pmpose_b.py", "_base_/pmpose_train.py"]

model = dict(
    backbone=dict(
        drop_path_rate=0.3,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmpose/v1/pretrained_models/mae_pretrain_vit_base_20230913.pth",
        ),
    ),
    head=dict(decoder=dict(type="PMPoseHeatmap"), score_loss=dict(type="SparsemaxLoss")),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12, layer_decay_rate=0.75))
