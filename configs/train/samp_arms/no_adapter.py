"""SAMP nano, 1000 steps. SAM's features with 1 x 1 heads: no stem, and levels are added up."""

_base_ = ["_base_/arm.py"]

model = dict(
    network=dict(
        _delete_=True,
        level_channels=(128, 128, 128),
        crop=(128, 96),
        channels=64,
        stem_channels=None,
        fusion="sum",
    )
)
