"""Benchmark on MPII's validation set with the paper's pipeline, PCKh on all of MPII's 16 keypoints.

PMPose was trained on MPII, too: its 23 keypoints have them. Masks are prompted with COCO's as ever. Only some of the
people in a photo are labelled, so the average precision is low whatever finds them. Give the folder of the data set
with --set dataset.root=DIR; docs/datasets.md lists the files that it has to contain.
"""

_base_ = ["bmp_v2.py"]

pipeline = dict(pose=dict(keypoints="all"), segmenter=dict(prompter=dict(among="coco")))

dataset = dict(type="MPII", root=None, split="val")
