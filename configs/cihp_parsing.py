"""Benchmark of body parts on CIHP val: mIoU, AP^p and PCP beside published numbers.

Give the folder of the data set with --set dataset.root=DIR; docs/datasets.md lists the files that it has to contain,
Category_ids and Human_ids among them.
"""

_base_ = ["schnet_b+.py"]

dataset = dict(type="CIHP", root=None, split="val")
