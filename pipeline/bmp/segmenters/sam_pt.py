"""How SAM-PT turns points that were followed into masks (arXiv 2307.01197). Knows no tracker and no video.

The same rules serve ``bmp.sam_pt``, for any objects, and the loop over videos, for people.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.ops.masks import to_boxes
from bmp.ops.query_points import NEGATIVE
from bmp.registry import TRACK_PROMPTERS
from bmp.segmenters.prompted import promptable
from bmp.stages import ImageView, PromptableSegmenter, Segmenter
from bmp.structures import Masks, Prompts, TrackedPeople

_EMPTY = -10.0  # logit of a mask with nothing in it
_FEWEST = 2  # pixels of a mask that has a box


@dataclass(frozen=True)
class PromptRules:
    """How the points of a frame become prompts.

    negatives: whether objects have negative points of their own; if so, a first question is asked with the positive
    ones alone, and its answer goes into the second. others: whether the positive points of all other objects count as
    negative ones. refinements: how many more times the answer is asked to be corrected, with its own box. min_score:
    predicted IoU below which a mask is given up.
    """

    negatives: bool = True
    others: bool = False
    refinements: int = 12
    min_score: float = 0.7

    def __post_init__(self) -> None:
        if self.refinements < 0:
            raise UserError(f"refinements: expected at least 0, got {self.refinements}")
        if not 0 <= self.min_score <= 1:
            raise UserError(f"min_score: expected a number from 0 to 1, got {self.min_score}")


@dataclass(frozen=True, eq=False)
class PromptedMasks:
    """The answers about the objects of a frame.

    logits: float32 (N, h, w) of the segmenter's size, below 0 everywhere for an empty mask. scores: float32 (N,),
    predicted IoU. asked: bool (N,), whether there was a point to ask with; the score of the others is 0 and means
    nothing. prompts: the last ones of each object.
    """

    logits: Tensor
    scores: Tensor
    asked: Tensor
    prompts: Prompts


@torch.no_grad()
def prompted_masks(
    segmenter: PromptableSegmenter,
    view: ImageView,
    points: Tensor,
    labels: Tensor,
    rules: PromptRules,
    *,
    regions: Tensor | None = None,
    keypoints: Tensor | None = None,
) -> PromptedMasks:
    """Ask for the masks of all objects of a frame, all of them together in each round of questions.

    An object of which no positive point is seen gets an empty mask, also where negative ones are seen.

    Args:
        segmenter: answers.
        view: of the frame, as its ``open`` returned it.
        points: float32 (N, P, 2) in pixels of the frame.
        labels: int8 (N, P), 1 positive, 0 negative, -1 not seen.
        rules: of the questions.
        regions: float32 (N, 4), boxes in which the points of others count; None for everywhere.
        keypoints: int64 (N, P), which keypoint a point is, for the record.
    """
    count = len(points)
    prompts = _all_points(points, labels, rules.others, regions, keypoints)
    asked = (labels == 1).any(dim=1)
    rows = asked.nonzero()[:, 0]
    first = prompts
    if rules.negatives:
        first = replace(prompts, labels=torch.where(prompts.labels == 1, prompts.labels, -1))
    ((logits, scores),) = segmenter.logits([view], [first[rows]])
    if rules.negatives:
        ((logits, scores),) = segmenter.logits([view], [prompts[rows]], [logits])
    boxes = logits.new_zeros(count, 4)
    going = torch.arange(len(rows), device=logits.device)
    for _ in range(rules.refinements):
        bits = segmenter.bits(view, logits[going])
        enough = bits.flatten(1).sum(dim=1) >= _FEWEST
        going, bits = going[enough], bits[enough]
        if not len(going):
            break
        # From the first to the last pixel of the mask, as in the public code, and not from edge to edge.
        around = to_boxes(bits) - logits.new_tensor([0, 0, 1, 1])
        own = rows[going.to(rows.device)]
        boxes[own.to(boxes.device)] = around
        few = replace(prompts[own], boxes=around.to(points.device))
        ((better, certain),) = segmenter.logits([view], [few], [logits[going]])
        logits[going], scores[going] = better, certain
    logits[scores < rules.min_score] = _EMPTY
    own = rows.to(logits.device)
    all_logits = logits.new_full((count, *logits.shape[1:]), _EMPTY)
    all_scores = scores.new_zeros(count)
    all_logits[own], all_scores[own] = logits, scores
    last = replace(prompts, boxes=boxes.to(points.device)) if rules.refinements else prompts
    return PromptedMasks(all_logits, all_scores, asked.to(logits.device), last)


def _all_points(
    points: Tensor, labels: Tensor, others: bool, regions: Tensor | None, keypoints: Tensor | None
) -> Prompts:
    """Return each object's own positive points, its negative ones, and those of the others, as prompts."""
    count = len(points)
    order = labels.argsort(dim=1, descending=True, stable=True)
    numbers = torch.full(labels.shape, -1, device=labels.device) if keypoints is None else keypoints
    prompts = Prompts(
        points.gather(1, order[..., None].expand(-1, -1, 2)), labels.gather(1, order), numbers.gather(1, order)
    )
    if not others or count < 2:
        return prompts
    whose, which = (labels == 1).nonzero(as_tuple=True)
    theirs = points[whose, which].expand(count, -1, -1)
    foreign = whose != torch.arange(count, device=points.device)[:, None]
    if regions is not None:
        low, high = regions[:, None, :2], regions[:, None, 2:]
        foreign &= ((theirs >= low) & (theirs <= high)).all(dim=2)
    return Prompts(
        torch.cat([prompts.points, theirs], dim=1),
        torch.cat([prompts.labels, torch.where(foreign, 0, -1).to(torch.int8)], dim=1),
        torch.cat([prompts.keypoints, torch.full_like(foreign, -1, dtype=torch.int64)], dim=1),
    )


@TRACK_PROMPTERS.register_module()
class SAMPTPrompts:
    """Asks with all points of a person that are seen, the one beside the person, and others' within the person's box.

    The positive points are asked about first; the second question has all points, and each refinement the box of the
    answer so far as well. For SAM, SAM 2.1 and SAM-pose2seg alike.

    Args:
        refinements: how many times the answer is asked to be corrected; SAM-PT takes 12, and 3 with light networks.
        others: whether the points of other people count as negative ones.
        min_score: predicted IoU below which a mask is given up; the loop over videos has a limit of its own.

    Raises:
        UserError: for refinements below 0 and a score outside [0, 1].
    """

    def __init__(self, refinements: int = 3, others: bool = True, min_score: float = 0.0) -> None:
        self.rules = PromptRules(True, others, refinements, min_score)

    def prompted_masks(self, segmenter: Segmenter, view: ImageView, people: TrackedPeople) -> Masks:
        """Return masks row by row; see ``TrackPrompter``. Raises ``UserError`` where the segmenter takes no points."""
        part, (own,) = promptable(segmenter, [view])
        labels = torch.where(people.kinds == NEGATIVE, 0, 1)
        labels = torch.where(people.seen, labels, -1).to(torch.int8)
        found = prompted_masks(
            part,
            own,
            people.points,
            labels,
            self.rules,
            regions=people.instances.detections.boxes,
            keypoints=people.kinds.clamp(min=-1),
        )
        return Masks(part.bits(own, found.logits), found.scores, found.prompts.to(found.scores.device))
