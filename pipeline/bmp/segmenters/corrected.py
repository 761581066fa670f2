"""Masks that a person at the screen corrects: by moved keypoints, by clicks on and beside somebody, by a new box.

It asks whatever segmenter the pipeline has, in the way that one can be asked, and knows neither networks nor files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.label_sets import KeypointSet
from bmp.ops.skeletons import around_skeleton, has_joints
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.prompted import PromptedSegmenter, Wrapper, promptable
from bmp.stages import ImageView, Segmenter
from bmp.structures import Detections, Masks, Poses, Prompts
from bmp.structures.mask_windows import MaskWindows


@dataclass(frozen=True, eq=False)
class Correction:
    """What is known of one person whose mask is asked for.

    person: one row; its mask, if any, is the one that is on the screen. pose: one row, with visibility 1 where somebody
    has said so. moved: bool (K,), keypoints that were placed by hand. clicks: float32 (C, 2) in pixels of the image.
    labels: int8 (C,), 1 on the person, 0 beside it.
    """

    person: Detections
    pose: Poses
    moved: Tensor
    clicks: Tensor
    labels: Tensor


def takes_points(segmenter: Segmenter) -> bool:
    """Tell whether a segmenter can be asked by clicks; others are asked by box and pose alone."""
    try:
        part, _ = promptable(segmenter)
    except UserError:
        return False
    return isinstance(part, PromptedSegmenter)


@torch.no_grad()
def corrected_mask(
    segmenter: Segmenter, view: ImageView, correction: Correction, others: Poses, keypoints: KeypointSet
) -> Masks:
    """Return the mask of the person, one row.

    A segmenter that takes points is prompted with the keypoints that its prompter chooses, with those placed by hand
    that are visible, and with the clicks. Clicks correct the mask on the screen. So do keypoints where the pipeline
    has its masks corrected (``MaskPromptedSegmenter``); a person who has no mask yet starts from the neighbourhood of
    the skeleton there. Without clicks, other segmenters start anew, which is what they were trained for.

    Args:
        segmenter: of the pipeline.
        view: of the image, as ``segmenter.open`` returned it.
        correction: the person.
        others: poses of everybody else in the image.
        keypoints: what the pose's keypoints mean.

    Raises:
        UserError: clicks for a segmenter that takes none.
    """
    person, pose = correction.person, correction.pose
    if not takes_points(segmenter):
        if len(correction.clicks):
            raise UserError(f"{type(segmenter).__name__} takes no points; its masks follow keypoints and boxes")
        return segmenter.segment([view], [person], [pose], [others])[0]
    part, (inner,) = promptable(segmenter, [view])
    assert isinstance(part, PromptedSegmenter)  # as takes_points has said
    prompts = _with_clicks(part.prompter.prompts(person, pose, others), correction)
    start = person.windows
    corrects = _is_mask_prompted(segmenter)
    if start is None or not bool(start.any()):
        size = inner.height, inner.width
        start = MaskWindows.of(_near_skeleton(person, pose, size, keypoints)) if corrects else None
    elif not corrects and not len(correction.clicks):
        start = None
    previous = None if start is None or not bool(start.any()) else [part.mask_prompts(inner, start.to(part.device))]
    ((logits, scores),) = part.logits([inner], [prompts], previous)
    return Masks(part.windows(inner, logits), scores, prompts.to(logits.device))


def _is_mask_prompted(segmenter: Segmenter) -> bool:
    """Tell whether there is one of the pipeline's segmenters that starts from masks, itself or within others."""
    while not isinstance(segmenter, MaskPromptedSegmenter):
        if not isinstance(segmenter, Wrapper):
            return False
        segmenter, _ = segmenter.inside([])
    return True


def _with_clicks(prompts: Prompts, correction: Correction) -> Prompts:
    """Add the visible keypoints that were placed by hand and are no prompts yet, and the clicks."""
    pose = correction.pose
    chosen = prompts.keypoints[0][prompts.labels[0] == 1].tolist()
    seen = (pose.flags()[0] == 2) & correction.moved
    added = [row for row in seen.nonzero()[:, 0].tolist() if row not in chosen]
    clicks, labels = correction.clicks, correction.labels
    return replace(
        prompts,
        points=torch.cat([prompts.points, pose.keypoints[:, added], clicks[None]], dim=1),
        labels=torch.cat([prompts.labels[0], torch.ones(len(added), dtype=torch.int8), labels])[None],
        keypoints=torch.cat(
            [prompts.keypoints[0], torch.tensor(added, dtype=torch.int64), torch.full((len(labels),), -1)]
        )[None],
    )


def _near_skeleton(person: Detections, pose: Poses, size: tuple[int, int], keypoints: KeypointSet) -> Tensor:
    """Return the neighbourhood of the skeleton within the box, bool (1, H, W); the box where joints are lacking."""
    height, width = size
    x1, y1, x2, y2 = (max(0, round(value)) for value in person.boxes[0].tolist())
    box = torch.zeros(height, width, dtype=torch.bool)
    box[y1:y2, x1:x2] = True
    if not has_joints(keypoints):
        return box[None]
    body = around_skeleton(pose.keypoints[0].cpu().numpy(), height, width, meaning=keypoints)
    return (box & torch.from_numpy(body))[None]
