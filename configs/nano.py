"""Small networks trained from nothing on SynthCrowd, drawn crowds with exact truth; they come with the package.

For experiments with the loop itself on any machine, and as a start for training. Not for photos: the networks have
never seen one. The masks are the detector's, each cut to the neighbourhood of the person's skeleton: painted out, they
leave a second person there whom the detector drew as one with the first.
"""

_base_ = ["_base_/bmp.py"]

pipeline = dict(
    detector=dict(
        type="MMDetDetector",
        config="models/rtmdet_ins_nano.py",
        checkpoint="nano/rtmdet-ins-nano.safetensors",
        score_threshold=0.3,
        nms_iou=0.3,
        batch_size=8,
    ),
    pose=dict(
        type="MMPoseEstimator",
        config="models/pmpose_nano.py",
        checkpoint="nano/pmpose-nano.safetensors",
    ),
    segmenter=dict(type="SkeletonMasks"),
)

dataset = dict(type="SynthCrowd", split="test-hard")
