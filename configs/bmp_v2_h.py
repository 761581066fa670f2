"""bmp_v2.py with PMPose-h."""

_base_ = ["bmp_v2.py"]

pipeline = dict(pose=dict(config="models/pmpose_h.py", checkpoint="PMPose/PMPose-h-1.0.0.pth"))
