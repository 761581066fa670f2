"""Decides who is who: people who were followed against people who were found. Knows no stage, no picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.ops import boxes, masks
from bmp.ops.oks import oks
from bmp.registry import IDENTITIES
from bmp.structures import Instances, Record, TrackedPeople, column
from bmp.tracking.appearance import LOOK_SIZE, alike

_CONFIDENT = 0.3  # score from which a keypoint is compared


@dataclass(frozen=True, eq=False)
class RetiredPeople(Record):
    """Those who are followed no more: ids int64 (R,), looks float32 (R, B), the last of them last."""

    ids: Tensor = column("N", dtype=torch.int64)
    looks: Tensor = column("N", "B", low=0.0)

    @classmethod
    def empty(cls) -> RetiredPeople:
        """Nobody."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(0, LOOK_SIZE))


@IDENTITIES.register_module()
@dataclass(frozen=True)
class Identities:
    """The rules by which people keep their identity.

    threshold: similarity below which two are not the same. lead: how far the best candidate for somebody who was lost
    has to lead the second. same_look: overlap of colours from which somebody who is gone from where they were supposed
    to be, or who was retired, may be back; above 1 nobody comes back by colours. same_pose, same_mask: OKS and mask IoU
    above which two people of one frame are one person. memory: how many retired people are remembered.

    Raises:
        UserError: for values that make no sense.
    """

    threshold: float = 0.3
    lead: float = 0.1
    same_look: float = 0.85
    same_pose: float = 0.8
    same_mask: float = 0.7
    memory: int = 100

    def __post_init__(self) -> None:
        for name in ("threshold", "lead", "same_pose", "same_mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"Identities: {name}: expected a number in [0, 1], got {getattr(self, name)}")
        if self.memory < 0:
            raise UserError(f"Identities: memory: expected 0 or more, got {self.memory}")

    def match(self, tracked: TrackedPeople, found: Instances, looks: Tensor, sigmas: Tensor) -> Tensor:
        """Return which row of ``tracked`` each person ``found`` is, int64 (M,), -1 for nobody.

        Similarity is half OKS, half IoU of the masks, or of the boxes where one has no mask. For somebody who is lost
        the overlap of the colours stands for the IoU, and counts only for a candidate who leads all others by
        ``lead``. The pairs are those of the Hungarian method; in a tie the lower id goes first.

        Args:
            tracked: in the frame; those who are lost where they are supposed to be.
            found: in the same frame.
            looks: float32 (M, B), of those found.
            sigmas: float32 (K,), falloffs of the keypoints.
        """
        from scipy.optimize import linear_sum_assignment  # takes half a second, which photos do without

        matched = torch.full((len(found),), -1, dtype=torch.int64)
        if not len(found) or not len(tracked):
            return matched
        order = tracked.ids.argsort()
        tracked = tracked[order]
        poses = pose_similarity(tracked.instances, found, sigmas).cpu()
        here = (poses + overlap(tracked.instances, found).cpu()) / 2
        colours = alike(tracked.looks.cpu(), looks.cpu())
        lost = ~tracked.present.cpu()[:, None]
        # Far from where somebody is supposed to be, the colours alone have to tell.
        possible = (colours >= self.same_look) | (poses >= self.threshold)
        supposed = self._leading(((poses + colours) / 2).where(possible & lost, torch.zeros(())))
        similarity = torch.where(lost, supposed, here)
        similarity[similarity < self.threshold] = 0
        first = 1e-9 * torch.arange(len(tracked), dtype=torch.float64)[:, None]
        rows, columns = linear_sum_assignment((first - similarity.double()).numpy())
        for row, column_ in zip(rows.tolist(), columns.tolist(), strict=True):
            if similarity[row, column_] > 0:
                matched[column_] = int(order[row])
        return matched

    def recognise(self, retired: RetiredPeople, looks: Tensor) -> Tensor:
        """Return which row of ``retired`` each person with these looks (M, B) is, int64 (M,), -1 for nobody.

        The colours have to agree, and better than those of anybody else on either side by ``lead``.
        """
        colours = alike(retired.looks, looks.cpu())
        clear = self._leading(colours.where(colours >= self.same_look, torch.zeros(())), colours)
        clear = self._leading(clear.T, colours.T).T
        best = clear.amax(dim=0) if len(retired) else torch.zeros(len(looks))
        return clear.argmax(dim=0).where(best > 0, -1) if len(retired) else torch.full((len(looks),), -1)

    def duplicates(self, people: Instances, known: Instances, sigmas: Tensor) -> Tensor:
        """Say which of ``people`` are somebody of ``known`` once more: bool (N,)."""
        if not len(people) or not len(known):
            return torch.zeros(len(people), dtype=torch.bool)
        same = pose_similarity(known, people, sigmas) > self.same_pose
        same |= masks.iou(known.masks.bits, people.masks.bits) > self.same_mask
        return same.any(dim=0).cpu()

    def slipped(self, people: TrackedPeople, drawn: Tensor) -> Tensor:
        """Say which of the people followed have slipped onto another of them: bool (N,).

        Of people whose new masks are the same, the one whose mask has changed least is there, in a tie the lower id.

        Args:
            people: with the masks of the frame before, where these have moved to.
            drawn: bool (N, H, W), their new masks, before pixels are shared out.
        """
        same = (masks.iou(drawn, drawn) > self.same_mask).cpu()
        before = people.instances.masks.bits
        either = (before | drawn).flatten(1).sum(dim=1).clamp(min=1)
        kept = ((before & drawn).flatten(1).sum(dim=1) / either).tolist()
        ids, slipped = people.ids.tolist(), torch.zeros(len(people), dtype=torch.bool)
        there: list[int] = []
        for row in sorted(range(len(people)), key=lambda row: (-kept[row], ids[row])):
            slipped[row] = bool(same[row, there].any())
            if not slipped[row]:
                there.append(row)
        return slipped

    def remember(self, retired: RetiredPeople, people: TrackedPeople) -> RetiredPeople:
        """Add people to those who are retired; the earliest are forgotten where they are too many."""
        everybody = RetiredPeople.concat([retired, RetiredPeople(people.ids.cpu(), people.looks.cpu())])
        return everybody[max(0, len(everybody) - self.memory) :]

    def _leading(self, similarity: Tensor, among: Tensor | None = None) -> Tensor:
        """Keep of each column of (N, M) the largest value if it leads the second of ``among`` by enough; else zeros."""
        among = similarity if among is None else among
        if len(similarity) < 2:
            return similarity
        best = among.topk(2, dim=0)
        leads = best.values[0] - best.values[1] >= self.lead
        kept = torch.zeros_like(similarity, dtype=torch.bool).scatter(0, best.indices[:1], leads[None])
        return similarity.where(kept, torch.zeros(()))


def pose_similarity(known: Instances, found: Instances, sigmas: Tensor) -> Tensor:
    """Return the OKS of each of (N) known people with each of (M) found ones, over confident keypoints: (N, M)."""
    confident = known.poses.scores > _CONFIDENT
    confident |= ~confident.any(dim=1, keepdim=True)
    return oks(
        known.poses.keypoints,
        found.poses.keypoints,
        boxes.area(known.detections.boxes),
        sigmas.to(known.device),
        confident,
    )


def overlap(known: Instances, found: Instances) -> Tensor:
    """Return the IoU of masks (N, M), or that of the boxes where one of two people has no mask."""
    by_mask = masks.iou(known.masks.bits, found.masks.bits)
    there, here = (people.masks.bits.flatten(1).any(dim=1) for people in (known, found))
    return by_mask.where(there[:, None] & here[None], boxes.iou(known.detections.boxes, found.detections.boxes))
