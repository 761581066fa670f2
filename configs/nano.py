"""Small networks, trained on the drawn crowds of SynthCrowd alone; they come with the package.

For experiments with the loop itself on any machine, and as a start for training. Not for photos: the networks have
never seen one. SAM-pose2seg nano is prompted with three keypoints and with the detector's mask, since points alone are
not enough for an encoder of its size (nano_points.py). Only what is near the skeletons is painted out: where detector
and segmenter draw two people as one, the second then stays visible to the next round.
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
    segmenter=dict(
        type="MaskPromptedSegmenter",
        start=dict(type="DetectedMasks"),
        segmenter=dict(
            type="SAM2Segmenter",
            model="models/sam2_nano.yaml",
            checkpoint="nano/sam-pose2seg-nano.safetensors",
            prompter=dict(type="MaxVisibility", count=3),
            # The decoder's masks have 80 x 80 pixels here, in which an arm is as small as a speck is at SAM's size.
            hole_area=2,
            speck_area=4,
        ),
    ),
    paint=dict(type="NearSkeleton"),
)

# On drawn videos all points of a person, corrected once, give better masks between looks than three joints do: those
# slide off their limbs, and a mask cut to the skeleton goes with them. Every other mask is moved with its points: half
# the encodings, and nearly as good. Looking twice as often wins a point of HOTA on val with these prompts, which is
# chance, and costs twice the looks.
video = dict(prompts=dict(_delete_=True, type="SAMPTPrompts", refinements=1), keyframe_every=12, mask_every=2)

# Points of other objects as negative ones, as SAM-PT has them, cost four points of J&F in the first five videos of val.
sam_pt = dict(others=False)

dataset = dict(type="SynthCrowd", split="test-hard")
