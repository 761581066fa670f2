"""Benchmark on Human-Art's validation set, people in paintings, sculptures and photos, with the paper's pipeline.

Give the folder above HumanArt/ with --set dataset.root=DIR; docs/datasets.md lists the files that it has to contain.
"""

_base_ = ["bmp_v2.py"]

dataset = dict(type="HumanArt", root=None, split="val")
