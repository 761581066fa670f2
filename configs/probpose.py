"""bmp_v2.py with ProbPose-s, whose keypoints the paper prompts SAM with; it needs no masks of people.

For the paper's numbers, for keypoints to fine-tune with (keypoints/coco.py), and where boxes are given.
"""

_base_ = ["bmp_v2.py"]

pipeline = dict(
    pose=dict(config="models/probpose_s.py", checkpoint="ProbPose-s.pth", alpha=0.0),
)
