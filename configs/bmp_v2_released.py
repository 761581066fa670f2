"""bmp_v2.py with the rules by which the release, BBoxMaskPose 2.0.0, differs from its papers. For comparison only.

Most of the rules are defects; docs/stages.md says what comes of each. Every one is a class or an option of its own:
replace it by what bmp_v2.py has, and the rule is off.
"""

_base_ = ["bmp_v2.py"]

pipeline = dict(
    detector=dict(type="ReleasedMMDetDetector", config="models/rtmdet_ins_l_released.py"),
    pose=dict(_delete_=True, type="FilledContours", pose={{_base_.pipeline.pose}}),
    segmenter=dict(
        _delete_=True,
        type="ExchangedColours",
        segmenter=dict(
            type="SAM2Segmenter",
            model="sam2.1_hiera_b+",
            checkpoint="SAM-pose2seg_hiera_b+.pt",
            prompter=dict(type="GatedMaxVisibility", count=3, threshold=0.5, score_threshold=0.5),
            without_prompts="unprompted",
        ),
    ),
    suppressor=dict(type="ReleasedOKSSuppressor", threshold=0.8, keypoint_threshold=0.5),
    overlaps=dict(type="OldMasksStay"),
)
