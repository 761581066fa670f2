"""Fine-tunes SAM nano on people with the recipe of SAM 2, without keypoints (paper, Table 1)."""

_base_ = ["_base_/sam_nano_finetune.py"]

model = dict(
    sampler=dict(type="MaskRefine", corrections=7, ground_truth_probability=0.1),
)
