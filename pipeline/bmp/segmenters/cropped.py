"""Segmenting each person in a crop of their own (the paper's supplement, A.3), whatever the segmenter.

It knows neither networks nor how prompts are chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from bmp.errors import UserError
from bmp.ops.boxes import clip, inflate
from bmp.registry import SEGMENTERS
from bmp.stages import Segmenter
from bmp.structures import Detections, Image, Masks, Poses, Prompts

_Window = tuple[int, int, int, int]  # x1, y1, x2, y2: whole pixels


@SEGMENTERS.register_module()
class CroppedSegmenter:
    """Shows ``segmenter`` one crop a person instead of the whole image (paper Table 7, where that costs accuracy).

    Keypoints outside a crop count as invisible and absent. The cost in time: the segmenter encodes each person
    instead of each image.

    Args:
        segmenter: any segmenter.
        scale: side of the crop as a multiple of the person's box, at least 1; a crop ends at the image's edge.
        batch: crops that the segmenter is given at one time.
    """

    def __init__(self, segmenter: Segmenter, scale: float = 1.5, batch: int = 8) -> None:
        if scale < 1:
            raise UserError(f"scale: expected at least 1, got {scale}")
        if batch < 1:
            raise UserError(f"batch: expected at least 1, got {batch}")
        self.segmenter = segmenter
        self.scale = scale
        self.batch = batch

    def open(self, images: Sequence[Image]) -> list[Image]:
        """Keep the images; their crops are known once people are."""
        return list(images)

    def segment(
        self,
        views: Sequence[Image],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return masks of the whole images, row by row, with prompts in the images' pixels."""
        return [self._segment(*image) for image in zip(views, people, poses, others, strict=True)]

    def _segment(self, image: Image, people: Detections, poses: Poses, others: Poses) -> Masks:
        device = image.pixels.device
        if not len(people):
            return Masks.empty(image.height, image.width, device)
        bits = torch.zeros(len(people), image.height, image.width, dtype=torch.bool, device=device)
        windows = self._windows(people, image)
        scores, prompts = torch.zeros(len(people), device=device), []
        for start in range(0, len(people), self.batch):
            rows = range(len(people))[start : start + self.batch]
            crops = [Image(image.pixels[y1:y2, x1:x2]) for x1, y1, x2, y2 in windows[start : start + self.batch]]
            masks = self.segmenter.segment(
                self.segmenter.open(crops),
                [_person_in(windows[row], people[[row]]) for row in rows],
                [_poses_in(windows[row], poses[[row]]) for row in rows],
                [_poses_in(windows[row], _everybody_but(row, poses, others)) for row in rows],
            )
            for row, mask in zip(rows, masks, strict=True):
                x1, y1, x2, y2 = windows[row]
                bits[row, y1:y2, x1:x2] = mask.bits[0].to(device)
                scores[row] = mask.scores[0]
                if mask.prompts is not None:
                    prompts.append(_prompts_from(windows[row], mask.prompts).to(device))
        return Masks(bits, scores, Prompts.concat(prompts) if prompts else None)

    def _windows(self, people: Detections, image: Image) -> list[_Window]:
        """Return each person's crop, inside the image and at least one pixel large."""
        large = clip(inflate(people.boxes, (self.scale - 1) / 2), image.height, image.width).tolist()
        windows = []
        for left, top, right, bottom in large:
            x1, y1 = min(int(left), image.width - 1), min(int(top), image.height - 1)
            windows.append((x1, y1, max(math.ceil(right), x1 + 1), max(math.ceil(bottom), y1 + 1)))
        return windows


def _person_in(window: _Window, person: Detections) -> Detections:
    corner = person.boxes.new_tensor(window[:2])
    return Detections(person.boxes - corner.repeat(2), person.scores)


def _poses_in(window: _Window, poses: Poses) -> Poses:
    x1, y1, x2, y2 = window
    low, high = poses.keypoints.new_tensor([x1, y1]), poses.keypoints.new_tensor([x2, y2])
    inside = ((poses.keypoints >= low) & (poses.keypoints < high)).all(-1).float()
    return replace(
        poses,
        keypoints=poses.keypoints - low,
        scores=poses.scores * inside,
        visibility=poses.visibility * inside,
        presence=poses.presence * inside,
        expected_oks=None if poses.expected_oks is None else poses.expected_oks * inside,
    )


def _everybody_but(row: int, poses: Poses, others: Poses) -> Poses:
    """In its crop a person is alone, so those who share the image are others too."""
    return Poses.concat([poses[:row], poses[row + 1 :], others])


def _prompts_from(window: _Window, prompts: Prompts) -> Prompts:
    corner = prompts.points.new_tensor(window[:2])
    boxes = prompts.boxes
    return replace(prompts, points=prompts.points + corner, boxes=None if boxes is None else boxes + corner.repeat(2))
