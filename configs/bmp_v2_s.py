"""bmp_v2.py with PMPose-s."""

_base_ = ["bmp_v2.py"]

pipeline = dict(pose=dict(config="models/pmpose_s.py", checkpoint="PMPose/PMPose-s-1.0.0.pth"))
