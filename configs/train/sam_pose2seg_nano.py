r"""Fine-tunes SAM nano to the SAM-pose2seg nano that comes with the package, which nano.py runs.

The paper's recipe with two additions that a network of this size needs: several keypoints at once, and masks as first
prompts. Half of the people start from a mask, so the same weights work with one (nano.py) and without (nano_points.py):
from the detector's, from the ground truth, or from that with errors. The weights of the package saw the first 2000
scenes of the split.

    python -m bmp.training train/sam_pose2seg_nano.py \
        --export pipeline/bmp/checkpoints/nano/sam-pose2seg-nano.safetensors
"""

_base_ = ["_base_/sam_nano_finetune.py"]

iterations = 900
learning_rate = 3e-4

model = dict(
    sampler=dict(type="PoseMaskRefine", corrections=2, ground_truth_probability=0.1, first_points=3),
    starts=0.5,
    loss=dict(focal=10.0, dice=3.0, iou=3.0),
)
train_dataloader = dict(dataset=dict(dataset=dict(starts=dict(true=0.2, noisy=0.3))))
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(optimizer=dict(lr=learning_rate))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=iterations, T_max=iterations - 50, eta_min_ratio=0.05),
]
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate
