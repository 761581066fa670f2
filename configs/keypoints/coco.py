r"""The keypoints that SAM-pose2seg is trained with on COCO: ProbPose-s in every labelled box, small people included.

python -m bmp.inference.keypoints --config keypoints/coco.py --set dataset.root=DIR \
        --output DIR/../keypoints/coco_train2017.json
"""

_base_ = ["../probpose.py"]

dataset = dict(type="COCO", root=None, split="train2017")
