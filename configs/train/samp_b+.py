r"""Trains SAMP in the shared mode at full size on COCO, on the levels of SAM 2.1 b+; 150 images a step on all GPUs.

    torchrun --nproc_per_node 8 -m bmp.training train/samp_b+.py --export output/samp_b+.safetensors

The encoder runs on each image whenever it comes: the levels of COCO's 64,000 images with people would take 3 TB.
"""

_base_ = ["samp_nano.py"]

data_root = "data/coco"
annotations = f"{data_root}/annotations/person_keypoints"
# 60 epochs of 56,599 images, 19 on each of 8 GPUs.
iterations = 22_300

model = dict(
    network="models/samp_b+.py",
    encoder=dict(model="sam2.1_hiera_b+", checkpoint="sam2.1_hiera_base_plus.pt", dtype="bfloat16"),
    cache=None,
)
train_dataloader = dict(
    batch_size=19,
    num_workers=8,
    dataset=dict(
        dataset=dict(
            dataset=dict(
                type="PeopleDataset", annotations=f"{annotations}_train2017.json", images=f"{data_root}/train2017"
            ),
            crop=(256, 192),
            jitter=dict(scale=(0.65, 1.35)),
            limit=None,
        )
    ),
)
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
optim_wrapper = dict(optimizer=dict(lr=1e-3, betas=(0.9, 0.999)))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=500, end=iterations, T_max=iterations - 500, eta_min_ratio=0.01
    ),
]
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        dataset=dict(type="PeopleDataset", annotations=f"{annotations}_val2017.json", images=f"{data_root}/val2017"),
        limit=None,
    ),
)
made_by = []
# These were shorthands; as entries they could be overridden without any effect.
del annotations, iterations
