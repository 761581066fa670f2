"""Trains PMPose-l on COCO, MPII and AIC, from MAE's weights; drop path and layer decay are MMPose's for ViTPose-l."""

_base_ = ["../models/pmpose_l.py", "_base_/pmpose_train.py"]

model = dict(
    backbone=dict(
        drop_path_rate=0.5,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmpose/v1/pretrained_models/mae_pretrain_vit_large_20230913.pth",
        ),
    ),
    head=dict(decoder=dict(type="PMPoseHeatmap"), score_loss=dict(type="SparsemaxLoss")),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=24, layer_decay_rate=0.8))
