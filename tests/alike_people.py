"""People of one shape at places of one's choice, for tests of what tells duplicates from neighbours."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from bmp.structures import Detections, Poses

SHAPE = torch.stack((torch.arange(17) % 4 * 20.0, torch.arange(17) // 4 * 36.0), dim=1)  # 60 x 144 pixels


def people_at(
    offsets: list[tuple[float, float]], confident: list[int], scores: list[float] | None = None, factor: float = 1.0
) -> tuple[Detections, Poses]:
    """People of one shape at ``offsets``, with the first ``confident[i]`` keypoints of each sure."""
    at = torch.tensor(offsets, dtype=torch.float32).reshape(-1, 2)
    keypoints = (SHAPE + at[:, None]) * factor
    boxes = torch.cat((at, at + torch.tensor([60.0, 144.0])), dim=1) * factor
    sure = (torch.arange(17) < torch.tensor(confident, dtype=torch.int64).reshape(-1, 1)).float()
    probability = torch.ones_like(sure)
    detections = Detections(boxes, torch.tensor([0.5] * len(offsets) if scores is None else scores))
    return detections, Poses(keypoints, sure, probability, probability)


crowds = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 17), st.integers(0, 1000)),
    max_size=8,
    unique_by=lambda person: (person[2], person[3]),  # no ties, so that the row order does not matter
)


def crowd_of(people: list[tuple[int, int, int, int]], factor: float = 1.0) -> tuple[Detections, Poses]:
    return people_at(
        [(x, y) for x, y, _, _ in people], [n for _, _, n, _ in people], [s / 1000 for *_, s in people], factor
    )
