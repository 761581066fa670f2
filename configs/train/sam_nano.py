"""Trains all of SAM nano, the image encoder at a lower rate, on SynthCrowd's people, their parts, and things.

    python -m bmp.training train/sam_nano.py --export pipeline/bmp/checkpoints/nano/sam2-nano.safetensors

It begins with what train/sam_nano_base.py gave, a decoder for an encoder that had been trained on part maps. Images are
not shrunk, and people are at least as large as the decoder can draw. Half of the people start from a mask: from the
ground truth, so that the decoder learns to copy, or from one with a detector's errors, so that it learns to correct.

The weights of the package were trained in this way on a GPU, in float32 and on the first 6000 scenes of the split, in
four minutes. On two cores of a CPU it takes hours.
"""

_base_ = ["_base_/sam_nano.py"]

data_root = "output/synthcrowd"
iterations = 1200
learning_rate = 1e-3
ground_truth = dict(type="PeopleDataset", images=data_root)

model = dict(
    checkpoint="output/nano/sam2-nano-base.safetensors",
    trainable="all",
    cache=None,
    # With fewer corrections than in fine-tuning it sees more people in the same time. Several first points teach it
    # the meaning of several points, which SAM 2 learns from its corrections.
    sampler=dict(type="MaskRefine", corrections=1, ground_truth_probability=0.1, first_points=4),
    starts=0.5,
    # The IoU is what masks are ranked by, and a mask of few pixels has most of its errors at the outline, which the
    # focal loss hardly counts.
    loss=dict(focal=10.0, dice=3.0, iou=3.0),
    test=dict(prompter=dict(type="MaxVisibility", count=3, threshold=0.6), starts=False),
)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        dataset=dict(
            sources=dict(
                people=dict(dataset=dict(annotations=f"{data_root}/train.json", **ground_truth)),
                pieces=dict(dataset=dict(annotations=f"{data_root}/train_pieces.json", **ground_truth), weight=0.25),
            ),
            min_area=600,
            max_people=4,
            starts=dict(true=0.4, noisy=0.6),
            augment=dict(
                _delete_=True, flip=0.5, rotation=10.0, shear=5.0, brightness=0.2, contrast=0.2, saturation=0.2
            ),
        ),
    ),
)
train_cfg = dict(max_iters=iterations, val_interval=400)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=learning_rate, weight_decay=0.05),
    paramwise_cfg=dict(encoder_rate=0.4),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=200, end=iterations, T_max=iterations - 200, eta_min_ratio=0.02
    ),
]
default_hooks = dict(checkpoint=dict(interval=100))
custom_hooks = [dict(type="EMAHook", momentum=0.002)]
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate, ground_truth
