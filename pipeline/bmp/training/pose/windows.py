"""People of whole images with a window each, for networks that read an image's features; it knows no network.

All people of an image are made together: windows, crops, errors of masks and targets are tensors with a row a person.
Randomness comes from torch's generator, which a ``PositionedDataset`` seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
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
from bmp.datasets.posed import PosedImage, truly_posed
from bmp.errors import UserError
from bmp.io.annotations import Annotation, labelled_mask, labelled_people
from bmp.models.samp import grid_points, sample
from bmp.ops.boxes import fit_aspect, iou
from bmp.structures import Image

_PADDING = 1.25
_VISIBLE = 2


@dataclass(frozen=True, eq=False)
class PeopleWindows:
    """The people of an image to train on, P of them.

    centers, sizes: float32 (P, 2), the windows in pixels of the image. turns: float32 (P,), in radians, clockwise.
    crops: uint8 (P, 4, H, W), RGB and the person's mask with a detector's errors, 255 inside. locations: float32
    (P, K, 2), the keypoints in the window, its edges being 0 and 1. flags: int64 (P, K), COCO's: 0 not labelled,
    1 hidden, 2 visible.
    """

    centers: Tensor
    sizes: Tensor
    turns: Tensor
    crops: Tensor
    locations: Tensor
    flags: Tensor

    def to(self, device: torch.device | str) -> PeopleWindows:
        """Copy to ``device``."""
        return PeopleWindows(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})


@dataclass(frozen=True)
class WindowJitter:
    """How windows and crops are varied.

    shift: largest step in either direction, as a share of the window; it moves labelled keypoints out, from which the
    presence is learned. scale: of the window's size, least and greatest. turn: largest angle in degrees, and turned:
    the chance of one. brightness, contrast: largest relative changes of a crop.
    """

    shift: float = 0.16
    scale: tuple[float, float] = (0.7, 1.3)
    turn: float = 40.0
    turned: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3


@dataclass(frozen=True)
class MaskErrors:
    """Chances of the errors that a detector's mask has; those of ``NoisyMask``, on crops of many people at once.

    none: no mask at all. neighbour: a part of somebody else's mask added. patches: up to three ellipses missing.
    rim: an outline that is too wide or too narrow everywhere.
    """

    none: float = 0.1
    neighbour: float = 0.2
    patches: float = 0.3
    rim: float = 0.6

    def apply(self, masks: Tensor, others: Tensor) -> Tensor:
        """Give masks float (P, h, w) in [0, 1] errors; a mask that would become empty stays as it is.

        others: float (P, h, w), what there is of a neighbour, zero for somebody without.
        """
        people, height, width = masks.shape
        x = torch.linspace(0, 1, width)
        y = torch.linspace(0, 1, height)[:, None]

        def happens(chance: float) -> Tensor:
            return (torch.rand(people) < chance)[:, None, None]

        first, last = torch.rand(2, people, 2).sort(dim=0).values[..., None, None]
        rectangle = (x >= first[:, 0]) & (x <= last[:, 0]) & (y >= first[:, 1]) & (y <= last[:, 1])
        noisy = torch.where(happens(self.neighbour) & rectangle, torch.maximum(masks, others), masks)
        middle = torch.rand(people, 3, 2) * 0.8 + 0.1
        radius = torch.rand(people, 3, 2) * 0.15 + 0.02
        apart = ((x - middle[..., :1, None]) / radius[..., :1, None]) ** 2
        apart = apart + ((y - middle[..., 1:, None]) / radius[..., 1:, None]) ** 2
        apart[torch.rand(people, 3) > torch.tensor([1.0, 0.67, 0.33])] = 2.0
        noisy = torch.where(happens(self.patches) & (apart < 1).any(1), 0, noisy)
        reach = 2 * int(torch.randint(1, 6, ())) + 1
        blurred = F.avg_pool2d(noisy[:, None], reach, 1, reach // 2)[:, 0]
        moved = (blurred > torch.rand(people)[:, None, None] * 0.9 + 0.05).float()
        noisy = torch.where(happens(self.rim), moved, noisy)
        noisy = torch.where(noisy.flatten(1).amax(1)[:, None, None] > 0.5, noisy, masks)
        return torch.where(happens(self.none), 1, noisy)


@DATASETS.register_module()
class WindowedPeople(Dataset):  # type: ignore[type-arg]
    """Whole images and their people's windows, varied at random.

    Args:
        dataset: a data set of ``bmp.registry.DATASETS``, or its config, whose people have keypoints and masks.
        crop: height and width of the crops.
        jitter: arguments of ``WindowJitter``.
        errors: arguments of ``MaskErrors``.
        limit: only so many images, the first ones that have people with keypoints; None for all.
        flip: chance of a mirrored image. Its features are others than those of the image, so a cache holds both.

    Raises:
        UserError: for a data set that cannot be had or in which nobody has keypoints.
    """

    def __init__(
        self,
        dataset: PeopleDataset | ConfigSection,
        crop: tuple[int, int],
        jitter: ConfigSection | None = None,
        errors: ConfigSection | None = None,
        limit: int | None = None,
        flip: float = 0.0,
    ) -> None:
        self._images = _PosedPhotos(dataset, limit)
        self._crop = tuple(crop)
        self._jitter = WindowJitter(**(jitter or {}))
        self._errors = MaskErrors(**(errors or {}))
        self._flip = flip

    @property
    def metainfo(self) -> dict[str, Any]:
        """The metadata that MMEngine reads."""
        return {"classes": ("person",)}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``inputs``, an ``Image``, and ``data_samples``, the ``PeopleWindows`` of it."""
        image, rows = self._images.load(index)
        boxes = labelled_people(rows).boxes
        masks = torch.stack([labelled_mask(row, image) for row in rows])
        labels = torch.tensor([row["keypoints"] for row in rows], dtype=torch.float32).reshape(len(rows), -1, 3)
        keypoints, flags = labels[..., :2], labels[..., 2].long()
        if float(torch.rand(())) < self._flip:
            image, masks = Image(image.pixels.flip(1)), masks.flip(2)
            boxes = boxes * torch.tensor([-1, 1, -1, 1]) + torch.tensor([image.width, 0, image.width, 0])
            boxes = boxes[:, [2, 1, 0, 3]]
            order = list(self._images.flip_indices)
            keypoints = keypoints[:, order] * torch.tensor([-1, 1]) + torch.tensor([image.width - 1, 0])
            flags = flags[:, order]
        posed = (flags > 0).any(1)
        return {
            "inputs": image,
            "data_samples": self._windows(image, boxes, masks, keypoints, flags, posed),
        }

    def _windows(
        self, image: Image, boxes: Tensor, masks: Tensor, keypoints: Tensor, flags: Tensor, posed: Tensor
    ) -> PeopleWindows:
        height, width = self._crop
        centers, sizes = fit_aspect(boxes, width / height, _PADDING)
        people, jitter = len(boxes), self._jitter
        centers = centers + sizes * (torch.rand(people, 2) * 2 - 1) * jitter.shift * (torch.rand(people, 1) < 0.5)
        sizes = sizes * (torch.rand(people, 1) * (jitter.scale[1] - jitter.scale[0]) + jitter.scale[0])
        turns = (torch.rand(people) * 2 - 1) * math.radians(jitter.turn) * (torch.rand(people) < jitter.turned)
        points = grid_points(centers, sizes, height, width, turns)
        colours = sample(image.pixels.permute(2, 0, 1)[None].float(), points, image.height, image.width)
        colours = self._recoloured(colours)
        places = points * points.new_tensor((2 / image.width, 2 / image.height)) - 1
        overlap = iou(boxes, boxes).fill_diagonal_(0)
        # Somebody whose box overlaps; one of several at random.
        nearest = (overlap.sign() * (torch.rand(people, people) + 0.1)).argmax(1)
        alone = overlap.amax(1) == 0
        both = torch.stack((masks, masks[nearest] & ~alone[:, None, None]), dim=1).float()
        own, others = F.grid_sample(both, places, align_corners=False).unbind(1)
        noisy = self._errors.apply(own, others)
        return PeopleWindows(
            centers[posed],
            sizes[posed],
            turns[posed],
            torch.cat((colours, noisy[:, None] * 255), dim=1).round().clamp(0, 255).to(torch.uint8)[posed],
            _in_windows(keypoints, centers, sizes, turns)[posed],
            flags[posed],
        )

    def _recoloured(self, crops: Tensor) -> Tensor:
        """Change brightness and contrast of crops float (P, 3, H, W), each by its own factors."""

        def factors(most: float) -> Tensor:
            return 1 + (torch.rand(len(crops), 1, 1, 1) * 2 - 1) * most

        mean = crops.mean((1, 2, 3), keepdim=True)
        return ((crops - mean) * factors(self._jitter.contrast) + mean) * factors(self._jitter.brightness)


@DATASETS.register_module()
class PosedCrowds(Dataset):  # type: ignore[type-arg]
    """Images as they are with the labelled boxes and masks of everybody, for a pose estimator to be validated on.

    Args:
        dataset: see ``WindowedPeople``.
        limit: likewise.
    """

    def __init__(self, dataset: PeopleDataset | ConfigSection, limit: int | None = None) -> None:
        self._images = _PosedPhotos(dataset, limit)

    @property
    def metainfo(self) -> dict[str, Any]:
        """For ``PoseAP``: ``ground_truth``, the COCO dict of these images."""
        return {"classes": ("person",), "ground_truth": self._images.ground_truth}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, PosedImage]:
        """Return the image as ``inputs``."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        image, rows = self._images.load(index)
        posed = truly_posed(image, rows, hidden=0.5)
        masks = torch.stack([labelled_mask(row, image) for row in rows])
        return {"inputs": replace(posed, people=replace(posed.people, masks=masks))}


class _PosedPhotos:
    """The images of a data set in which somebody has keypoints, and everybody in them who has a mask and keypoints."""

    def __init__(self, dataset: PeopleDataset | ConfigSection, limit: int | None) -> None:
        self._dataset: PeopleDataset = (
            build_part(dataset, registry.DATASETS) if isinstance(dataset, Mapping) else dataset
        )
        self.flip_indices = self._dataset.keypoints.flip_indices
        people = {
            image_id: [row for row in rows if row.get("keypoints") and row.get("segmentation")]
            for image_id, rows in self._dataset.people().items()
        }
        images = self._dataset.ground_truth["images"]
        posed = [
            index
            for index, image in enumerate(images)
            if any(any(row["keypoints"][2::3]) for row in people.get(image["id"], ()))
        ]
        self._indices = posed[:limit]
        if not self._indices:
            raise UserError(f"{self._dataset.name}: nobody has both keypoints and a mask; choose another data set")
        self._people = people

    @property
    def ground_truth(self) -> Any:
        whole = self._dataset.ground_truth
        images = [whole["images"][index] for index in self._indices]
        known = {image["id"] for image in images}
        rows = [row for row in whole["annotations"] if row["image_id"] in known]
        return {**whole, "images": images, "annotations": rows}

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, index: int) -> tuple[Image, list[Annotation]]:
        place = self._indices[index]
        return self._dataset.load(place), self._people[self._dataset.ground_truth["images"][place]["id"]]


def _in_windows(keypoints: Tensor, centers: Tensor, sizes: Tensor, turns: Tensor) -> Tensor:
    """Return where keypoints (P, K, 2) lie in their windows, whose edges are 0 and 1."""
    x, y = (keypoints - centers[:, None]).unbind(-1)
    cosine, sine = turns.cos()[:, None], turns.sin()[:, None]
    upright = torch.stack((cosine * x + sine * y, cosine * y - sine * x), dim=-1)
    return upright / sizes[:, None] + 0.5
