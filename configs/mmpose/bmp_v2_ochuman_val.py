"""The paper's pipeline on OCHuman val."""

_base_ = ["bmp_v2_ochuman.py"]

test_dataloader = dict(
    dataset=dict(ann_file="annotations/ochuman_coco_format_val_range_0.00_1.00.json"),
)
