"""Small models (9 MB) that run anywhere in about half a second an image and need no model hub.

Good for trying the program and for photos of a few separable people. Poor on entangled or distant people: for
those take bmp_v2.py. No benchmark numbers are claimed for it.
"""

_base_ = ["_base_/bmp.py"]

pipeline = dict(
    detector=dict(type="LiteDetector"),
    pose=dict(type="LitePoseEstimator"),
    segmenter=dict(type="LiteSegmenter"),
)
