"""The base of every pipeline; a preset adds its detector, pose estimator and segmenter."""

pipeline = dict(
    rounds=2,
    suppressor=dict(type="OKSSuppressor", threshold=0.8, keypoint_threshold=0.5),
)

# The score of a mask in an evaluation: "detection_times_iou", "detection" or "iou" (predicted).
evaluation = dict(segm_score="detection_times_iou")
