"""Fine-tunes SAM 2.1 b+ to SAM-pose2seg with the paper's recipe, on eight GPUs:

    torchrun --nproc-per-node 8 -m bmp.training train/sam_pose2seg_b+.py --set data_root=DIR

DIR contains coco/ and cihp/ as these data sets are published, and keypoints/ with the output of python -m
bmp.inference.keypoints for each (coco_train2017.json, cihp_train.json): ProbPose's, as in the paper. The best
checkpoint is chosen on 2 % of COCO train2017 that training never sees, not on val2017, which is a benchmark. On one GPU
add --set optim_wrapper.accumulative_counts=8. For averaged weights add --set 'custom_hooks=[{"type": "EMAHook"}]'. For
curves: tensorboard --logdir output/train.
"""

_base_ = ["_base_/sam_finetune.py"]

data_root = "data"
epochs = 15
coco = dict(type="COCO", root=f"{data_root}/coco", split="train2017")

model = dict(
    type="PoseSAM",
    model="sam2.1_hiera_b+",
    checkpoint="sam2.1_hiera_base_plus.pt",
    trainable="decoder",
    sampler=dict(type="PoseMaskRefine", corrections=7, ground_truth_probability=0.1),
    loss=dict(focal=20.0, dice=1.0, iou=1.0, object_score=1.0),
    test=dict(prompter=dict(type="MaxVisibility", count=3)),
)

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="PoseMaskDataset",
        sources=dict(
            coco=dict(
                dataset=dict(type="HeldOut", dataset=coco, part="rest"),
                keypoints=f"{data_root}/keypoints/coco_train2017.json",
                weight=1.0,
            ),
            cihp=dict(
                dataset=dict(type="CIHP", root=f"{data_root}/cihp", split="train"),
                keypoints=f"{data_root}/keypoints/cihp_train.json",
                weight=1.0,
            ),
        ),
        size=1024,
        max_people=3,
        min_area=10,
        augment=dict(flip=0.5, rotation=25.0, shear=20.0, brightness=0.1, contrast=0.05, saturation=0.05, grey=0.05),
    ),
)
made_by = [
    dict(
        file=f"{data_root}/keypoints/{name}_{split}.json",
        command=f"python -m bmp.inference.keypoints --config keypoints/{name}.py "
        f"--set dataset.root={{data_root}}/{name} --output {{data_root}}/keypoints/{name}_{split}.json",
    )
    for name, split in (("coco", "train2017"), ("cihp", "train"))
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=epochs, eta_min=5e-7, by_epoch=True, convert_to_iter_based=True)
]
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=2, save_best="segm/AP", rule="greater"),
)
log_processor = dict(by_epoch=True)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])

val_dataloader = dict(
    batch_size=4,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="PosedImages",
        dataset=dict(type="HeldOut", dataset=coco, part="held_out"),
        keypoints=f"{data_root}/keypoints/coco_train2017.json",
    ),
)
# These were shorthands; as entries they could be overridden without any effect.
del epochs, coco
