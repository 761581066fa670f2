"""MaskPose-l: ViT-L."""

_base_ = ["_base_/maskpose.py"]

model = dict(
    backbone=dict(arch="large"),
    head=dict(in_channels=1024),
)
