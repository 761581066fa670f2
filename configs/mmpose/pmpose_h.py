"""Trains PMPose-h on COCO, MPII and AIC, from MaskPose-h. Half the batch of the smaller ones, and half the rate."""

_base_ = ["../models/pmpose_h.py", "_base_/pmpose_train.py"]

load_from = "MaskPose/MaskPose-h-1.1.0.pth"
model = dict(
    freeze_backbone=True,
    backbone=dict(drop_path_rate=0.55),
    head=dict(
        frozen=["error"],
        decoder=dict(type="PMPoseHeatmap"),
        loss=dict(type="ExpectedOKSLoss", smoothing_weight=0.05),
    ),
)
train_dataloader = dict(batch_size=64, sampler=dict(batch_size=64))
auto_scale_lr = dict(base_batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(num_layers=32, layer_decay_rate=0.85))
