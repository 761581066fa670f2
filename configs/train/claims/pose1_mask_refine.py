"""The claims' Pose1MaskRefine: the first point is a keypoint (paper, Table 1)."""

_base_ = ["_base_/finetune.py"]

model = dict(
    sampler=dict(type="Pose1MaskRefine", corrections=7, ground_truth_probability=0.1),
)
