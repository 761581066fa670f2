"""PMPose-s: ViT-S."""

_base_ = ["_base_/pmpose.py"]

model = dict(
    backbone=dict(arch=dict(embed_dims=384, num_layers=12, num_heads=12, feedforward_channels=1536)),
    head=dict(in_channels=384),
)
