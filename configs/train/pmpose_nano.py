"""Trains PMPose nano on SynthCrowd, on people with masks that have a detector's errors."""

_base_ = ["_base_/runtime.py", "_base_/synthcrowd.py", "../models/pmpose_nano.py"]

default_scope = "mmpose"
custom_imports = dict(imports=["bmp.training.loops", "bmp.models.pmpose", "bmp.training.pose"])
data_root = "output/synthcrowd"

iterations = 14000
restart = 6000
batch_size = 32
learning_rate = 1e-3
people = dict(type="PeopleKeypoints", data_root=data_root)
codec = {{_base_.model.head.decoder}}
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPersonMask"),
    dict(type="NoisyMask"),
    dict(type="FlipPerson"),
    dict(type="GetBBoxCenterScale"),
    # These two move labelled keypoints out of the crop, from which the presence is learned.
    dict(type="RandomHalfBody", prob=0.1),
    dict(type="RandomBBoxTransform", shift_prob=0.5, scale_factor=(0.7, 1.3), rotate_factor=30, rotate_prob=0.3),
    dict(type="MaskConditioning"),
    dict(type="TopdownAffine", input_size=(96, 128), use_udp=True),
    # Relative to the crop, which is far smaller than the image.
    dict(type="mmpretrain.ColorJitter", brightness=0.3, contrast=0.3, saturation=0.3, backend="cv2"),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPersonMask"),
    dict(type="GetBBoxCenterScale"),
    dict(type="MaskConditioning"),
    dict(type="TopdownAffine", input_size=(96, 128), use_udp=True),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    sampler=dict(type="PositionSampler"),
    dataset=dict(type="PositionedDataset", dataset=dict(ann_file="train.json", pipeline=train_pipeline, **people)),
)
train_cfg = dict(type="ResumableTrainLoop", max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=dict(pos_embed=dict(decay_mult=0.0))),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    # At the full rate again from the restart on: until then it fits its own scenes no better than others.
    dict(
        type="CosineRestartLR",
        by_epoch=False,
        begin=200,
        end=iterations,
        periods=[restart - 200, iterations - restart],
        restart_weights=[1, 1],
        eta_min_ratio=0.01,
    ),
]
default_hooks = dict(checkpoint=dict(interval=100))
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.002, gamma=200, update_buffers=True)]

val_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(ann_file="val.json", test_mode=True, pipeline=val_pipeline, **people),
)
val_evaluator = dict(type="CocoMetric", ann_file=f"{data_root}/val.json", score_mode="keypoint", nms_mode="none")
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
# These were shorthands; as entries they could be overridden without any effect.
del iterations, restart, batch_size, learning_rate, people, codec, train_pipeline, val_pipeline
