"""Trains the nano parser on the frozen levels of SAM nano, which has learnt from SynthCrowd's part maps itself.

python -m bmp.training train/parts_nano.py --export output/nano/parts-nano.safetensors

The semantic encoder comes from train/semantics_nano.py. Levels are kept on disk, 2 MB an image, and as much for its
mirror image.
"""

_base_ = ["_base_/runtime.py", "_base_/synthcrowd.py"]

default_scope = "mmengine"
custom_imports = dict(imports=["bmp.training.loops", "bmp.training.segmenter.parts", "bmp.training.parser.model"])
exported = "parser."
data_root = "output/synthcrowd"
iterations = 3000

model = dict(
    type="ParserTraining",
    model="nano",
    sam="models/sam2_nano.yaml",
    encoder="nano/sam-pose2seg-nano.safetensors",
    semantics="output/nano/semantics-nano.safetensors",
    cache="output/train/parts_nano_levels",
)
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
            size=320,
            augment=dict(flip=0.5, brightness=0.0, contrast=0.0, saturation=0.0, grey=0.0),
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
