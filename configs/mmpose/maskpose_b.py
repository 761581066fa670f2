"""Trains MaskPose-b on COCO, MPII and AIC, from MMPose's ViTPose-b."""

_base_ = ["../models/maskpose_b.py", "_base_/maskpose_train.py"]

load_from = (
    "https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco/"
    "td-hm_ViTPose-base_8xb64-210e_coco-256x192-216eae50_20230314.pth"
)
model = dict(
    backbone=dict(drop_path_rate=0.3),
    head=dict(loss=dict(type="KeypointMSELoss", use_target_weight=True)),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12, layer_decay_rate=0.75))
