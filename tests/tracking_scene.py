"""People in a picture of 100 x 60 pixels, each a box that the mask fills, with a pose on its diagonal."""

from dataclasses import replace

import torch
from fakes import FakePose

from bmp.structures import CONFIRMED, LOST, Detections, Image, Instances, Masks, TrackedPeople
from bmp.tracking.appearance import LOOK_SIZE
from bmp.tracking.table import newcomers

IMAGE = Image(torch.zeros(60, 100, 3, dtype=torch.uint8))
A, B, C = (5, 10, 25, 50), (40, 10, 60, 50), (75, 10, 95, 50)


def instances(*boxes, masks=True):
    """Somebody in each box, with a mask that fills it."""
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    detections = Detections(rows, torch.ones(len(rows)))
    bits = torch.zeros(len(rows), 60, 100, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(bits, boxes, strict=True):
        mask[y1:y2, x1:x2] = masks
    (poses,) = FakePose().estimate([IMAGE], [detections])
    return Instances(detections, poses, Masks(bits, torch.ones(len(rows))), torch.ones(len(rows), dtype=torch.int64))


def look(*colours):
    """Clothes of so many plain colours, by number."""
    looks = torch.zeros(len(colours), LOOK_SIZE)
    for row, colour in zip(looks, colours, strict=True):
        row[colour] = row[64 + colour] = 1
    return looks


def tracked(*boxes, ids=None, looks=None, lost=()) -> TrackedPeople:
    found = instances(*boxes)
    ids = torch.arange(1, len(boxes) + 1) if ids is None else torch.tensor(ids)
    people = newcomers(ids, found, look(*range(len(boxes))) if looks is None else looks, 16)
    return replace(people, state=torch.tensor([LOST if row in lost else CONFIRMED for row in range(len(boxes))]))
