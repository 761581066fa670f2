"""Trains PMPose-s on COCO, MPII and AIC, from MaskPose-s."""

_base_ = ["../models/pmpose_s.py", "_base_/pmpose_train.py"]

load_from = "MaskPose/MaskPose-s-1.1.0.pth"
model = dict(
    freeze_backbone=True,
    backbone=dict(drop_path_rate=0.1),
    head=dict(
        frozen=["error"],
        decoder=dict(type="PMPoseHeatmap"),
        loss=dict(type="ExpectedOKSLoss", smoothing_weight=0.05),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12, layer_decay_rate=0.8))
