"""Benchmark on the persons of COCO val2017 with the paper's pipeline; small=False is COCO*, without small people.

Give the folder of the data set with --set dataset.root=DIR; docs/datasets.md lists the files that it has to contain.
"""

_base_ = ["bmp_v2.py"]

dataset = dict(type="COCO", root=None, split="val2017", small=True)
