"""The detector on the features of SAM's encoder in training: a frozen encoder, whom a cell answers for, losses.

It does not know where images and people come from.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from torch import Tensor

from bmp.config import ConfigSection
from bmp.detectors.sam import EncodedDetector
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.io.annotations import Annotation, to_annotations
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.people_head import PeopleHead, PeopleOutput, people_head
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.ops.boxes import iou
from bmp.structures import Detections, Image, Instances, Masks, Poses
from bmp.training.detector.known_people import KnownPeople
from bmp.training.frozen_levels import FrozenLevels

_CANDIDATES = 13  # cells whose overlap says how many a person gets, as in RTMDet
_OVERLAP_COST = 3.0
_NEAR = 3.0  # cells from the middle of a mask within which distance costs next to nothing
_BOX_WEIGHT = 2.0
_MASK_WEIGHT = 2.0
_MASKS = 64  # drawn in a step, at random; more cost time and tell little more


@MODELS.register_module()
class PeopleHeadTraining(BaseModel):  # type: ignore[misc,unused-ignore]
    """The network of ``SAMDetector`` in training, with RTMDet's dynamic assignment and losses.

    With ``exported = "network."`` in the config of a training, ``python -m bmp.training --export`` writes the weights
    that ``SAMDetector`` takes, with the fingerprint of the encoder.

    Args:
        network: see ``SAMDetector.model``.
        encoder: arguments of ``SAM2Encoder``; its weights stay as they are.
        cache: see ``FrozenLevels``.
        painted_side: side of the square in which pictures with people painted out are encoded.

    Raises:
        UserError: as of ``SAM2Encoder`` and ``SAMDetector``.
    """

    def __init__(
        self,
        network: str | ConfigSection,
        encoder: ConfigSection,
        cache: str | os.PathLike[str] | None = None,
        painted_side: int | None = None,
    ) -> None:
        super().__init__()
        # A stage and no module: its weights are not this training's, and are not in its checkpoints.
        self._encoder = SAM2Encoder(**encoder)
        self.network: PeopleHead = people_head(network)
        self.network.fingerprint = self._encoder.fingerprint
        self.network.to(memory_format=torch.channels_last)
        self._levels = FrozenLevels(self._encoder, cache)
        self._painted_side = painted_side or self._encoder.side // 2

    def forward(
        self,
        inputs: Sequence[Image],
        data_samples: Sequence[KnownPeople] | Sequence[int | str],
        mode: str = "loss",
    ) -> dict[str, Tensor] | list[list[Annotation]]:
        """Return losses of images with ``KnownPeople``, or with "predict" a list of annotations of each image id."""
        device = self.network.encoder_digest.device
        self._levels.move(device)
        if mode == "loss":
            return self._losses(inputs, [each.to(device) for each in data_samples if isinstance(each, KnownPeople)])
        found = EncodedDetector(self.network, self._encoder, score_threshold=0.01).detect(inputs)
        ids = [each for each in data_samples if not isinstance(each, KnownPeople)]
        return [_annotations(*one) for one in zip(inputs, found, ids, strict=True)]

    def _losses(self, images: Sequence[Image], people: Sequence[KnownPeople]) -> dict[str, Tensor]:
        with torch.no_grad():
            levels = self._seen(images, people)
        known = torch.stack([each.known * (not each.painted) for each in people])[:, None]
        found = self.network(levels, known)
        height, width = levels[1].shape[-2:]
        points = self.network.points(height, width).to(known.device)
        assigned = [
            assign(found.scores[row].detach(), found.boxes[row].detach(), points, each, 1 / width)
            for row, each in enumerate(people)
        ]
        whose = torch.stack([rows for rows, _ in assigned])
        quality = torch.stack([overlaps for _, overlaps in assigned])
        taken = whose >= 0
        total = quality.sum().clamp_min(1)
        image, cell = taken.nonzero().unbind(1)
        first = torch.tensor([0, *(len(each.boxes) for each in people)], device=known.device).cumsum(0)
        person = whose[image, cell] + first[image]
        boxes, masks = torch.cat([each.boxes for each in people]), torch.cat([each.masks for each in people])
        apart = 1 - generalized_iou(found.boxes[image, cell], boxes[person])
        losses = {
            "loss_score": _quality_focal(found.scores, quality).sum() / total,
            "loss_box": _BOX_WEIGHT * (apart * quality[image, cell]).sum() / total,
            "iou": quality[taken].mean() if len(image) else total * 0,  # to be looked at
        }
        chosen = torch.randperm(len(image), device=image.device)[:_MASKS]
        losses["loss_mask"] = _MASK_WEIGHT * self._mask_loss(
            found, image[chosen], cell[chosen], masks[person[chosen]], points
        )
        return losses

    def _seen(self, images: Sequence[Image], people: Sequence[KnownPeople]) -> list[Tensor]:
        """Return the levels of all images (B, C, h, w), of some with people painted out as ``SAMDetector`` does it."""
        levels = list(self._levels([image for image, each in zip(images, people, strict=True) if not each.painted]))
        painted = [_painted(image, each.known) for image, each in zip(images, people, strict=True) if each.painted]
        again = iter(self._encoder.levels_at(painted, self._painted_side))
        whole = iter(levels)
        rows = [next(again) if each.painted else next(whole) for each in people]
        sizes = [(self._encoder.side // stride,) * 2 for stride in (4, 8, 16)]
        return [
            torch.cat([_sized(row[level].float(), size) for row in rows]).contiguous(memory_format=torch.channels_last)
            for level, size in enumerate(sizes)
        ]

    def _mask_loss(self, found: PeopleOutput, image: Tensor, cell: Tensor, masks: Tensor, points: Tensor) -> Tensor:
        """Return one minus the Dice coefficient of the masks of cells (N,) of images (N,), their mean."""
        if not len(image):
            return found.maps.sum() * 0 + found.kernels.sum() * 0
        losses = []
        for row in sorted(set(image.tolist())):
            own = image == row
            logits = self.network.draw(found.maps[row], found.kernels[row, cell[own]], points[cell[own]])
            target = F.adaptive_avg_pool2d(masks[own][:, None], (logits.shape[-2], logits.shape[-1]))[:, 0]
            drawn = logits.sigmoid()
            both, all_of = (drawn * target).sum((1, 2)), (drawn.square() + target.square()).sum((1, 2))
            losses.append(1 - 2 * both / all_of.clamp_min(1e-3))
        return torch.cat(losses).mean()


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, points: Tensor, people: KnownPeople, cell: float) -> tuple[Tensor, Tensor]:
    """Choose whom each of L cells is to answer for, by what they answer now: RTMDet's dynamic soft labels.

    Args:
        scores: logits (L,).
        boxes: (L, 4), as all coordinates in shares of the image.
        points: (L, 2), the middles of the cells.
        people: P of them; may be nobody.
        cell: width of a cell.

    Returns:
        Whose a cell is, int64 (L,), -1 for nobody, and the IoU of its box with that person's, 0 for nobody.
    """
    whose = torch.full_like(scores, -1, dtype=torch.int64)
    quality = torch.zeros_like(scores)
    if not len(people.boxes):
        return whose, quality
    overlaps = iou(boxes, people.boxes)
    x, y = points.unbind(1)
    left, top, right, bottom = people.boxes.unbind(1)
    inside = (x[:, None] > left) & (x[:, None] < right) & (y[:, None] > top) & (y[:, None] < bottom)
    distance = (points[:, None] - _middles(people.masks)).norm(dim=-1) / cell
    cost = _OVERLAP_COST * -(overlaps + 1e-7).log() + 10 ** (distance - _NEAR)
    cost = cost + _quality_focal(scores[:, None].expand_as(overlaps), overlaps)
    # Somebody smaller than a cell may have none inside; the nearest ones serve as well.
    cost = torch.where(inside | ~inside.any(0), cost, cost + 1e8)
    count = overlaps.topk(min(_CANDIDATES, len(overlaps)), dim=0).values.sum(0).int().clamp(min=1)
    rank = cost.argsort(dim=0).argsort(dim=0)
    cost = torch.where(rank < count, cost, torch.inf)
    lowest, owner = cost.min(dim=1)
    taken = lowest < torch.inf
    whose[taken] = owner[taken]
    quality[taken] = overlaps[taken, owner[taken]]
    return whose, quality


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the generalised IoU of boxes (N, 4) row by row, in [-1, 1]."""
    around = (torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])).prod(1)
    common = torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])
    both = common.clamp_min(0).prod(1)
    either = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1) - both
    return both / either.clamp_min(1e-7) - (around - either) / around.clamp_min(1e-7)


def _quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Return the cross-entropy with soft labels, weighted by how far the answer is from them squared."""
    distance = (logits.sigmoid() - quality).square()
    return F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * distance


def _middles(masks: Tensor) -> Tensor:
    """Return the centres of mass of masks (P, S, S), (P, 2), as shares of the side."""
    side = masks.shape[-1]
    places = (torch.arange(side, device=masks.device) + 0.5) / side
    whole = masks.sum((1, 2)).clamp_min(1e-6)
    return torch.stack(((masks.sum(1) * places).sum(1), (masks.sum(2) * places).sum(1)), dim=1) / whole[:, None]


def _painted(image: Image, known: Tensor) -> Image:
    mask = F.interpolate(known[None, None], (image.height, image.width), mode="nearest")[0, 0] > 0.5
    return Image(image.pixels.to(mask.device).masked_fill(mask[..., None], 0))


def _sized(level: Tensor, size: tuple[int, int]) -> Tensor:
    if level.shape[-2:] == size:
        return level
    return F.interpolate(level, size, mode="bilinear", align_corners=False)


@METRICS.register_module()
class BoxAP(BaseMetric):  # type: ignore[misc,unused-ignore]
    """COCO's AP of boxes and masks, in percent: "detector/bbox_AP", "detector/segm_AP" and their relatives."""

    default_prefix = "detector"

    def process(self, data_batch: Any, data_samples: Sequence[list[Annotation]]) -> None:
        """Keep the annotations of each image of a batch."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[list[Annotation]]) -> dict[str, float]:
        """Compare those of all images with the ground truth."""
        rows = [row for image in results for row in image]
        numbers: dict[str, float] = {}
        for kind in ("bbox", "segm"):
            found = evaluate_coco(self.dataset_meta["ground_truth"], to_results(rows, kind, "detection"), kind)
            named = {"AP": found.ap, "AP50": found.ap50, "AP75": found.ap75}
            numbers |= {f"{kind}_{name}": 100 * value for name, value in named.items() if value is not None}
        return numbers


def _annotations(image: Image, people: Detections, image_id: int | str) -> list[Annotation]:
    count, people = len(people), people.to("cpu")
    assert people.windows is not None
    masks = Masks(people.windows, torch.ones(count))
    none = Poses.empty(len(COCO_KEYPOINTS))
    zeros = torch.zeros(count, len(COCO_KEYPOINTS))
    poses = none if not count else Poses(zeros[..., None].expand(-1, -1, 2), zeros, zeros, zeros)
    whole = Instances(people, poses, masks, torch.ones(count, dtype=torch.int64))
    return to_annotations(whole, image_id, COCO_KEYPOINTS, exact=True)
