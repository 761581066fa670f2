"""Trains MaskPose-h on COCO, MPII and AIC, from MMPose's ViTPose-h, a quarter of the others' batch and rate."""

_base_ = ["../models/maskpose_h.py", "_base_/maskpose_train.py"]

load_from = (
    "https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco/"
    "td-hm_ViTPose-huge_8xb64-210e_coco-256x192-e32adcd4_20230314.pth"
)
model = dict(
    backbone=dict(drop_path_rate=0.55),
    head=dict(loss=dict(type="KeypointMSELoss", use_target_weight=True)),
)
train_dataloader = dict(batch_size=32, sampler=dict(batch_size=32))
auto_scale_lr = dict(base_batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4), paramwise_cfg=dict(num_layers=32, layer_decay_rate=0.85))
