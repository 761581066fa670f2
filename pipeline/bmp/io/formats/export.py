"""Writes a video's people into a folder in the formats that other programs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bmp.errors import UserError, choices
from bmp.io.atomic import writing
from bmp.io.formats import FORMATS
from bmp.io.formats.coco_video import write_coco
from bmp.io.formats.mot_challenge import write_boxes, write_mots
from bmp.io.formats.posetrack import write_poses
from bmp.io.formats.video_rows import VideoRows
from bmp.io.formats.youtube_vis import write_results
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet


def export(
    folder: Path,
    video: VideoRows,
    formats: Sequence[str] = tuple(FORMATS),
    *,
    keypoints: KeypointSet = COCO_KEYPOINTS,
    info: Mapping[str, object] | None = None,
) -> list[Path]:
    """Write one video in each of the formats and return the files.

    Args:
        folder: made where it does not exist.
        video: what was found.
        formats: of ``FORMATS``.
        keypoints: what those of the people mean.
        info: for COCO's ``info``.

    Raises:
        UserError: for a format that there is not, and a folder that cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"there is no format {name!r}; {choices(name, FORMATS)}")
    files = {name: folder / path for name, path in FORMATS.items()}
    for name, suffix in (("mots", "txt"), ("mot", "txt"), ("posetrack", "json")):
        files[name] /= f"{video.name}.{suffix}"
    for name in formats:
        with writing(files[name].parent):
            files[name].parent.mkdir(parents=True, exist_ok=True)
    if "coco" in formats:
        write_coco(files["coco"], [video], keypoints=keypoints, info=info)
    if "vis" in formats:
        write_results(files["vis"], [video])
    if "mots" in formats:
        write_mots(files["mots"], video)
    if "mot" in formats:
        write_boxes(files["mot"], video)
    if "posetrack" in formats:
        write_poses(files["posetrack"], video, keypoints)
    return [files[name] for name in FORMATS if name in formats]
