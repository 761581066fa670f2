"""Fine-tunes SAM nano to SAM-pose2seg nano with the paper's recipe: keypoints first, keypoints where they correct."""

_base_ = ["_base_/sam_nano_finetune.py"]

model = dict(
    sampler=dict(type="PoseMaskRefine", corrections=7, truth_probability=0.1),
)
