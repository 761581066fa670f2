"""ProbPose-s: ViT-S, COCO's 17 keypoints with presence, visibility and expected OKS, without masks.

Its maps are decoded by their expected OKS, the location where a prediction would do best over the whole map.
"""

_base_ = ["_base_/topdown.py"]

model = dict(
    backbone=dict(arch=dict(embed_dims=384, num_layers=12, num_heads=12, feedforward_channels=1536)),
    head=dict(
        type="ProbabilisticHeatmapHead",
        in_channels=384,
        out_channels=17,
        decoder=dict(type="OKSHeatmap", decoder="expected_oks"),
    ),
)
