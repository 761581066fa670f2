"""The paper's pipeline with body parts: SCHNet's modules on the levels of SAM 2.1 b+, refined by CLIP's semantics.

The encoder is shared by segmenter and parser. No weights are published: docs/parts.md says how to prepare CLIP's and to
train the rest. Needs the extra "parsing".
"""

_base_ = ["bmp_v2.py"]

pipeline = dict(
    shared=dict(
        encoder=dict(type="SAM2Encoder", model="sam2.1_hiera_b+", checkpoint="SAM-pose2seg_hiera_b+.pt"),
    ),
    encoder="encoder",
    segmenter=dict(encoder="encoder"),
    parts=dict(
        type="SAMCLIPParser", model="b+", checkpoint="output/train/parts_b+/parts-b+.safetensors", encoder="encoder"
    ),
)
