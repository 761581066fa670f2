"""The claims' PoseMaskRefine, the paper's recipe: keypoints first and as corrections (paper, Table 1)."""

_base_ = ["_base_/finetune.py"]

model = dict(
    sampler=dict(type="PoseMaskRefine", corrections=7, ground_truth_probability=0.1),
)
