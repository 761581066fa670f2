"""The paper's pipeline: RTMDet-Ins-L, PMPose-b, SAM-pose2seg prompted with the three most visible keypoints.

For crowds and entangled people, and for benchmark numbers. Other sizes of the pose model are bmp_v2_s.py, _l and _h.
"""

_base_ = ["_base_/bmp.py"]

pipeline = dict(
    detector=dict(
        type="MMDetDetector",
        config="rtmdet/rtmdet-ins_l_8xb32-300e_coco.py",
        checkpoint="rtmdet-ins-l-mask.pth",
        score_threshold=0.3,
        nms_iou=0.3,
    ),
    pose=dict(
        type="MMPoseEstimator",
        config="models/pmpose_b.py",
        checkpoint="PMPose/PMPose-b-1.0.0.pth",
    ),
    segmenter=dict(
        type="SAM2Segmenter",
        model="sam2.1_hiera_b+",
        checkpoint="SAM-pose2seg_hiera_b+.pt",
        prompter=dict(type="MaxVisibility", count=3),
    ),
)
