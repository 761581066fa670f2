"""The base of every pipeline; a preset adds its detector, pose estimator and segmenter."""

pipeline = dict(
    rounds=2,
    suppressor=dict(type="OKSSuppressor", threshold=0.8, keypoint_threshold=0.5),
)

# The loop over videos: between two looks people are followed by points on them.
video = dict(
    tracker=dict(type="LucasKanade"),
    prompts=dict(type="TrackedKeypoints", count=3),
    identities=dict(type="Identities", threshold=0.3, lead=0.1, same_look=0.85),
    keyframe_every=6,
    mask_every=1,
    rounds=1,
    patience=24,
)

# SAM-PT, which follows any objects: points on each, beside it, and corrections of each answer.
sam_pt = dict(tracker=dict(type="LucasKanade"), positives=16, negatives=1, refinements=12)

# bmp label: what each worker on Ray takes (num_gpus None: a whole GPU where there are any; a share such as 0.25 lets
# workers share one), photos in a shard, and photos and pixels that go through the networks together.
label = dict(workers=None, num_cpus=1, num_gpus=None, threads=None, photos=64, batch_photos=8, batch_pixels=4_000_000)

# The score of a mask in an evaluation: "detection_times_iou", "detection" or "iou" (predicted).
evaluation = dict(segm_score="detection_times_iou")
