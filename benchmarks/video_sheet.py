"""Draws frames of a video beside each other: the people who are followed, or objects, and below them the ground truth.

    python benchmarks/video_sheet.py --split video-hard --video 1 --frames 4 8 12 16 20 24 --output sheet.jpg
    python benchmarks/video_sheet.py --split video-test --objects --output sheet.jpg
    python benchmarks/video_sheet.py walk.mp4 --output sheet.jpg

A number and its colour are a person's own in each row: the rows do not share them. Frames in which people were looked
for have a star. Of a film there is no ground truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import torch
from common import as_command

import bmp
from bmp.build import build_sam_pt
from bmp.config import load_config, parse_overrides
from bmp.datasets.synthcrowd_video import SynthCrowdVideo
from bmp.datasets.videos import LabelledFrame
from bmp.errors import UserError
from bmp.io.video_inputs import open_video
from bmp.sam_pt import Query
from bmp.structures import Frame
from bmp.visualize import overlay, overlay_objects

_CELL, _GAP = 240, 4
_EVENLY = 6  # frames that are shown where none are named


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    frames = _labelled(options) if options.film is None else _film(options.film)
    shown = options.frames or np.linspace(0, len(frames) - 1, _EVENLY).round().astype(int).tolist()
    follow = _objects if options.objects else _people
    columns = [
        [picture.resize(_size(picture), PIL.Image.Resampling.LANCZOS) for picture in (found, _truth(one)) if picture]
        for one, found in zip(frames, follow(options, frames), strict=True)
        if one.frame.index in shown
    ]
    if not columns:
        raise UserError(f"--frames: there is none of these; the video has {len(frames)}, numbered from 0")
    _sheet(columns).save(options.output, quality=88)


def _labelled(options: argparse.Namespace) -> list[LabelledFrame]:
    dataset = SynthCrowdVideo(split=options.split, count=options.video + 1)
    return list(dataset.frames(options.video))


def _film(path: str) -> list[LabelledFrame]:
    with open_video(path) as frames:
        return [LabelledFrame(frame, None) for frame in frames]


def _people(options: argparse.Namespace, frames: list[LabelledFrame]) -> Iterator[PIL.Image.Image]:
    model = bmp.load(options.config, device="cpu", overrides=parse_overrides(options.set))
    for found in model.video_loop.run(model, [one.frame for one in frames]):
        people = found.people
        picture = overlay(
            found.frame.image, people.instances, model.pose.keypoints, numbers=people.ids.tolist(), boxes=False
        )
        yield _titled(picture, f"{found.frame.index}{'*' if found.detected else ''}")


def _objects(options: argparse.Namespace, frames: list[LabelledFrame]) -> Iterator[PIL.Image.Image]:
    labels = frames[0].labels
    if labels is None or labels.masks is None:
        raise UserError("--objects: follows the labelled masks of a drawn video's first frame; name no film")
    model = build_sam_pt(load_config(options.config, parse_overrides(options.set)), "cpu")
    queries = [
        Query(number, frames[0].frame.index, torch.from_numpy(mask))
        for number, mask in zip(labels.ids.tolist(), labels.masks, strict=True)
    ]

    def film(start: int, end: int | None) -> list[Frame]:
        return [one.frame for one in frames[start:end]]

    for found in model.run(film, queries):
        objects = found.objects
        marks = torch.where(objects.seen, objects.labels, -1)
        picture = overlay_objects(found.frame.image, found.bits, objects.ids.tolist(), objects.points, marks)
        yield _titled(picture, str(found.frame.index))


def _truth(one: LabelledFrame) -> PIL.Image.Image | None:
    labels = one.labels
    if labels is None or labels.masks is None:
        return None
    none = torch.zeros(len(labels.ids), 0, 2)
    masks = torch.from_numpy(labels.masks)
    return overlay_objects(one.frame.image, masks, labels.ids.tolist(), none, none[..., 0].long())


def _titled(picture: PIL.Image.Image, title: str) -> PIL.Image.Image:
    height = max(12, picture.height // 16)
    PIL.ImageDraw.Draw(picture).text(
        (height // 3, height // 4), title, "white", font_size=height, stroke_width=height // 8, stroke_fill="black"
    )
    return picture


def _size(picture: PIL.Image.Image) -> tuple[int, int]:
    scale = _CELL / max(picture.size)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _sheet(columns: list[list[PIL.Image.Image]]) -> PIL.Image.Image:
    width = sum(column[0].width + _GAP for column in columns) - _GAP
    height = max(sum(picture.height + _GAP for picture in column) for column in columns) - _GAP
    sheet = PIL.Image.new("RGB", (width, height), "white")
    left = 0
    for column in columns:
        top = 0
        for picture in column:
            sheet.paste(picture, (left, top))
            top += picture.height + _GAP
        left += column[0].width + _GAP
    return sheet


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", nargs="?", help="in place of a drawn video")
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--split", default="video-test", help="of SynthCrowd in motion")
    parser.add_argument("--video", type=int, default=0, help="which of the split")
    parser.add_argument("--objects", action="store_true", help="follow the first masks as objects, by SAM-PT")
    parser.add_argument("--frames", type=int, nargs="+", metavar="FRAME", help="to be shown (default: six)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, metavar="PICTURE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
