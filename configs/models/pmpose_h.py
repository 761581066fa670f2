"""PMPose-h: ViT-H."""

_base_ = ["_base_/pmpose.py"]

model = dict(
    backbone=dict(arch="huge"),
    head=dict(in_channels=1280),
)
