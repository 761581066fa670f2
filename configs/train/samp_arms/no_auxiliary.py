"""SAMP nano, 1000 steps. Only the finest level is supervised."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(auxiliary=False))
