"""The claims' MaskRefine: people alone, but no keypoints (paper, Table 1)."""

_base_ = ["_base_/finetune.py"]

model = dict(
    sampler=dict(type="MaskRefine", corrections=7, ground_truth_probability=0.1),
)
