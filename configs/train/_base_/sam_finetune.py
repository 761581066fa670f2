"""The fine-tuning of SAM on people (paper §4.1), without the model, the data, and the length."""

_base_ = ["runtime.py"]

default_scope = "mmengine"
custom_imports = dict(
    imports=[
        "bmp.training.loops",
        *(f"bmp.training.segmenter.{name}" for name in ("data", "model", "optim", "validation")),
    ]
)
# Each process draws points and augmentations of its own.
randomness = dict(seed=0, diff_rank_seed=True)

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="SAM2Parameters",
    optimizer=dict(type="AdamW", lr=5e-6, weight_decay=0.1),
    clip_grad=dict(max_norm=0.1),
    # With fewer than 8 GPUs, a higher number keeps the effective batch size.
    accumulative_counts=1,
)

val_evaluator = dict(type="SegmAP")
val_cfg = dict()
custom_hooks = []
