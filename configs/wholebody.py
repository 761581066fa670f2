"""Benchmark on COCO-WholeBody's validation set with the paper's pipeline; PMPose's body is measured, the rest is not.

For feet, faces and hands take a network that has them, such as MMPose's:
--set pipeline.pose.config=td-hm_hrnet-w48_dark-8xb32-210e_coco-wholebody-384x288 with its checkpoint,
pipeline.pose.keypoints=all, visibility_from=score and presence_from=score. Give COCO's folder with
--set dataset.root=DIR; docs/datasets.md lists the files that it has to contain.
"""

_base_ = ["bmp_v2.py"]

dataset = dict(type="COCOWholeBody", root=None, split="val")
