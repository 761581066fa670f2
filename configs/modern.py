"""Detector, pose estimator and segmenter of transformers, all under Apache-2.0: RF-DETR, ViTPose+ and SAM 2.1.

Needs no OpenMMLab: `pip install -e ".[modern]"` is enough. Masks are prompted with six keypoints spread over the body,
as the paper found best for SAM 2.1 as released. ViTPose+ was trained on whole crops, and sees no masks.
"""

_base_ = ["_base_/bmp.py"]

pipeline = dict(
    detector=dict(type="TransformersDetector", checkpoint="Roboflow/rf-detr-seg-small/model.safetensors"),
    pose=dict(type="TransformersPose", checkpoint="usyd-community/vitpose-plus-base/model.safetensors"),
    segmenter=dict(
        type="TransformersSegmenter",
        checkpoint="facebook/sam2.1-hiera-base-plus/model.safetensors",
        prompter=dict(type="MaxSpread", count=6),
    ),
)
