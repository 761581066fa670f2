"""The paper's pipeline on CrowdPose test, with the twelve keypoints that COCO and CrowdPose share.

CrowdPose labels twelve joints of arms and legs as COCO does, and besides them the neck and the top of the head, which
the loop does not estimate: its poses are COCO's. These two are left out of the ground truth, and the face is left out
of the poses. A person without labels for any of the twelve counts as found by any pose within the box, since MMPose's
conversion keeps such people. The task differs from the published one with fourteen keypoints: compare the numbers with
other runs of this config only.
"""

_base_ = ["_base_/bmp.py"]

test_dataloader = dict(
    dataset=dict(
        type="CrowdPoseDataset",
        data_root="data/crowdpose/",
        ann_file="annotations/mmpose_crowdpose_test.json",
        data_prefix=dict(img="images/"),
    ),
)
test_evaluator = dict(
    iou_type="keypoints_crowd",
    use_area=False,
    prefix="crowdpose",
    gt_converter=dict(
        type="KeypointConverter",
        num_keypoints=17,
        # CrowdPose's shoulders, elbows, wrists, hips, knees and ankles are COCO's, five places further on.
        mapping=[
            (0, 5),
            (1, 6),
            (2, 7),
            (3, 8),
            (4, 9),
            (5, 10),
            (6, 11),
            (7, 12),
            (8, 13),
            (9, 14),
            (10, 15),
            (11, 16),
        ],
    ),
)
