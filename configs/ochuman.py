"""Benchmark on OCHuman test, heavily occluded people, with the paper's pipeline.

Give the folder of the data set with --set dataset.root=DIR; docs/datasets.md lists the files that it has to contain.
"""

_base_ = ["bmp_v2.py"]

dataset = dict(type="OCHuman", root=None, split="test")
