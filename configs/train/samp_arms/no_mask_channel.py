"""SAMP nano, 1000 steps. The stem does not see the mask; features outside it are weakened."""

_base_ = ["_base_/arm.py"]

model = dict(
    network=dict(
        _delete_=True,
        level_channels=(128, 128, 128),
        crop=(128, 96),
        channels=64,
        stem_channels=(16, 64, 64, 64),
        mask_channel=False,
    )
)
