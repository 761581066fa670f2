"""The common part of the claims' fine-tunings: one base, the same steps, rates, scenes and batches for all of them.

Losses are SAM's; corrections, where a recipe has any, are the paper's seven. The base's path is given by
benchmarks/claims.py.
"""

_base_ = ["../../_base_/sam_nano_finetune.py"]

iterations = 3000
learning_rate = 2e-4

model = dict(checkpoint="output/claims/weights/base.safetensors")
# Up to six people a step, three of either image: with four images, a core would need a day for all arms.
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(optimizer=dict(lr=learning_rate, fused=True))
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=iterations, T_max=iterations, eta_min_ratio=0.1)
]
# These were shorthands; as entries they could be overridden without any effect.
del iterations, learning_rate
