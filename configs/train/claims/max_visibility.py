"""The claims' MaxVisibility: the six most visible keypoints at once, no corrections (paper, Table 1)."""

_base_ = ["_base_/finetune.py"]

model = dict(
    sampler=dict(type="MaxVisibilityPoints", count=6),
    test=dict(prompter=dict(type="MaxVisibility", count=6)),
)
