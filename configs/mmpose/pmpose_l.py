"""Trains PMPose-l on COCO, MPII and AIC, from MaskPose-l."""

_base_ = ["../models/pmpose_l.py", "_base_/pmpose_train.py"]

load_from = "MaskPose/MaskPose-l-1.1.0.pth"
model = dict(
    freeze_backbone=True,
    backbone=dict(drop_path_rate=0.5),
    head=dict(
        frozen=["error"],
        decoder=dict(type="PMPoseHeatmap"),
        loss=dict(type="ExpectedOKSLoss", smoothing_weight=0.05),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=24, layer_decay_rate=0.8))
