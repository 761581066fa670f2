"""Draws scenes with and without their ground truth on one sheet, for people to look at; knows no file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch

from bmp.label_sets import COCO_KEYPOINTS
from bmp.structures import Detections, Image, Instances, Masks, Poses
from bmp.synthcrowd.scenes import Scene
from bmp.visualize import overlay

_COLUMNS = 6


def scene_sheet(scenes: Sequence[Scene]) -> PIL.Image.Image:
    """Return rows of up to six scenes, each row followed by the same scenes with masks, boxes and skeletons.

    Limbs are thick between visible keypoints and thin at hidden ones. Raises ``ValueError`` for no scenes.
    """
    if not scenes:
        raise ValueError("expected at least one scene, got none")
    rows = []
    for start in range(0, len(scenes), _COLUMNS):
        part = scenes[start : start + _COLUMNS]
        rows += [[scene.image for scene in part], [np.asarray(_with_truth(scene)) for scene in part]]
    height, width = scenes[0].image.shape[:2]
    sheet = np.zeros((len(rows) * height, min(_COLUMNS, len(scenes)) * width, 3), np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            sheet[i * height : (i + 1) * height, j * width : (j + 1) * width] = picture
    return PIL.Image.fromarray(sheet)


def _with_truth(scene: Scene) -> PIL.Image.Image:
    count = len(scene.boxes)
    points = torch.from_numpy(scene.keypoints)
    certain = torch.ones(count, points.shape[1])
    people = Instances(
        Detections(torch.from_numpy(scene.boxes), torch.ones(count)),
        Poses(points[..., :2].contiguous(), certain, (points[..., 2] == 2).float(), (points[..., 2] > 0).float()),
        Masks(torch.from_numpy(scene.visible), torch.ones(count)),
        torch.ones(count, dtype=torch.int64),
    )
    return overlay(Image(torch.from_numpy(scene.image)), people, COCO_KEYPOINTS)
