"""How SAM is fine-tuned on people (paper §4.1): all but the model, the data, and how long."""

_base_ = ["runtime.py"]

default_scope = "mmengine"
custom_imports = dict(
    imports=[
        "bmp.training.loops",
        *(f"bmp.training.segmenter.{name}" for name in ("data", "model", "optim", "validation")),
    ]
)
# Of several processes none should draw the points and augmentations of another.
randomness = dict(seed=0, diff_rank_seed=True)

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="DecayMatrices",
    optimizer=dict(type="AdamW", lr=5e-6, weight_decay=0.1),
    clip_grad=dict(max_norm=0.1),
    # With fewer GPUs than 8, more of these keep the effective batch.
    accumulative_counts=1,
)

val_evaluator = dict(type="SegmAP")
val_cfg = dict()
custom_hooks = []
