"""Benchmark on CrowdPose test with the paper's pipeline, on the twelve joints that CrowdPose and COCO share.

CrowdPose puts the top of a head and the neck at places of its own. With pipeline.pose.keypoints=all and
evaluation.approximate_keypoints=True PMPose's stand in. Give the folder of the data set with --set dataset.root=DIR;
docs/datasets.md lists the files that it has to contain.
"""

_base_ = ["bmp_v2.py"]

dataset = dict(type="CrowdPose", root=None, split="test")
