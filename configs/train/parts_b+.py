"""Trains the parser of schnet_b+.py on the frozen levels of SAM-pose2seg b+, with CLIP frozen beside it.

    torchrun --nproc-per-node 8 -m bmp.training train/parts_b+.py --set data_root=DIR --export FILE.safetensors

DIR contains lip/ and cihp/ as these data sets are published, both for research only: weights of this training may not
be passed on under the licence of this package. CLIP's weights come from DIR/clip.safetensors, which ``python -m
bmp.models.schnet.prepare`` makes. 40 epochs on 16 crops at a time, as far as the paper is known; see docs/parts.md for
what is a guess.
"""

_base_ = ["_base_/runtime.py"]

default_scope = "mmengine"
custom_imports = dict(imports=["bmp.training.loops", "bmp.training.segmenter.parts", "bmp.training.parser.model"])
exported = "parser."
data_root = "data"
iterations = 40 * 30462 // 16

model = dict(
    type="ParserTraining",
    model="b+",
    sam="sam2.1_hiera_b+",
    encoder="SAM-pose2seg_hiera_b+.pt",
    semantics=f"{data_root}/clip.safetensors",
    grid=(128, 96),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    sampler=dict(type="PositionSampler"),
    dataset=dict(
        type="PositionedDataset",
        dataset=dict(
            type="PartMaps",
            dataset=dict(type="LIP", root=f"{data_root}/lip", split="train"),
            parts=None,
            size=1024,
            augment=dict(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2, grey=0.05),
        ),
    ),
)
train_cfg = dict(type="ResumableTrainLoop", max_iters=iterations)
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05), clip_grad=dict(max_norm=1.0)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=500, end=iterations, T_max=iterations - 500, eta_min_ratio=0.01
    ),
]
# This was a shorthand; as an entry it could be overridden without any effect.
del iterations
