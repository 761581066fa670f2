"""nano.py with one image encoder for poses and masks: SAMP nano in place of PMPose nano.

After the abstract of SAMP (ICME 2024); all beyond it is a reconstruction. A person's pose costs a small network on what
the segmenter's encoder has seen of the whole image, and not one of its own. Like all nano networks it has seen drawn
people only.
"""

_base_ = ["nano.py"]

_sam = dict(model="models/sam2_nano.yaml", checkpoint="nano/sam-pose2seg-nano.safetensors")

pipeline = dict(
    shared=dict(sam=dict(type="SAM2Encoder", **_sam)),
    encoder="sam",
    pose=dict(
        _delete_=True,
        type="SAMPose",
        encoder="sam",
        model="models/samp_nano.py",
        checkpoint="nano/samp-nano.safetensors",
    ),
    segmenter=dict(segmenter=dict(encoder="sam")),
)
# This was a shorthand; as an entry it could be overridden without any effect.
del _sam
