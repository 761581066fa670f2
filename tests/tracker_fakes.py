"""Networks with the interfaces of the published CoTracker and TAPIR that follow the brightest red, and nothing else."""

from typing import ClassVar

import torch
from torch import nn


class Predictor(nn.Module):
    """As ``cotracker.predictor.CoTrackerPredictor``: places of points that all move with the red spot."""

    made: ClassVar = []

    def __init__(self, checkpoint, offline=True):
        super().__init__()
        self.checkpoint, self.offline, self.calls = checkpoint, offline, []
        self.made.append(self)

    def forward(self, video, queries=None):
        assert video.dtype == torch.float32
        assert video.ndim == 5
        assert video.shape[2] == 3
        assert video.max() > 2
        assert queries.shape[2] == 3
        assert (queries[..., 0] == 0).all()
        self.calls.append((video.shape[1], queries.shape[1]))
        spots, there = spots_of(video[0].permute(0, 2, 3, 1))
        places = queries[:, None, :, 1:] + (spots - spots[0])[None, :, None]
        return places, there[None, :, None].expand(-1, -1, queries.shape[1]).float() * 0.9


class Tapir(nn.Module):
    """As ``tapnet.torch.tapir_model.TAPIR``."""

    def __init__(self, pyramid_level=0):
        super().__init__()
        self.level = pyramid_level
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, frames, points):
        assert frames.shape[2:] == (256, 256, 3)
        assert frames.min() >= -1
        assert frames.max() <= 1
        assert (points[..., 0] == 0).all()
        spots, there = spots_of((frames[0] + 1) * 127.5)
        places = points[0, :, None, 1:].flip(-1) + (spots - spots[0])[None]
        hidden = torch.where(there, -9.0, 9.0).expand(points.shape[1], -1)
        return {"tracks": places[None], "occlusion": hidden[None], "expected_dist": torch.full_like(hidden, -9)[None]}


def spots_of(frames):
    """The middle of what is red in each frame, (T, 2), the last one where nothing is; and whether something is."""
    spots, there = [], []
    for frame in frames:
        red = (frame[..., 0] > 128).nonzero().float()
        there.append(bool(len(red)))
        spots.append(red.mean(dim=0).flip(0) if len(red) else (spots or [torch.zeros(2)])[-1])
    return torch.stack(spots), torch.tensor(there)
