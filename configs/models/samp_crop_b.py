"""SAMP in the crop mode: SAM's ViT-B on 256 x 192 crops with the detail-aware adapter; COCO's 17 keypoints.

After the abstract of SAMP (ICME 2024); all beyond it is a reconstruction. There are no published weights.
"""

_base_ = ["_base_/pmpose.py"]

model = dict(
    backbone=dict(_delete_=True, type="SAMPBackbone", model="vit_b", taps=(2, 5, 8, 11), channels=256),
    head=dict(
        type="SAMPHead",
        in_channels=256,
        out_channels=17,
        score_loss=dict(type="SparsemaxLoss", loss_weight=0.5),
        decoder=dict(decoder="expected_oks"),
    ),
)
