"""The paper's pipeline on COCO val2017, with files where MMPose has them."""

_base_ = ["_base_/bmp.py"]

test_dataloader = dict(
    dataset=dict(
        data_root="data/coco/",
        ann_file="annotations/person_keypoints_val2017.json",
        data_prefix=dict(img="val2017/"),
    ),
)
