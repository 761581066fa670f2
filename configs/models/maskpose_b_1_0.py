"""MaskPose-b of the first BBox-Mask-Pose, version 1.0.0: 21 keypoints, COCO's 17 first."""

_base_ = ["maskpose_b.py"]

model = dict(head=dict(out_channels=21))
