r"""The keypoints that SAM-pose2seg is trained with on CIHP: ProbPose-s in every labelled box.

python -m bmp.inference.keypoints --config keypoints/cihp.py --set dataset.root=DIR \
        --output DIR/../keypoints/cihp_train.json
"""

_base_ = ["../probpose.py"]

dataset = dict(type="CIHP", root=None, split="train")
