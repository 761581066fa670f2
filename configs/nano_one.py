"""nano_samp.py with one image encoder for everything: people, too, are found in the features that it has of the image.

A round of the loop costs small heads only. People of round 1 are not painted out of the picture: their masks' places in
the features are replaced by a fill that was learned, so the image is encoded once for both rounds. An experiment: it
finds fewer people than nano.py, see docs/samp.md. Like all nano networks these have seen drawn people only.
"""

_base_ = ["nano_samp.py"]

pipeline = dict(
    detector=dict(
        _delete_=True,
        type="SAMDetector",
        encoder="sam",
        model="models/people_head_nano.py",
        checkpoint="nano/people-head-nano.safetensors",
        score_threshold=0.25,
        nms_iou=0.3,
    ),
)
