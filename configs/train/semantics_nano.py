"""Trains the small semantic encoder of the nano parser on SynthCrowd's part maps.

python -m bmp.training train/semantics_nano.py --export output/nano/semantics-nano.safetensors
"""

_base_ = ["_base_/runtime.py", "_base_/synthcrowd.py"]

default_scope = "mmengine"
custom_imports = dict(imports=["bmp.training.loops", "bmp.training.segmenter.parts", "bmp.training.parser.model"])
exported = "semantics."
data_root = "output/synthcrowd"
iterations = 3000

model = dict(type="SemanticTraining")
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="PositionSampler"),
    dataset=dict(
        type="PositionedDataset",
        dataset=dict(
            type="PartMaps",
            dataset=dict(type="PeopleDataset", annotations=f"{data_root}/train.json", images=data_root),
            parts=f"{data_root}/train_parts",
            size=256,
            augment=dict(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2, grey=0.05),
        ),
    ),
)
train_cfg = dict(type="ResumableTrainLoop", max_iters=iterations)
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05), clip_grad=dict(max_norm=1.0)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=iterations, T_max=iterations - 50, eta_min_ratio=0.05),
]
# This was a shorthand; as an entry it could be overridden without any effect.
del iterations
