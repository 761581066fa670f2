"""SAMP nano, 1000 steps. The whole of SAMP nano, with which the other arms are compared."""

_base_ = ["_base_/arm.py"]
