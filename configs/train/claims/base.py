"""Trains the base of the claims: SAM nano's decoder on objects of all kinds, from one first point, as SAM 2 was.

    python benchmarks/claims.py --only recipes

Nothing is specific to people: they are objects among parts and things, all points are drawn from masks, and no keypoint
is read. The decoder and the prompt encoder start from random weights; the image encoder is the package's, frozen here
and in all that is fine-tuned from it, so whatever it knows helps all of them alike.
"""

_base_ = ["../sam_nano_base.py"]

data_root = "output/synthcrowd"

model = dict(
    checkpoint="nano/sam2-nano.safetensors",
    fresh=["sam_prompt_encoder", "sam_mask_decoder"],
    sampler=dict(corrections=3, first_points=1),
    test=dict(prompter=dict(_delete_=True, type="MaxVisibility", count=1)),
)
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
