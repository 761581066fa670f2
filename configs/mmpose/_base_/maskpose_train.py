"""The training of MaskPose on COCO, MPII and AIC together, as published, without the network.

Differs from PMPose's in what learns, all of it, from plain Gaussian maps; and in that nothing is blacked out. The best
checkpoint is chosen on a held-out part of the training set, the release's on COCO val2017.
"""

_base_ = ["pmpose_train.py"]

data_root = "data"
input_size = (192, 256)
train_pipeline = [
    dict(type="PMPoseKeypoints"),
    dict(type="LoadImage"),
    dict(type="LoadPersonMask", without_mask="box"),
    dict(type="MaskNoise", lost=0.5, won=0.1),
    dict(type="FlipPerson"),
    dict(type="GetBBoxCenterScale"),
    dict(type="RandomHalfBody"),
    dict(type="RandomBBoxTransform"),
    dict(type="MaskConditioning"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=True),
    dict(type="GenerateTarget", encoder=dict(type="UDPHeatmap", input_size=input_size, heatmap_size=(48, 64), sigma=2)),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(val_interval=5)
# It says nothing of presence, so there is no Ex-OKS.
val_evaluator = [
    dict(
        type="HeldOutCocoMetric",
        ann_file=f"{data_root}/coco/annotations/person_keypoints_train2017.json",
        score_mode="keypoint",
        nms_mode="none",
        # COCO's keypoints are the first 17 of the 23.
        pred_converter=dict(type="KeypointConverter", num_keypoints=17, mapping=[(i, i) for i in range(17)]),
    ),
]
test_evaluator = val_evaluator
# These were shorthands; as entries they could be overridden without any effect.
del input_size, train_pipeline
