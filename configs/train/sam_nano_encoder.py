"""Trains SAM nano's image encoder from random weights on SynthCrowd's part maps.

python -m bmp.training train/sam_nano_encoder.py --export output/nano/sam2-nano-parts.safetensors
"""

_base_ = ["_base_/runtime.py", "_base_/synthcrowd.py"]

default_scope = "mmengine"
custom_imports = dict(imports=["bmp.training.loops", "bmp.training.segmenter.parts", "bmp.training.segmenter.optim"])
exported = "sam."
data_root = "output/synthcrowd"
iterations = 8000
learning_rate = 1.5e-3

model = dict(type="PartEncoder", model="models/sam2_nano.yaml")
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type="PositionSampler"),
    dataset=dict(
        type="PositionedDataset",
        dataset=dict(
            type="PartMaps",
            dataset=dict(type="PeopleDataset", annotations=f"{data_root}/train.json", images=data_root),
            parts=f"{data_root}/train_parts",
            size=320,
            augment=dict(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2, grey=0.05),
        ),
    ),
)
train_cfg = dict(type="ResumableTrainLoop", max_iters=iterations)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="SAM2Parameters",
    optimizer=dict(type="AdamW", lr=learning_rate, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=200, end=iterations, T_max=iterations - 200, eta_min_ratio=0.05
    ),
]
default_hooks = dict(checkpoint=dict(interval=500))
custom_hooks = [dict(type="EMAHook", momentum=0.002)]
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate
