"""SAMP nano, 1000 steps. Features outside the mask stay as they are; the mask is a channel of the stem only."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(alpha=0.0))
