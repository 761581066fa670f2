"""What every pipeline starts from; a preset adds its detector, pose estimator and segmenter."""

pipeline = dict(
    rounds=2,
    suppressor=dict(type="OKSSuppressor", threshold=0.8),
)
