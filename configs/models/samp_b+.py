"""SAMP in the shared mode at full size: COCO's 17 keypoints from the levels of SAM 2.1, on crops of 256 x 192."""

model = dict(
    level_channels=(256, 256, 256),
    crop=(256, 192),
    channels=192,
    stem_channels=(32, 48, 96, 128),
)
