"""PMPose-b: ViT-B."""

_base_ = ["_base_/pmpose.py"]

model = dict(
    backbone=dict(arch="base"),
    head=dict(in_channels=768),
)
