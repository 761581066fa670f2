"""SAMP nano, 1000 steps. Fusion blocks without the stem: no fine features of the crop itself."""

_base_ = ["_base_/arm.py"]

model = dict(
    network=dict(
        _delete_=True,
        level_channels=(128, 128, 128),
        crop=(128, 96),
        channels=64,
        stem_channels=None,
    )
)
