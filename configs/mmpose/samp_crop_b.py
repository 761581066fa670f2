"""Trains SAMP's crop mode on COCO, encoder and adapter, by ViTPose-B's recipe: 512 people a step on all GPUs.

After the abstract of SAMP (ICME 2024); all beyond it is a reconstruction. The encoder starts from SAM's. With
``model.backbone.trained=none`` it stays as it is, with ``model.backbone.trained=4`` its last four blocks learn.
"""

_base_ = ["../models/samp_crop_b.py", "_base_/pmpose_train.py"]

custom_imports = dict(
    imports=[
        "bmp.models.pmpose",
        "bmp.models.samp_crops",
        "bmp.plugins.mmpose",
        "bmp.training.pose",
        "mmpose.engine.optim_wrappers.layer_decay_optim_wrapper",
    ],
    allow_failed_imports=False,
)
data_root = "data"
input_size = (192, 256)
model = dict(backbone=dict(checkpoint="sam_vit_b_01ec64.pth", drop_path_rate=0.3))
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPersonMask", without_mask="box"),
    dict(type="NoisyMask"),
    dict(type="FlipPerson"),
    dict(type="GetBBoxCenterScale"),
    dict(type="RandomHalfBody", prob=0.3),
    dict(type="RandomBBoxTransform"),
    dict(type="MaskConditioning"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=True),
    dict(type="GenerateTarget", encoder={{_base_.model.head.decoder}}),
    dict(type="PackPoseInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadPersonMask", without_mask="box"),
    dict(type="GetBBoxCenterScale"),
    dict(type="MaskConditioning"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=True),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(
    batch_size=64,
    sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True),
    dataset=dict(
        _delete_=True,
        type="PeopleKeypoints",
        data_root=f"{data_root}/coco/",
        ann_file="annotations/person_keypoints_train2017.json",
        data_prefix=dict(img="train2017/"),
        part="rest",
        pipeline=train_pipeline,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(num_layers=12, layer_decay_rate=0.75))
auto_scale_lr = dict(base_batch_size=512)

val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=val_pipeline))
val_evaluator = [
    dict(
        type="HeldOutCocoMetric",
        ann_file=f"{data_root}/coco/annotations/person_keypoints_train2017.json",
        score_mode="keypoint",
        nms_mode="none",
    ),
    dict(type="ExOKSMetric", ann_file=f"{data_root}/coco/annotations/person_keypoints_train2017.json", held_out=0.02),
]
test_evaluator = val_evaluator
# These were shorthands; as entries they could be overridden without any effect.
del input_size, train_pipeline, val_pipeline
