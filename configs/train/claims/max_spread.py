"""The claims' MaxSpread: six visible keypoints far from each other, no corrections (paper, Table 1)."""

_base_ = ["_base_/finetune.py"]

model = dict(
    sampler=dict(type="MaxSpreadPoints", count=6),
    test=dict(prompter=dict(_delete_=True, type="MaxSpread", count=6)),
)
