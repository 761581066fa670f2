"""Draws scenes with and without their ground truth on one sheet, for people to look at; knows no file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch

from bmp.label_sets import COCO_KEYPOINTS
from bmp.structures import Detections, Image, Instances, Masks, Poses
from bmp.synthcrowd.scenes import Scene
from bmp.synthcrowd.videos import Video
from bmp.visualize import overlay

_COLUMNS = 6


def scene_sheet(scenes: Sequence[Scene], numbers: Sequence[Sequence[int]] | None = None) -> PIL.Image.Image:
    """Return rows of up to six scenes, each row followed by the same scenes with masks, boxes and skeletons.

    Limbs are thick between visible keypoints and thin at hidden ones. ``numbers`` of the people in each scene decide
    their colours, by default their rows. Raises ``ValueError`` for no scenes.
    """
    if not scenes:
        raise ValueError("expected at least one scene, got none")
    drawn = [np.asarray(_with_truth(scene, numbers[index] if numbers else None)) for index, scene in enumerate(scenes)]
    rows = []
    for start in range(0, len(scenes), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        rows += [[scene.image for scene in scenes[part]], drawn[part]]
    height, width = scenes[0].image.shape[:2]
    sheet = np.zeros((len(rows) * height, min(_COLUMNS, len(scenes)) * width, 3), np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            sheet[i * height : (i + 1) * height, j * width : (j + 1) * width] = picture
    return PIL.Image.fromarray(sheet)


def video_sheet(video: Video, count: int = 12) -> PIL.Image.Image:
    """Return ``scene_sheet`` of so many frames at equal distances, everybody in the colour of the id."""
    wanted = np.linspace(0, len(video) - 1, min(count, len(video))).round().astype(int).tolist()
    frames = [video.frame(index) for index in wanted]
    return scene_sheet([frame.scene for frame in frames], [frame.ids.tolist() for frame in frames])


def _with_truth(scene: Scene, numbers: Sequence[int] | None) -> PIL.Image.Image:
    count = len(scene.boxes)
    points = torch.from_numpy(scene.keypoints)
    certain = torch.ones(count, points.shape[1])
    people = Instances(
        Detections(torch.from_numpy(scene.boxes), torch.ones(count)),
        Poses(points[..., :2].contiguous(), certain, (points[..., 2] == 2).float(), (points[..., 2] > 0).float()),
        Masks(torch.from_numpy(scene.visible), torch.ones(count)),
        torch.ones(count, dtype=torch.int64),
    )
    return overlay(Image(torch.from_numpy(scene.image)), people, COCO_KEYPOINTS, numbers=numbers)
