"""Prompts and pictures made up from a seed, for tests of segmenters that are prompted with points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from bmp.structures import Detections, Image, Poses, Prompts

NOBODY = Poses.empty(17)


@dataclass
class PosePrompter:
    """Prompts with the first ``count`` keypoints, the last of them negative; one that is not visible is padding."""

    count: int = 3
    boxes: bool = False

    def prompts(self, people, poses, others):
        points = poses.keypoints[:, : self.count]
        labels = torch.ones(points.shape[:2], dtype=torch.int8)
        labels[:, -1] = 0
        labels[poses.visibility[:, : self.count] == 0] = -1
        numbers = torch.arange(self.count).expand(len(points), -1)
        return Prompts(points, labels, numbers, people.boxes if self.boxes else None)


def picture(height: int, width: int, seed: int = 0) -> Image:
    """Smooth coloured noise, so that resizing matters and does not level it out."""
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return Image((smooth[0].permute(1, 2, 0) * 255).to(torch.uint8))


def crowd(count: int, height: int, width: int, seed: int = 0) -> tuple[Detections, Poses]:
    """People anywhere in the picture, all of whose keypoints are visible."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    corners = (torch.rand(count, 2, 2, generator=generator) * size).sort(dim=1).values
    keypoints = torch.rand(count, 17, 2, generator=generator) * size
    certain = torch.ones(count, 17)
    return Detections(corners.reshape(-1, 4), torch.ones(count)), Poses(keypoints, certain, certain, certain)


def hide(poses: Poses, row: int, *keypoints: int) -> Poses:
    """``poses`` in which these keypoints of one person are not visible."""
    visibility = poses.visibility.clone()
    visibility[row, list(keypoints)] = 0
    return replace(poses, visibility=visibility)


def pad(prompts: Prompts, front: int, back: int) -> Prompts:
    """``prompts`` with so many padding points before and after each person's own."""
    rows = len(prompts)

    def padding(count: int) -> Prompts:
        nowhere = torch.full((rows, count, 2), 7.0)
        return Prompts(nowhere, torch.full((rows, count), -1, dtype=torch.int8), torch.full((rows, count), -1))

    parts = [padding(front), prompts, padding(back)]
    return Prompts(
        points=torch.cat([part.points for part in parts], dim=1),
        labels=torch.cat([part.labels for part in parts], dim=1),
        keypoints=torch.cat([part.keypoints for part in parts], dim=1),
        boxes=prompts.boxes,
    )
