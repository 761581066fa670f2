"""The claims' control: the base trained on for as long as the recipes, with what it was trained with: no keypoints."""

_base_ = ["_base_/finetune.py"]

data_root = "output/synthcrowd"

model = dict(sampler=dict(type="MaskRefine", corrections=7, ground_truth_probability=0.1))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            sources=dict(
                _delete_=True,
                pieces=dict(
                    dataset=dict(type="PeopleDataset", annotations=f"{data_root}/train_pieces.json", images=data_root)
                ),
            )
        )
    )
)
