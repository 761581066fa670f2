"""What every pipeline starts from; a preset adds its detector, pose estimator and segmenter."""

pipeline = dict(
    rounds=2,
    suppressor=dict(type="OKSSuppressor", threshold=0.8),
)

# How sure a mask is when masks are evaluated: "detection_times_iou", "detection" or "iou" (predicted).
evaluation = dict(segm_score="detection_times_iou")
