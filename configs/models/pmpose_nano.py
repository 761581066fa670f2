"""PMPose nano: COCO's 17 keypoints on 128 x 96 crops, small enough to train on a CPU; see ../train/pmpose_nano.py.

A narrow ResNet-18 whose last three levels are joined at the finest, 16 x 12: convolutions learn from few drawn people
what a transformer of the same cost does not.
"""

_base_ = ["_base_/pmpose.py"]

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=18,
        stem_channels=32,
        base_channels=24,
        out_indices=(1, 2, 3),
    ),
    neck=dict(type="FeatureMapProcessor", concat=True),
    head=dict(
        in_channels=336,
        out_channels=17,
        deconv_out_channels=(48, 48),
        deconv_kernel_sizes=(4, 4),
        branch_channels=32,
        with_error=False,
        # In one cell its gradient is a difference of probabilities, far below that of the expected OKS, which forgets
        # whatever a map of zeros has lost.
        score_loss=dict(type="SparsemaxLoss", loss_weight=30.0),
        decoder=dict(input_size=(96, 128), heatmap_size=(48, 64), decoder="expected_oks"),
    ),
)
