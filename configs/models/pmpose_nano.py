"""PMPose nano: COCO's 17 keypoints on 128 x 96 crops, small enough to train on a CPU; see ../train/pmpose_nano.py.

The patches cannot be larger: the branches need 16 x 12 features.
"""

_base_ = ["_base_/pmpose.py"]

model = dict(
    backbone=dict(
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=(128, 96),
        patch_size=8,
        patch_cfg=dict(conv_type="ConvStem", padding=0),
    ),
    head=dict(
        in_channels=96,
        out_channels=17,
        deconv_out_channels=(48,),
        deconv_kernel_sizes=(4,),
        branch_channels=48,
        with_error=False,
        score_loss=dict(type="SparsemaxLoss"),
        decoder=dict(input_size=(96, 128), heatmap_size=(24, 32), decoder="expected_oks"),
    ),
)
