"""Fine-tunes SAM nano with six visible keypoints far from each other and no corrections (paper, Table 1)."""

_base_ = ["_base_/sam_nano_finetune.py"]

model = dict(
    sampler=dict(type="MaxSpreadPoints", count=6),
    test=dict(prompter=dict(_delete_=True, type="MaxSpread", count=6)),
)
