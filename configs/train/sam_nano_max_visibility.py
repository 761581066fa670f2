"""Fine-tunes SAM nano with the six most visible keypoints at once and no corrections (paper, Table 1)."""

_base_ = ["_base_/sam_nano_finetune.py"]

model = dict(
    sampler=dict(type="MaxVisibilityPoints", count=6),
    test=dict(prompter=dict(type="MaxVisibility", count=6)),
)
