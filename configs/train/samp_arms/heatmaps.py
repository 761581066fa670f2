"""SAMP nano, 1000 steps. Plain heatmaps in place of probabilities: only their height tells visibility."""

_base_ = ["_base_/arm.py"]

model = dict(network=dict(head="heatmaps"))
