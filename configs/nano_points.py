"""nano.py with SAM-pose2seg nano as the paper prompts it: with three keypoints and nothing else."""

_base_ = ["nano.py"]

pipeline = dict(
    segmenter=dict(
        _delete_=True,
        type="SAM2Segmenter",
        model="models/sam2_nano.yaml",
        checkpoint="nano/sam-pose2seg-nano.safetensors",
        prompter=dict(type="MaxVisibility", count=3),
        # The decoder's masks have 80 x 80 pixels here, in which an arm is as small as a speck is at SAM's size.
        hole_area=2,
        speck_area=4,
    ),
)
