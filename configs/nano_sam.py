"""nano.py with the masks of SAM-pose2seg nano: the whole loop of the paper with networks that come with the package.

Its masks are less exact than those of nano.py: SAM learns slowly, and this one has had an afternoon on a laptop.
"""

_base_ = ["nano.py"]

pipeline = dict(
    segmenter=dict(
        type="SAM2Segmenter",
        model="models/sam2_nano.yaml",
        checkpoint="nano/sam-pose2seg-nano.safetensors",
        prompter=dict(type="MaxVisibility", count=3),
        # A mask of the decoder has 64 x 64 pixels here: what is a speck at SAM's size is an arm.
        hole_area=2,
        speck_area=4,
    ),
)
