"""Drawn videos on the disk: frames or films, and ground truth in several formats; does not know how they are made."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from bmp.io.atomic import replacing, writing
from bmp.io.formats.coco_video import write_coco
from bmp.io.formats.mot_challenge import write_boxes, write_mots
from bmp.io.formats.video_rows import FrameRow, PersonRow, RowsFile, VideoRows
from bmp.io.formats.youtube_vis import write_ground_truth
from bmp.io.json_fields import JsonObject
from bmp.io.video import video_writer
from bmp.synthcrowd.files import each, encode, make_room, people_rows
from bmp.synthcrowd.videos import NOBODY, Video, VideoFrame, VideoSettings, plan_video

_Fates = dict[int, list[tuple[int, str, int]]]
"""By person: frame, what is the matter in it, and who is the cause."""


def write_videos(
    folder: Path,
    split: str,
    settings: VideoSettings,
    count: int,
    *,
    seed: int = 0,
    workers: int = 1,
    film: bool = False,
    overwrite: bool = False,
    advance: Callable[[], None] | None = None,
) -> Path:
    """Draw ``count`` videos and write them; the same files for any number of workers.

    Writes for each video ``<split>/<six digits>/<six digits>.jpg``, or one ``<split>/<six digits>.mp4``, and
    ``<split>/<six digits>.jsonl``, a line a frame as in ``people.jsonl``. When all are there: ``<split>.json``, COCO
    with a table of videos, whose entries also tell ``cuts``, ``team``, ``events``, ``camera`` and ``points``, see
    ``about``; ``<split>_vis.json``, labels as of YouTube-VIS; ``<split>_mots/`` and ``<split>_mot/``, a file a video.

    Args:
        folder: created if it does not exist.
        split: name of the files.
        settings: of the videos.
        count: number of videos.
        seed: of all videos.
        workers: processes that draw.
        film: write films, which are a tenth as large and not quite what was drawn, in place of pictures.
        overwrite: whether a split that is there already may be replaced.
        advance: is called after each video.

    Returns the path of the COCO file. Raises ``UserError`` for a split that is there already, for a folder that cannot
    be written, and where films are wanted without PyAV.
    """
    path, frames, vis = folder / f"{split}.json", folder / split, folder / f"{split}_vis.json"
    mots, boxes = folder / f"{split}_mots", folder / f"{split}_mot"
    with writing(folder):
        make_room((path, frames, vis, mots, boxes), overwrite)
        for new in (frames, mots, boxes):
            new.mkdir(parents=True, exist_ok=True)
        entries = []
        for entry in each(partial(_write_video, settings, seed, frames, film), count, workers, chunk=1):
            entries.append(entry)
            if advance:
                advance()
    names = [f"{index:06}" for index in range(count)]
    videos = [
        VideoRows(f"{split}/{name}", settings.size, settings.size, settings.rate, RowsFile(frames / f"{name}.jsonl"))
        for name in names
    ]
    for name, video in zip(names, videos, strict=True):
        write_mots(mots / f"{name}.txt", video)
        write_boxes(boxes / f"{name}.txt", video)
    write_ground_truth(vis, videos)
    info = {
        "description": "SynthCrowd in motion, made by BMP",
        "seed": seed,
        "settings": json.loads(json.dumps(asdict(settings))),
    }
    write_coco(path, videos, info=info, about=entries)
    return path


def to_row(frame: VideoFrame) -> FrameRow:
    """Return the people of a frame as a row of ``people.jsonl``."""
    people = [
        cast("PersonRow", {"track_id": identity, **person})
        for identity, person in zip(frame.ids.tolist(), people_rows(frame.scene), strict=True)
    ]
    return {"frame": frame.index, "time": frame.time, "cut": frame.cut, "people": people}


def about(video: Video, frames: Iterable[VideoFrame]) -> JsonObject:
    """Return what is true of a whole video.

    - ``cuts``: the first frames of other shots. ``team``: whether everybody is dressed alike.
    - ``events``: ``kind`` "hidden" or "outside", who (``person``), the ``first`` and ``last`` frame, and in ``by`` the
      people behind whom somebody was hidden, 0 for a thing. Each lies between two frames in which the person is seen.
    - ``camera``: for each frame the affine map from the world to the picture, six numbers row by row.
    - ``points``: the points that are followed, with ``person`` and ``keypoint``, or none for the background, and
      ``locations``, for each frame x, y and 1 where the point is seen; null in frames of another shot.
    """
    fates: _Fates = {}
    camera, locations, seen = [], [], []
    for frame in frames:
        camera.append(frame.camera.reshape(-1).round(4).tolist())
        locations.append(frame.points)
        seen.append(frame.points_seen)
        for identity, inside, by in zip(frame.actors.tolist(), frame.inside, frame.hidden_by.tolist(), strict=True):
            fate = "outside" if not inside else "hidden" if by != NOBODY else ""
            fates.setdefault(identity, []).append((frame.index, fate, by))
    places = np.stack(locations, axis=1).astype(float).round(2)
    flags = np.stack(seen, axis=1)
    return {
        "cuts": video.cuts,
        "team": video.team,
        "events": [event for identity, steps in fates.items() for event in _events(identity, steps)],
        "camera": camera,
        "points": [
            {
                "person": track.person,
                "keypoint": track.keypoint,
                "locations": [
                    [x, y, int(flag)] if np.isfinite(x) else None
                    for (x, y), flag in zip(way.tolist(), row.tolist(), strict=True)
                ],
            }
            for track, way, row in zip(video.tracks, places, flags, strict=True)
        ],
    }


def _events(identity: int, steps: list[tuple[int, str, int]]) -> Iterator[JsonObject]:
    runs = [(fate, list(run)) for fate, run in itertools.groupby(steps, key=lambda step: step[1])]
    for fate, run in runs[1:-1]:
        if fate:
            by = {"by": sorted({cause for _, _, cause in run})} if fate == "hidden" else {}
            yield {"kind": fate, "person": identity, "first": run[0][0], "last": run[-1][0], **by}


def _write_video(settings: VideoSettings, seed: int, folder: Path, film: bool, index: int) -> JsonObject:
    """Write one video and return what is true of it as a whole."""
    video = plan_video(seed, index, settings)
    name = f"{index:06}"
    with replacing(folder / f"{name}.jsonl") as rows:
        if film:
            with video_writer(folder / f"{name}.mp4", settings.rate) as write:
                return about(video, _passed(video, lambda frame: write(frame.scene.image, frame.time), rows.write))
        (folder / name).mkdir()

        def save(frame: VideoFrame) -> None:
            (folder / name / f"{frame.index:06}.jpg").write_bytes(encode(frame.scene.image))

        return about(video, _passed(video, save, rows.write))


def _passed(video: Video, save: Callable[[VideoFrame], None], write: Callable[[str], object]) -> Iterator[VideoFrame]:
    """Yield the frames of a video, each saved and with its row written."""
    for frame in video:
        save(frame)
        write(json.dumps(to_row(frame)) + "\n")
        yield frame
