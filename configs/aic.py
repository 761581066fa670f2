"""Benchmark on AI Challenger's validation set with the paper's pipeline, on all of AIC's 14 keypoints.

PMPose was trained on AIC, too: its 23 keypoints have them. Masks are prompted with COCO's as ever. Give the folder of
the data set with --set dataset.root=DIR; docs/datasets.md lists the files that it has to contain.
"""

_base_ = ["bmp_v2.py"]

pipeline = dict(pose=dict(keypoints="all"), segmenter=dict(prompter=dict(among="coco")))

dataset = dict(type="AIC", root=None, split="val")
