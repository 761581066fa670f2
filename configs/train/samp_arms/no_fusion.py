"""SAMP nano, 1000 steps. The stem's levels are added up with SAM's, without fusion blocks."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(fusion="sum"))
