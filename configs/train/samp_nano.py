"""Trains SAMP nano on SynthCrowd, on the levels of SAM nano's frozen encoder, which are made once and kept in a folder.

    python -m bmp.training train/samp_nano.py --export pipeline/bmp/checkpoints/nano/samp-nano.safetensors

The levels of an image take 2.2 MB, those of the 3000 images here 6.5 GB.
"""

_base_ = ["_base_/runtime.py", "_base_/synthcrowd.py"]

default_scope = "mmengine"
custom_imports = dict(imports=["bmp.training.loops", "bmp.training.pose.samp", "bmp.training.pose.windows"])
exported = "network."
data_root = "output/synthcrowd"
iterations = 4000
learning_rate = 2e-3

model = dict(
    type="SAMPTraining",
    network="models/samp_nano.py",
    encoder=dict(model="models/sam2_nano.yaml", checkpoint="nano/sam2-nano.safetensors"),
    cache="output/train/samp_nano_levels",
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type="PositionSampler"),
    dataset=dict(
        type="PositionedDataset",
        dataset=dict(
            type="WindowedPeople",
            dataset=dict(type="PeopleDataset", annotations=f"{data_root}/train.json", images=data_root),
            crop=(128, 96),
            limit=3000,
        ),
    ),
)
train_cfg = dict(type="ResumableTrainLoop", max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=200, end=iterations, T_max=iterations - 200, eta_min_ratio=0.01
    ),
]
default_hooks = dict(checkpoint=dict(interval=500))
custom_hooks = [dict(type="EMAHook", momentum=0.002)]

val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PosedCrowds",
        dataset=dict(type="PeopleDataset", annotations=f"{data_root}/val.json", images=data_root),
        limit=100,
    ),
)
val_evaluator = dict(type="PoseAP")
val_cfg = dict()
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate
