"""bmp_v2.py with SAM 2.1 as released and the prompts that the paper found best for it, six keypoints spread out."""

_base_ = ["bmp_v2.py"]

pipeline = dict(
    segmenter=dict(
        checkpoint="sam2.1_hiera_base_plus.pt",
        prompter=dict(_delete_=True, type="MaxSpread", count=6),
    ),
)
