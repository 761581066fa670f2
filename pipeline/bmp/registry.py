"""One registry for each role a config can fill; scope "bmp". Knows names, not how a pipeline is put together."""

from __future__ import annotations

from mmengine.registry import Registry

DETECTORS = Registry("detector", scope="bmp", locations=["bmp.detectors"])
POSES = Registry("pose estimator", scope="bmp", locations=["bmp.poses"])
SEGMENTERS = Registry("segmenter", scope="bmp", locations=["bmp.segmenters"])
ENCODERS = Registry("encoder", scope="bmp", locations=["bmp.models.sam2_encoder"])
PROMPTERS = Registry("prompter", scope="bmp", locations=["bmp.segmenters.prompting"])
NEGATIVES = Registry("negative points", scope="bmp", locations=["bmp.segmenters.prompting"])
BOX_PROMPTS = Registry("box prompt", scope="bmp", locations=["bmp.segmenters.prompting"])
POINT_SAMPLERS = Registry("point sampler", scope="bmp", locations=["bmp.segmenters.point_sampling"])
PARSERS = Registry("part parser", scope="bmp", locations=["bmp.parsers"])
SUPPRESSORS = Registry("suppressor", scope="bmp", locations=["bmp.suppression"])
TRACKERS = Registry("point tracker", scope="bmp", locations=["bmp.trackers"])
IDENTITIES = Registry("identities", scope="bmp", locations=["bmp.tracking.identities"])
TRACK_PROMPTERS = Registry(
    "track prompter",
    scope="bmp",
    locations=["bmp.segmenters.tracked", "bmp.segmenters.sam_pt", "bmp.segmenters.sam2_memory"],
)
OVERLAP_RULES = Registry("overlap rule", scope="bmp", locations=["bmp.suppression"])
PAINT_RULES = Registry("paint rule", scope="bmp", locations=["bmp.suppression"])
# Each module by itself: importing one data set loads no other.
DATASETS = Registry(
    "dataset",
    scope="bmp",
    locations=[
        f"bmp.datasets.{name}"
        for name in (
            "people",
            "held_out",
            "ochuman",
            "coco",
            "cihp",
            "synthcrowd",
            "parsing",
            "keypoint_benchmarks",
            "mpii",
        )
    ],
)
VIDEO_DATASETS = Registry(
    "dataset of videos",
    scope="bmp",
    locations=[
        f"bmp.datasets.{name}" for name in ("synthcrowd_video", "object_videos", "youtube_vis", "mots", "posetrack")
    ],
)
