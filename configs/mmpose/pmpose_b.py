"""Trains PMPose-b on COCO, MPII and AIC, from MaskPose-b."""

_base_ = ["../models/pmpose_b.py", "_base_/pmpose_train.py"]

load_from = "MaskPose/MaskPose-b-1.1.0.pth"
model = dict(
    freeze_backbone=True,
    backbone=dict(drop_path_rate=0.3),
    head=dict(
        frozen=["error"],
        decoder=dict(type="PMPoseHeatmap"),
        loss=dict(type="ExpectedOKSLoss", smoothing_weight=0.05),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12, layer_decay_rate=0.75))
