"""MaskPose: 23 keypoints (COCO's 17 first) from plain heatmaps; conditioned on masks."""

_base_ = ["topdown.py"]

model = dict(head=dict(type="HeatmapHead", decoder=dict(type="UDPHeatmap")))
