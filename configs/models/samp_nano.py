"""SAMP nano: COCO's 17 keypoints from the levels of SAM nano's encoder, on crops of 128 x 96; 0.2 M parameters."""

model = dict(
    level_channels=(128, 128, 128),
    crop=(128, 96),
    channels=64,
    stem_channels=(16, 64, 64, 64),
)
