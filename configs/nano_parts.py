"""The nano preset with body parts: a parser on the levels of SAM nano, which segmenter and parser share.

Trained on drawn crowds alone, as nano.py; not for photos. The image encoder has learnt parts itself, see docs/parts.md.
"""

_base_ = ["nano.py"]

pipeline = dict(
    shared=dict(
        encoder=dict(type="SAM2Encoder", model="models/sam2_nano.yaml", checkpoint="nano/sam-pose2seg-nano.safetensors")
    ),
    encoder="encoder",
    segmenter=dict(segmenter=dict(encoder="encoder")),
    parts=dict(
        type="SAMCLIPParser", model="nano", checkpoint="nano/parts-nano.safetensors", encoder="encoder", grid=(64, 48)
    ),
)
