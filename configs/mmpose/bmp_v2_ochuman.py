"""The paper's pipeline on OCHuman test, with files where MMPose has them."""

_base_ = ["_base_/bmp.py"]

test_dataloader = dict(
    dataset=dict(
        type="OCHumanDataset",
        data_root="data/ochuman/",
        ann_file="annotations/ochuman_coco_format_test_range_0.00_1.00.json",
        data_prefix=dict(img="images/"),
    ),
)
