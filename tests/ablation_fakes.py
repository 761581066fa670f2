"""A family of models for the tables and figures: its poses have every signal, its segmenter draws ovals around points.

Each signal ranks the keypoints in an order of its own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from fakes import FakePose

from bmp.segmenters.prompted import PromptedSegmenter

SIDE = 64


class SignalPose(FakePose):
    """Estimates on the diagonal of the box; counts how many people it is asked about, all instances together."""

    asked = 0

    def _one(self, boxes):
        type(self).asked += len(boxes)
        poses = super()._one(boxes)
        visibility, presence, expected_oks = (
            (0.4 + 0.5 * (torch.arange(17) * stride % 17) / 16).expand_as(poses.scores) for stride in (7, 5, 11)
        )
        return replace(poses, visibility=visibility, presence=presence, expected_oks=expected_oks)


class OvalSegmenter(PromptedSegmenter):
    """Draws an oval around the positive points and the box, and cuts a disc out around each negative point.

    The file of its weights says by how much the oval is larger, which is also the radius of the disc, as a share of the
    picture's side. What it answered before stays.
    """

    _size, logit_size = SIDE, (SIDE, SIDE)
    encoded = 0

    def __init__(self, prompter, checkpoint, *, device="cpu"):
        options = {"image_batch": 4, "prompt_chunk": 8, "hole_area": 0, "speck_area": 0}
        super().__init__(prompter, device=device, **options)
        self.radius = SIDE * float(Path(checkpoint).read_text())

    def _encode(self, images):
        type(self).encoded += len(images)
        return (torch.zeros(len(images), 1, 1, 1),)

    def _to_network(self, points, height, width):
        return points / points.new_tensor([width, height]) * SIDE

    def _decode(self, features, prompts, previous=None, multimask=False):
        x, y = torch.meshgrid(*[torch.arange(SIDE) + 0.5] * 2, indexing="xy")
        corners = prompts.points if prompts.boxes is None else torch.cat([prompts.points, *self._corners(prompts)], 1)
        none = torch.zeros(len(prompts), corners.shape[1] - prompts.points.shape[1])
        counts = torch.cat([prompts.labels == 1, none == 0], dim=1)[..., None]
        low = corners.where(counts, torch.inf).amin(dim=1) - self.radius
        high = corners.where(counts, -torch.inf).amax(dim=1) + self.radius
        # Somebody asked with negative points alone keeps what was there.
        low, high = (edge.where(edge.isfinite(), -1e3)[:, :, None, None] for edge in (low, high))
        # The two axes apart: a norm over a short dimension takes a hundred times as long.
        reach = torch.hypot(*((torch.stack([x, y]) - (low + high) / 2) / ((high - low) / 2).clamp(min=1e-6)).unbind(1))
        bits = reach < 1
        if previous is not None:
            bits |= previous > 0
        far = torch.hypot(*(torch.stack([x, y]) - prompts.points[..., None, None]).unbind(2)) > self.radius
        bits &= (far | (prompts.labels != 0)[:, :, None, None]).all(dim=1)
        return bits.float() - 0.5, bits.flatten(1).float().mean(dim=1)

    def _corners(self, prompts):
        return prompts.boxes.reshape(-1, 2, 2)[:, :1], prompts.boxes.reshape(-1, 2, 2)[:, 1:]

    def _framed(self, logits, height, width):
        return torch.nn.functional.interpolate(logits[:, None], (height, width))[:, 0]
