"""SAMP nano, 1000 steps. All grids read the encoder's coarsest level."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(taps=(2, 2, 2)))
