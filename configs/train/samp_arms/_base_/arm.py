"""The common part of the ablations of SAMP nano: 1000 steps of its training; ``--set randomness.seed=1`` for a seed."""

_base_ = ["../../samp_nano.py"]

# As models/samp_nano.py, so that an arm states only what it changes.
model = dict(
    network=dict(
        _delete_=True,
        level_channels=(128, 128, 128),
        crop=(128, 96),
        channels=64,
        stem_channels=(16, 64, 64, 64),
    )
)
train_cfg = dict(max_iters=1000, val_interval=1000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=1000, T_max=950, eta_min_ratio=0.01),
]
