"""MaskPose-wb-b: 41 keypoints, PMPose's 23 and those of feet, hands and mouth; ViT-B."""

_base_ = ["_base_/maskpose.py"]

model = dict(
    backbone=dict(arch="base"),
    head=dict(in_channels=768, out_channels=41),
)

keypoints = "maskpose_wb"
