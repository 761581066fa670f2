"""Benchmark on CIHP val, masks of many people at a time, with the paper's pipeline.

Give the folder of the data set with --set dataset.root=DIR; docs/datasets.md lists the files that it has to contain.
"""

_base_ = ["bmp_v2.py"]

dataset = dict(type="CIHP", root=None, split="val")
