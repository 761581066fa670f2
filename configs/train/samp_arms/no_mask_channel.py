"""SAMP nano, 1000 steps. The stem does not see the mask; features outside it are weakened."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(mask_channel=False))
