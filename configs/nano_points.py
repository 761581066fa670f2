"""nano.py with SAM-pose2seg nano as the paper prompts it: with three keypoints and nothing else."""

_base_ = ["nano.py"]

pipeline = dict(
    segmenter=dict(
        _delete_=True,
        type="SAM2Segmenter",
        model="models/sam2_nano.yaml",
        checkpoint="nano/sam-pose2seg-nano.safetensors",
        prompter=dict(type="MaxVisibility", count=3),
        # A mask of the decoder has 64 x 64 pixels here: what is a speck at SAM's size is an arm.
        hole_area=2,
        speck_area=4,
    ),
)
