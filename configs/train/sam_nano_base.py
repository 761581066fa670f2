"""Trains SAM nano's decoder on SynthCrowd's people, their parts, and things, as SAM 2 was on objects of all kinds.

    python -m bmp.training train/sam_nano_base.py --export output/nano/sam2-nano-base.safetensors

It is prompted for any object at a point, so it learns that a point on a sleeve may mean the sleeve or the person. The
encoder is frozen here: it has learnt more from part maps than it would from prompts, and the embedding of an image is
computed once.
"""

_base_ = ["_base_/sam_nano.py"]

data_root = "output/synthcrowd"
iterations = 5000
learning_rate = 1e-3
ground_truth = dict(type="PeopleDataset", images=data_root)

model = dict(
    checkpoint="output/nano/sam2-nano-encoder.safetensors",
    # With fewer corrections than in fine-tuning it sees more objects in the same time. Several first points teach it
    # the meaning of several points, which SAM 2 learns from its corrections.
    sampler=dict(type="MaskRefine", corrections=1, ground_truth_probability=0.1, first_points=4),
    # With SAM's weights of the losses, a decoder that starts from random weights predicts empty masks for a long time.
    loss=dict(focal=5.0, dice=5.0),
    test=dict(prompter=dict(type="MaxVisibility", count=3, threshold=0.6)),
)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        dataset=dict(
            sources=dict(
                pieces=dict(dataset=dict(annotations=f"{data_root}/train_pieces.json", **ground_truth)),
                people=dict(dataset=dict(annotations=f"{data_root}/train.json", **ground_truth), weight=1.0),
            ),
            min_area=300,
        )
    ),
)
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=learning_rate, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=100, end=iterations, T_max=iterations - 100, eta_min_ratio=0.02
    ),
]
custom_hooks = [dict(type="EMAHook", momentum=0.003)]
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate, ground_truth
