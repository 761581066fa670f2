"""Crowds some of whose people are known already, for a detector that takes them out of features; it knows no network.

All people of an image are made together: a row a person, without a loop over them. Randomness comes from torch's
generator, which a ``PositionedDataset`` seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from bmp import registry
from bmp.build import build_part
from bmp.config import ConfigSection
from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.io.annotations import Annotation, labelled_mask, labelled_people
from bmp.ops.boxes import iou
from bmp.ops.masks import to_boxes
from bmp.structures import Image
from bmp.training.pose.windows import MaskErrors


@dataclass(frozen=True, eq=False)
class KnownPeople:
    """The people of an image for a detector to be trained on, in shares of the image's sides.

    boxes: float32 (P, 4), xyxy, of those that are to be found, without what is known. masks: float32 (P, S, S), 0 or 1,
    of the whole image stretched to a square. known: float32 (S, S), 0 or 1, where the others are, with the errors of a
    segmenter. painted: whether those are to be painted out of the picture, and not out of its features.
    """

    boxes: Tensor
    masks: Tensor
    known: Tensor
    painted: bool

    def to(self, device: torch.device | str) -> KnownPeople:
        """Copy to ``device``."""
        return KnownPeople(self.boxes.to(device), self.masks.to(device), self.known.to(device), self.painted)


@DATASETS.register_module()
class PartlyKnownCrowds(Dataset):  # type: ignore[type-arg]
    """Whole images and the people that are to be found in them, while others are known already, as in the loop.

    How many are known is drawn from one to all; those with larger masks are more likely to be chosen, since people in
    front are found first. What is known of the others is taken from their masks and boxes.

    Args:
        dataset: a data set of ``bmp.registry.DATASETS``, or its config, whose people have masks.
        side: S of the masks in pixels.
        probability: that anybody is known in an image.
        painted: share of these images in which they are painted out of the picture.
        errors: arguments of ``MaskErrors``: what is wrong with the masks of those known. None of them is missing.
        least_pixels: people with fewer pixels of S x S left are not to be found.
        least_share: nor are those who keep less than this share of their mask.
        limit: only so many images, the first ones with people; None for all.

    Raises:
        UserError: for a data set that cannot be had or in which nobody has a mask.
    """

    def __init__(
        self,
        dataset: PeopleDataset | ConfigSection,
        side: int = 160,
        probability: float = 0.5,
        painted: float = 0.0,
        errors: ConfigSection | None = None,
        least_pixels: int = 8,
        least_share: float = 0.3,
        limit: int | None = None,
    ) -> None:
        self._dataset: PeopleDataset = (
            build_part(dataset, registry.DATASETS) if isinstance(dataset, Mapping) else dataset
        )
        rows = self._dataset.people()
        self._people = {image_id: [row for row in each if row.get("segmentation")] for image_id, each in rows.items()}
        images = self._dataset.ground_truth["images"]
        self._indices = [index for index, image in enumerate(images) if self._people.get(image["id"])][:limit]
        if not self._indices:
            raise UserError(f"{self._dataset.name}: nobody has a mask; choose another data set")
        self._side = side
        self._probability = probability
        self._painted = painted
        self._errors = MaskErrors(**{"none": 0.0, **(errors or {})})
        self._least_pixels = least_pixels
        self._least_share = least_share

    @property
    def metainfo(self) -> dict[str, Any]:
        """The metadata that MMEngine reads; without known people with ``ground_truth``, the COCO dict for ``BoxAP``."""
        if self._probability:
            return {"classes": ("person",)}  # checkpoints have the metadata of what was trained on
        whole = self._dataset.ground_truth
        images = [whole["images"][index] for index in self._indices]
        known = {image["id"] for image in images}
        rows = [row for row in whole["annotations"] if row["image_id"] in known]
        return {"classes": ("person",), "ground_truth": {**whole, "images": images, "annotations": rows}}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``inputs``, an ``Image``, and ``data_samples``: the ``KnownPeople``, or its id where nobody is."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = self._indices[index]
        image, image_id = self._dataset.load(place), self._dataset.ground_truth["images"][place]["id"]
        if not self._probability:
            return {"inputs": image, "data_samples": image_id}
        return {"inputs": image, "data_samples": self._known(image, self._people[image_id])}

    def _known(self, image: Image, rows: list[Annotation]) -> KnownPeople:
        boxes = labelled_people(rows).boxes / torch.tensor([image.width, image.height] * 2)
        whole = torch.stack([labelled_mask(row, image) for row in rows]).float()
        masks = F.adaptive_avg_pool2d(whole[None], (self._side, self._side))[0].gt(0.5)
        areas = masks.flatten(1).sum(1)
        left = masks
        known = torch.zeros(self._side, self._side, dtype=torch.bool)
        stays = areas > 0
        if float(torch.rand(())) < self._probability and bool(stays.any()):
            count = int(torch.randint(1, int(stays.sum()) + 1, ()))
            chosen = torch.multinomial(areas.float(), count)
            known = self._errors.apply(masks.float(), self._neighbours(boxes, masks).float())[chosen].gt(0.5).any(0)
            left = masks & ~known
            remaining = left.flatten(1).sum(1)
            stays = remaining >= (areas * self._least_share).clamp(min=self._least_pixels)
            stays[chosen] = False
            shrunk = remaining < areas
            boxes = torch.where(shrunk[:, None], to_boxes(left) / self._side, boxes)
        painted = bool(known.any()) and float(torch.rand(())) < self._painted
        return KnownPeople(boxes[stays], left[stays].float(), known.float(), painted)

    @staticmethod
    def _neighbours(boxes: Tensor, masks: Tensor) -> Tensor:
        """Return for each person the mask of one whose box overlaps, one of several at random, or none."""
        overlap = iou(boxes, boxes).fill_diagonal_(0)
        nearest = (overlap.sign() * (torch.rand(overlap.shape) + 0.1)).argmax(1)
        return masks[nearest] & (overlap.amax(1) > 0)[:, None, None]
