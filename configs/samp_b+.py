"""bmp_v2.py with one image encoder for poses and masks: SAMP on SAM 2.1 b+, whose weights have to be trained.

After the abstract of SAMP (ICME 2024); all beyond it is a reconstruction, and nobody has published weights. Train them
with train/samp_b+.py. Small people, of whom the encoder sees too little, go to PMPose.
"""

_base_ = ["bmp_v2.py"]

pipeline = dict(
    shared=dict(sam=dict(type="SAM2Encoder", model="sam2.1_hiera_b+", checkpoint="sam2.1_hiera_base_plus.pt")),
    encoder="sam",
    pose=dict(
        _delete_=True,
        type="SAMPose",
        encoder="sam",
        model="models/samp_b+.py",
        checkpoint="output/samp_b+.safetensors",
        crop=dict(type="MMPoseEstimator", config="models/pmpose_b.py", checkpoint="PMPose/PMPose-b-1.0.0.pth"),
    ),
    segmenter=dict(encoder="sam"),
)
