"""Fine-tunes SAM nano from one keypoint, and corrections at any pixel (paper, Table 1)."""

_base_ = ["_base_/sam_nano_finetune.py"]

model = dict(
    sampler=dict(type="Pose1MaskRefine", corrections=7, ground_truth_probability=0.1),
)
