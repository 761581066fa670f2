"""Trains SAM nano's image encoder further: which pixels show the same person, in a crowd of people who look alike.

python -m bmp.training train/sam_nano_encoder_people.py --export output/nano/sam2-nano-encoder.safetensors
"""

_base_ = ["sam_nano_encoder.py"]

iterations = 13000
learning_rate = 1e-3

model = dict(checkpoint="output/nano/sam2-nano-parts.safetensors", masks=2.0)
train_cfg = dict(max_iters=iterations)
optim_wrapper = dict(optimizer=dict(lr=learning_rate))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=200, end=iterations, T_max=iterations - 200, eta_min_ratio=0.05
    ),
]
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate
