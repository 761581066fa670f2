"""MaskPose-h: ViT-H."""

_base_ = ["_base_/maskpose.py"]

model = dict(
    backbone=dict(arch="huge"),
    head=dict(in_channels=1280),
)
