"""Stages that run in microseconds and whose right answer is plain: people are squares of one bright colour each.

A square's red is 200 + its number; a square drawn later hides what lies under it. The fake detector sees a square
only while nobody stands in front of it, so that a second round has somebody to find.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, keypoint_set
from bmp.label_sets.part_sets import CIHP
from bmp.structures import Detections, Image, Masks, Parts, Poses

KEYPOINT_COUNT = len(COCO_KEYPOINTS)


def scene(*squares: tuple[int, int, int, int], height: int = 48, width: int = 64) -> Image:
    """An image of squares given as xyxy; square i has red 200 + i."""
    pixels = torch.zeros(height, width, 3, dtype=torch.uint8)
    for number, (x1, y1, x2, y2) in enumerate(squares):
        pixels[y1:y2, x1:x2, 0] = 200 + number
    return Image(pixels)


def detections(*boxes: tuple[float, float, float, float], scores: list[float] | None = None) -> Detections:
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(rows, torch.ones(len(rows)) if scores is None else torch.tensor(scores))


@dataclass
class FakeDetector:
    """Finds the squares whose extent contains no brighter pixel of another, that is, the front ones."""

    score: float = 0.9
    calls: list[list[Image]] = field(default_factory=list)

    def detect(self, images):
        self.calls.append(list(images))
        return [self._one(image.pixels[..., 0].int()) for image in images]

    def _one(self, red):
        boxes = []
        for value in torch.unique(red[red >= 200]).tolist():
            rows, columns = torch.nonzero(red == value, as_tuple=True)
            x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            if int(red[y1:y2, x1:x2].max()) == value:
                boxes.append((float(x1), float(y1), float(x2), float(y2)))
        return detections(*boxes, scores=[self.score] * len(boxes))


class FussyDetector(FakeDetector):
    """Breaks on pictures with two squares."""

    def detect(self, images):
        if any(int(image.pixels[..., 0].max()) == 201 for image in images):
            raise RuntimeError("out of\nmemory")
        return super().detect(images)


class MortalDetector(FakeDetector):
    """Kills processes when so many shards are in the folder ``labels`` as the names of files in ``orders`` say.

    What such a file says is a process, or "worker" for the one that reads it; each order is obeyed once.
    """

    def __init__(self, orders, labels):
        super().__init__()
        self.orders, self.labels = Path(orders), Path(labels)

    def detect(self, images):
        shards = len(list(self.labels.glob("shards/*-????????????.parquet")))
        for order in sorted(self.orders.iterdir(), key=lambda path: int(path.name)):
            if int(order.name) <= shards:
                with contextlib.suppress(FileNotFoundError):  # another worker has read it
                    victim = order.read_text()
                    order.unlink()
                    os.kill(os.getpid() if victim == "worker" else int(victim), signal.SIGKILL)
        time.sleep(0.2)  # the other worker does not do all the rest meanwhile
        return super().detect(images)


class SlowDetector(FakeDetector):
    """Takes its time, so that a signal arrives while it works."""

    def detect(self, images):
        time.sleep(0.3)
        return super().detect(images)


@dataclass
class FakePose:
    """Spreads the keypoints on the diagonal of the box."""

    calls: list[list[Detections]] = field(default_factory=list)
    keypoints = COCO_KEYPOINTS

    def estimate(self, images, people):
        self.calls.append(list(people))
        return [self._one(rows.boxes) for rows in people]

    def _one(self, boxes):
        count = len(self.keypoints)
        steps = torch.linspace(0, 1, count)[:, None]
        keypoints = boxes[:, None, :2] + (boxes[:, None, 2:] - boxes[:, None, :2]) * steps
        certain = torch.full((len(boxes), count), 0.9)
        return Poses(keypoints, certain, certain, certain)


class SetPose(FakePose):
    """The same with the keypoints of another set."""

    def __init__(self, keypoints: str | KeypointSet):
        super().__init__()
        self.keypoints = keypoint_set(keypoints)


@dataclass
class FakeSegmenter:
    """Fills the extent of the pose; its score falls with the size, so that small squares win shared pixels."""

    opened: list[Image] = field(default_factory=list)
    others: list[list[Poses]] = field(default_factory=list)

    def open(self, images):
        self.opened += images
        return list(images)

    def segment(self, views, people, poses, others):
        self.others.append(list(others))
        return [self._one(image, pose) for image, pose in zip(views, poses, strict=True)]

    def _one(self, image, poses):
        bits = torch.zeros(len(poses), image.height, image.width, dtype=torch.bool)
        for row, keypoints in zip(bits, poses.keypoints, strict=True):
            (x1, y1), (x2, y2) = keypoints.amin(0).int().tolist(), keypoints.amax(0).int().tolist()
            row[y1:y2, x1:x2] = True
        return Masks(bits, 1 - bits.flatten(1).float().mean(1))


class FakeParser:
    """The upper half of each box is clothes, the lower one trousers; it is surer of larger people."""

    label_set = CIHP

    def __init__(self):
        self.calls = []

    def parse(self, images, people):
        self.calls.append(list(images))
        return [self._one(each) for each in people]

    def _one(self, people):
        parts = Parts.nowhere(people, self.label_set)
        labels, scores = parts.labels.clone(), parts.scores.clone()
        rows = torch.arange(labels.shape[0])[:, None].expand(labels.shape)
        for row, (_, y1, _, y2) in enumerate(people.detections.boxes.tolist()):
            own = parts.owners == row + 1
            labels[own] = torch.where(rows[own] < (y1 + y2) / 2, 5, 9).to(torch.uint8)
            for label in labels[own].unique().tolist():
                scores[row, label] = min(1.0, (y2 - y1) / 100)
        return replace(parts, labels=labels, scores=scores)


class KeepAll:
    """Suppresses nobody."""

    def keep(self, people, poses):
        return torch.arange(len(people))
