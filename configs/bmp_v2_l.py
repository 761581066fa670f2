"""bmp_v2.py with PMPose-l."""

_base_ = ["bmp_v2.py"]

pipeline = dict(pose=dict(config="models/pmpose_l.py", checkpoint="PMPose/PMPose-l-1.0.0.pth"))
