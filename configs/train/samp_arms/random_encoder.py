"""SAMP nano, 1000 steps. The encoder has made-up weights: how much comes from the features?"""

_base_ = ["_base_/arm.py"]

model = dict(encoder=dict(checkpoint="random"))
