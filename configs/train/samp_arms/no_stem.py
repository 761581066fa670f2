"""SAMP nano, 1000 steps. Fusion blocks without the stem: no fine features of the crop itself."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(stem_channels=None))
