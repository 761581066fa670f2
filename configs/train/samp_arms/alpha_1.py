"""SAMP nano, 1000 steps. Features outside the mask are zero."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(alpha=1.0))
