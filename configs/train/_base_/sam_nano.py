"""The common part of the trainings of SAM nano: iterations on SynthCrowd on one core, and the evaluation of masks."""

_base_ = ["sam_finetune.py", "synthcrowd.py"]

data_root = "output/synthcrowd"

model = dict(
    type="PoseSAM",
    model="models/sam2_nano.yaml",
    trainable="decoder",
    cache="output/train/sam_nano_embeddings",
    # A pixel of the decoder's masks is four of the input's.
    loss=dict(stride=2),
    # The decoder's masks have 80 x 80 pixels here, in which an arm is as small as a speck is at SAM's size.
    test=dict(hole_area=2, speck_area=4),
)
train_dataloader = dict(
    num_workers=1,
    sampler=dict(type="PositionSampler"),
    dataset=dict(type="PositionedDataset", dataset=dict(type="PoseMaskDataset", size=320, max_people=3, augment=None)),
)
train_cfg = dict(type="ResumableTrainLoop")
default_hooks = dict(checkpoint=dict(interval=500))

val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="PosedImages",
        dataset=dict(type="PeopleDataset", annotations=f"{data_root}/val.json", images=data_root),
        limit=200,
    ),
)
