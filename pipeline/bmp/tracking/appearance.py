"""What people look like: the colours of torso and legs, compared. Knows pictures, masks and poses, no network.

A look is float32 (128,): two histograms of hue and saturation, 8 x 8 each, of the torso and of the legs. Each adds up
to 1, or is all zeros where nothing can be seen of that part.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from bmp.label_sets import KeypointSet
from bmp.ops.masks import to_boxes
from bmp.structures import Image, Instances

_BINS = 8
LOOK_SIZE = 2 * _BINS * _BINS
"""Numbers of a look."""

_TORSO, _LEGS = ("left_shoulder", "right_shoulder", "left_hip", "right_hip"), ("left_knee", "right_knee")
_FEWEST = 20  # pixels from which a part says something
_SAMPLED = 4000  # pixels of a person that are counted, at the most


def looks_of(image: Image, people: Instances, keypoints: KeypointSet) -> Tensor:
    """Return the look of each person, float32 (N, 128).

    A pixel of the mask belongs to the torso or to the legs, whichever has the nearest joint; the head and the arms
    count for neither. With poses that lack shoulders, hips or knees the two are the upper and lower half of the mask.
    """
    looks = torch.zeros(len(people), LOOK_SIZE)
    boxes = to_boxes(people.masks.bits).cpu().round().int().tolist()
    for row, (left, top, right, bottom) in enumerate(boxes):
        mask = people.masks.bits[row, top:bottom, left:right].cpu().numpy()
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        step = -(-len(rows) // _SAMPLED)
        rows, columns = rows[::step], columns[::step]
        window = image.pixels[top:bottom, left:right].cpu().numpy()
        colours = cv2.cvtColor(window[rows, columns][None], cv2.COLOR_RGB2HSV)[0].astype(np.int64)
        cells = colours[:, 0] * _BINS // 180 * _BINS + colours[:, 1] * _BINS // 256
        parts = _parts(
            np.stack([columns + left, rows + top], axis=1), people.poses.keypoints[row].cpu().numpy(), keypoints
        )
        for part in range(2):
            own = cells[parts == part]
            if len(own) >= _FEWEST:
                counts = np.bincount(own, minlength=_BINS * _BINS) / len(own)
                looks[row, part * _BINS * _BINS : (part + 1) * _BINS * _BINS] = torch.from_numpy(counts)
    return looks


def alike(first: Tensor, second: Tensor) -> Tensor:
    """Compare looks (N, 128) with looks (M, 128): (N, M) in [0, 1].

    The Bhattacharyya overlap of each part that can be seen of both, averaged; 0 where there is none.
    """
    parts = [(a, b) for a, b in zip(first.chunk(2, dim=1), second.chunk(2, dim=1), strict=True)]
    both = torch.stack([a.any(dim=1)[:, None] & b.any(dim=1)[None] for a, b in parts])
    overlaps = torch.stack([a.sqrt() @ b.sqrt().T for a, b in parts])
    return ((overlaps * both).sum(dim=0) / both.sum(dim=0).clamp(min=1)).clamp(0, 1)


def _parts(pixels: np.ndarray, pose: np.ndarray, keypoints: KeypointSet) -> np.ndarray:
    """Return 0 for each pixel (n, 2) of the torso, 1 of the legs, 2 of anything else."""
    numbers = {name: number for number, name in enumerate(keypoints.meanings)}
    if any(name not in numbers for name in (*_TORSO, *_LEGS)):
        middle = (pixels[:, 1].min() + pixels[:, 1].max()) / 2
        return np.asarray(pixels[:, 1] > middle).astype(np.int64)
    torso, legs = (np.stack([pose[numbers[name]] for name in names]) for names in (_TORSO, _LEGS))
    shoulders, hips = torso[:2], torso[2:]
    ankles = [pose[numbers[name]] for name in ("left_ankle", "right_ankle") if name in numbers]
    others = [
        pose[number]
        for name, number in numbers.items()
        if name.endswith(("elbow", "wrist", "nose", "eye", "ear", "head", "head_top"))
    ]
    groups = [
        np.concatenate([torso, (shoulders + hips) / 2, shoulders.mean(axis=0, keepdims=True)]),
        np.stack([*legs, *(hips + legs) / 2, *ankles]),
        np.stack(others) if others else np.full((1, 2), np.inf),
    ]
    distances = [np.hypot(*(pixels[:, None] - group[None]).transpose(2, 0, 1)).min(axis=1) for group in groups]
    return np.asarray(np.argmin(distances, axis=0))
