"""Small models (16 MB) that run anywhere in less than a second an image and need no model hub.

Good for ordinary photos. Poor on entangled or distant people: for those take bmp_v2.py. docs/lite.md has what it
finds and what it misses. lite_heavy.py may have better poses and takes longer.
"""

_base_ = ["_base_/bmp.py"]

min_score = 0.35  # three of four boxes from here on are people, on the photos of docs/lite.md

pipeline = dict(
    rounds=1,  # a second round finds more phantoms than people, see docs/lite.md
    detector=dict(type="LiteDetector"),
    pose=dict(type="LitePoseEstimator"),
    segmenter=dict(type="LiteSegmenter"),
    # The detector has dropped duplicates; a lower threshold drops neighbours whom the network gives the same pose.
    suppressor=dict(threshold=0.99, keypoint_threshold=0.3, counted="all"),
)
