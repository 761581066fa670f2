"""A detector of people on the levels of SAM nano's encoder, with masks: 0.2 M parameters."""

model = dict(level_channels=(128, 128, 128), channels=64, depth=1, mask_channels=8)
