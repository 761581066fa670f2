"""Trains the detector of nano_one.py on SynthCrowd, on the levels of SAM nano's frozen encoder.

    python -m bmp.training train/people_head_nano.py --export pipeline/bmp/checkpoints/nano/people-head-nano.safetensors

The cache of levels is that of train/samp_nano.py: 2.2 MB an image, 11 GB for the 5000 images here. In half of the
images some people are known already, and taken out of the features; of a quarter of these, out of the picture, which
is encoded once more at half its size.
"""

_base_ = ["_base_/runtime.py", "_base_/synthcrowd.py"]

default_scope = "mmengine"
custom_imports = dict(
    imports=["bmp.training.loops", "bmp.training.detector.people_head", "bmp.training.detector.known_people"]
)
exported = "network."
data_root = "output/synthcrowd"
iterations = 4000
learning_rate = 2e-3

model = dict(
    type="PeopleHeadTraining",
    network="models/people_head_nano.py",
    encoder=dict(model="models/sam2_nano.yaml", checkpoint="nano/sam2-nano.safetensors"),
    cache="output/train/samp_nano_levels",
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="PositionSampler"),
    dataset=dict(
        type="PositionedDataset",
        dataset=dict(
            type="PartlyKnownCrowds",
            dataset=dict(type="PeopleDataset", annotations=f"{data_root}/train.json", images=data_root),
            painted=0.25,
            limit=5000,
        ),
    ),
)
train_cfg = dict(type="ResumableTrainLoop", max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=200, end=iterations, T_max=iterations - 200, eta_min_ratio=0.01
    ),
]
default_hooks = dict(checkpoint=dict(interval=250))
custom_hooks = [dict(type="EMAHook", momentum=0.002)]

val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PartlyKnownCrowds",
        dataset=dict(type="PeopleDataset", annotations=f"{data_root}/val.json", images=data_root),
        probability=0.0,
        limit=200,
    ),
)
val_evaluator = dict(type="BoxAP")
val_cfg = dict()
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate
