"""The common part of PMPose and MaskPose: a plain ViT on 256 x 192 crops. A model adds its size and its head."""

model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="mmpretrain.VisionTransformer",
        img_size=(256, 192),
        patch_size=16,
        patch_cfg=dict(padding=2),
        with_cls_token=False,
        out_type="featmap",
    ),
    head=dict(
        out_channels=23,
        deconv_out_channels=(256, 256),
        deconv_kernel_sizes=(4, 4),
        decoder=dict(input_size=(192, 256), heatmap_size=(48, 64)),
    ),
    test_cfg=dict(flip_test=True, flip_mode="heatmap", shift_heatmap=False),
)
