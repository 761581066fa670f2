"""SAMP nano, 1000 steps. The grids read the encoder's two coarser levels."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(taps=(1, 1, 2)))
