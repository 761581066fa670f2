"""PMPose: 23 keypoints (COCO's 17 first) with presence, visibility and expected OKS; conditioned on masks."""

_base_ = ["topdown.py"]

model = dict(head=dict(type="ProbabilisticHeatmapHead", decoder=dict(type="OKSHeatmap")))
