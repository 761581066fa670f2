"""The common part of the five fine-tunings of SAM nano: its base, and people with keypoints found by PMPose nano."""

_base_ = ["sam_nano.py"]

data_root = "output/synthcrowd"
iterations = 500
learning_rate = 2e-4

model = dict(
    checkpoint="nano/sam2-nano.safetensors",
    test=dict(prompter=dict(type="MaxVisibility", count=3)),
)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        dataset=dict(
            sources=dict(
                synthcrowd=dict(
                    dataset=dict(type="PeopleDataset", annotations=f"{data_root}/train.json", images=data_root),
                    keypoints=f"{data_root}/keypoints/train.json",
                )
            ),
            min_area=32,
        )
    ),
)
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=learning_rate, weight_decay=0.1))
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=iterations, T_max=iterations, eta_min_ratio=0.1)
]
val_dataloader = dict(dataset=dict(keypoints=f"{data_root}/keypoints/val.json"))
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate
