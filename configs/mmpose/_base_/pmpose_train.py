"""The training of PMPose on COCO, MPII and AIC together, as published, without the network, whose size a config adds.

It starts from MaskPose of the same size and learns the head alone: the backbone is frozen, the branches for presence,
visibility and expected OKS learn from its features, the branch of the error does not learn. Optimizer, schedule,
batches, the shares of the three data sets and augmentations are those of the release, all numbers for one process.

Three things differ. The best checkpoint is chosen on a held-out part of the training set, the release's on COCO
val2017. The masks of people in MPII and AIC were made with SAM and are not published: without a segmentation in the
file the box stands in. And what the edges' blackout hides is described less exactly than it was done.
"""

_base_ = ["mmpose::_base_/default_runtime.py"]

custom_imports = dict(
    imports=["bmp.plugins.mmpose", "bmp.training.pose", "mmpose.engine.optim_wrappers.layer_decay_optim_wrapper"],
    allow_failed_imports=False,
)
data_root = "data"

input_size = (192, 256)
codec = dict(type="PMPoseHeatmap", input_size=input_size, heatmap_size=(48, 64))
train_pipeline = [
    dict(type="PMPoseKeypoints"),
    dict(type="LoadImage"),
    dict(type="LoadPersonMask", without_mask="box"),
    dict(type="MaskNoise", lost=0.5, won=0.1),
    dict(type="FlipPerson"),
    dict(type="EdgesBlackout", prob=0.2, mask_ratio_range=(0.1, 0.3), context_size=1.5),
    dict(type="PatchesBlackout", prob=0.1, grid_size=(8, 6), mask_ratio=0.2),
    dict(type="GetBBoxCenterScale"),
    dict(type="RandomHalfBody"),
    dict(type="RandomBBoxTransform"),
    dict(type="MaskConditioning"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=True),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
val_pipeline = [
    dict(type="PMPoseKeypoints"),
    dict(type="LoadImage"),
    dict(type="LoadPersonMask", without_mask="box"),
    dict(type="GetBBoxCenterScale"),
    dict(type="MaskConditioning"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=True),
    dict(type="PackPoseInputs"),
]
batch_size = 128
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    # A fixed share of each batch, 36 of COCO, 5 of MPII and 87 of AIC: the numbers of their people.
    sampler=dict(type="MultiSourceSampler", batch_size=batch_size, source_ratio=[149813, 22246, 378352], shuffle=True),
    dataset=dict(
        type="CombinedDataset",
        # The metainfo of the combination is not used: each person has the name of its data set.
        metainfo=dict(from_file="configs/_base_/datasets/coco.py"),
        datasets=[
            dict(
                type="PeopleKeypoints",
                data_root=f"{data_root}/coco/",
                ann_file="annotations/person_keypoints_train2017.json",
                data_prefix=dict(img="train2017/"),
                part="rest",
            ),
            dict(
                type="MpiiDataset",
                data_root=f"{data_root}/mpii/",
                ann_file="annotations/mpii_train.json",
                data_prefix=dict(img="images/"),
            ),
            dict(
                type="AicDataset",
                data_root=f"{data_root}/aic/",
                ann_file="annotations/aic_train.json",
                data_prefix=dict(
                    img="ai_challenger_keypoint_train_20170902/keypoint_train_images_20170902/",
                ),
            ),
        ],
        pipeline=train_pipeline,
    ),
)
train_cfg = dict(max_epochs=210, val_interval=1)
auto_scale_lr = dict(base_batch_size=batch_size)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.1),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(),  # a config adds num_layers and layer_decay_rate
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", begin=0, end=500, start_factor=0.001, by_epoch=False),
    dict(type="MultiStepLR", begin=0, end=210, milestones=[170, 200], gamma=0.1, by_epoch=True),
]
default_hooks = dict(checkpoint=dict(interval=1, save_best="coco/AP", rule="greater", max_keep_ckpts=2))
visualizer = dict(type="AnyNumPyPoseVisualizer")

# On 2 % of the training images, which training never sees: val2017 is a benchmark, and a checkpoint chosen on it has
# seen it. People and masks as labelled; the AP of the whole pipeline on val2017, with detections, is bmp_v2_coco.py's.
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="PeopleKeypoints",
        data_root=f"{data_root}/coco/",
        ann_file="annotations/person_keypoints_train2017.json",
        data_prefix=dict(img="train2017/"),
        part="held_out",
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
val_truth = f"{data_root}/coco/annotations/person_keypoints_train2017.json"
val_evaluator = [
    dict(
        type="HeldOutCocoMetric",
        ann_file=val_truth,
        score_mode="keypoint",
        nms_mode="none",
        # COCO's keypoints are the first 17 of the 23.
        pred_converter=dict(type="KeypointConverter", num_keypoints=17, mapping=[(i, i) for i in range(17)]),
    ),
    dict(type="ExOKSMetric", ann_file=val_truth, held_out=0.02),
]
test_dataloader = val_dataloader
test_evaluator = val_evaluator
# These were shorthands; as entries they could be overridden without any effect.
del input_size, codec, train_pipeline, val_pipeline, val_truth, batch_size
