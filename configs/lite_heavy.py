"""lite.py with the heavy landmark network (28 MB) for poses and masks: slower, and on some photos better poses."""

_base_ = ["lite.py"]

pipeline = dict(
    pose=dict(weights="mediapipe/pose_landmark_heavy.tflite"),
    segmenter=dict(weights="mediapipe/pose_landmark_heavy.tflite"),
)
