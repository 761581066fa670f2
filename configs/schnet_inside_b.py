"""The paper's pipeline with body parts by SCHNet inside SAM 1's ViT-B, on a crop of each person: slow.

No weights are published: docs/parts.md says how to train them. Needs the extra "parsing".
"""

_base_ = ["bmp_v2.py"]

pipeline = dict(
    parts=dict(
        type="SAMCLIPCropParser",
        model="inside_b",
        checkpoint="output/train/parts_inside_b/parts-inside-b.safetensors",
    ),
)
