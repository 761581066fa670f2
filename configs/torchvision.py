"""What a base install can run, on torch and torchvision alone: Mask R-CNN and Keypoint R-CNN, 423 MB of weights.

It lacks prompted masks, which are the detector's own, and a network that tells visibility, for which the score stands
in. So the second round finds whom the first missed, and refines nobody's mask.
"""

_base_ = ["_base_/bmp.py"]

pipeline = dict(
    detector=dict(type="TorchvisionDetector", checkpoint="maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"),
    pose=dict(type="TorchvisionPose", checkpoint="keypointrcnn_resnet50_fpn_coco-fc266e95.pth"),
    segmenter=dict(type="DetectedMasks"),
)
