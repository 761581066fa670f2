"""The first BBox-Mask-Pose: MaskPose-b, and base SAM 2.1 prompted with up to six keypoints spread over the body.

MaskPose estimates neither visibility nor presence: the score of a keypoint stands in for both.
"""

_base_ = ["bmp_v2.py"]

pipeline = dict(
    pose=dict(
        config="models/maskpose_b_1_0.py",
        checkpoint="MaskPose/MaskPose-b-1.0.0.pth",
        alpha=0.2,
        visibility_from="score",
        presence_from="score",
    ),
    suppressor=dict(keypoint_threshold=0.3),
    segmenter=dict(
        checkpoint="sam2.1_hiera_base_plus.pt",
        prompter=dict(_delete_=True, type="MaxSpread", count=6, candidate_quantile=0.8, ranking="scores"),
    ),
)
