"""Trains RTMDet-Ins nano on SynthCrowd, with people painted out as in the loop."""

_base_ = ["_base_/runtime.py", "_base_/synthcrowd.py", "models/rtmdet_ins_nano.py"]

default_scope = "mmdet"
custom_imports = dict(imports=["bmp.training.loops", "bmp.training.detector"])
data_root = "output/synthcrowd"

iterations = 7000
batch_size = 8
learning_rate = 2e-3
people = dict(
    type="CocoDataset",
    metainfo=dict(classes=("person",)),
    data_root=data_root,
    data_prefix=dict(img=""),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="PaintOutPeople", prob=0.5),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=(320, 320), ratio_range=(0.7, 1.4), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(320, 320), recompute_bbox=True, allow_negative_crop=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(4, 4), keep_empty=False),
    dict(type="Pad", size=(320, 320), pad_val=dict(img=(114, 114, 114))),
    dict(type="PackDetInputs"),
]
# Synchronised batch norm exists for GPUs only.
model = dict(use_syncbn=False, bbox_head=dict(type="QuickRTMDetInsHead"))
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    sampler=dict(type="PositionSampler"),
    dataset=dict(type="PositionedDataset", dataset=dict(ann_file="train.json", pipeline=train_pipeline, **people)),
)
train_cfg = dict(type="ResumableTrainLoop", max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, weight_decay=0.05),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=iterations // 3,
        end=iterations,
        T_max=iterations - iterations // 3,
        eta_min=learning_rate / 50,
    ),
]
custom_hooks = [
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.002, gamma=200, update_buffers=True, priority=49),
    dict(type="ComputeOptions", dtype="auto", channels_last=True),
]

val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        ann_file="val.json",
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
        **people,
    ),
)
val_evaluator = dict(type="CocoMetric", ann_file=f"{data_root}/val.json", metric=["bbox", "segm"])
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
# These were shorthands; as entries they could be overridden without any effect.
del iterations, batch_size, learning_rate, people, train_pipeline
