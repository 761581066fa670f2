"""Prompts and pictures made up from a seed, for tests of segmenters that are prompted with points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from bmp.segmenters.prompted import PromptedSegmenter
from bmp.structures import Detections, Image, Poses, Prompts

NOBODY = Poses.empty(17)

STANDING = np.array(
    [
        *([40, 12], [42, 10], [38, 10], [44, 12], [36, 12]),
        *([48, 25], [32, 25], [50, 40], [30, 40], [50, 54], [30, 54]),
        *([46, 55], [34, 55], [46, 78], [34, 78], [46, 100], [34, 100]),
    ],
    dtype=np.float32,
)


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


class BlobSegmenter(PromptedSegmenter):
    """Its mask is a disc around each positive point, less each negative one; the picture's mean sets the radius.

    Like SAM's, its answer changes with every padding point that reaches it. A previous answer is added to the new one.
    """

    _size = 64
    logit_size = (16, 16)

    def __init__(self, prompter=None, **options):
        defaults = {"image_batch": 2, "prompt_chunk": 3, "hole_area": 0, "speck_area": 0}
        super().__init__(prompter or PosePrompter(), device="cpu", **(defaults | options))
        self.encoded, self.decoded, self.multimask, self.enlarged = [], [], [], []

    def _encode(self, images):
        self.encoded.append(len(images))
        return (torch.stack([image.pixels.float().mean() / 255 for image in images]).reshape(-1, 1, 1, 1),)

    def _to_network(self, points, height, width):
        return points / points.new_tensor([width, height]) * self._size

    def _decode(self, features, prompts, previous=None, multimask=False):
        self.decoded.append(len(prompts))
        self.multimask.append(multimask)
        grid = (torch.arange(16) + 0.5) * 4
        cells = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1).reshape(-1, 2)
        near = (12 + 12 * features[0].reshape(-1, 1, 1) - torch.cdist(prompts.points, cells)).clamp(min=-1)
        sign = prompts.labels.float().unsqueeze(-1) * 2 - 1
        logits = (near * sign).sum(1).reshape(-1, 16, 16)
        if prompts.boxes is not None:
            logits = logits + (prompts.boxes[:, 2] - prompts.boxes[:, 0]).reshape(-1, 1, 1) / 64
        if previous is not None:
            logits = logits + previous
        return logits, torch.full((len(prompts),), 1.5) - prompts.labels.shape[1]

    def _framed(self, logits, height, width):
        self.enlarged.append(len(logits))
        return logits
