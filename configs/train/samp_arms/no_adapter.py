"""SAMP nano, 1000 steps. SAM's features with 1 x 1 heads: no stem, and levels are added up."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(stem_channels=None, fusion="sum"))
