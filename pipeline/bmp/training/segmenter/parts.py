"""SAM 2's image encoder as a network to train on part maps, before it draws masks. Knows no prompts.

Here every pixel of an image is a label, whereas a prompt teaches one mask only. An encoder that starts from random
weights learns people several times as fast as from prompts, and each step takes half the time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset

from bmp import registry
from bmp.build import build_part
from bmp.config import ConfigSection
from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.io.annotations import Annotation, labelled_mask
from bmp.label_sets import CIHP_PARTS
from bmp.label_sets.part_sets import CIHP
from bmp.models.openmmlab import Sample
from bmp.models.sam2 import build_sam2
from bmp.structures import Image
from bmp.training.segmenter.data import Augmentation, recolour, to_square
from bmp.training.segmenter.losses import dice_loss
from bmp.training.segmenter.model import PosePreprocessor

_STRIDE = 4  # of the encoder's finest level
_SIDES = 4
_FREE = 12  # components of a pixel's embedding beside the box of its person
_POINTS = 64  # random points of an image whose masks are compared
_MIRRORED = np.arange(256, dtype=np.uint8)  # of pixels that do not count, too
_MIRRORED[: len(CIHP)] = CIHP.flip_indices


@dataclass(frozen=True, eq=False)
class PartGroundTruth:
    """The labels of each pixel of an image.

    labels: int64 (h, w), the part, an index into ``CIHP_PARTS``. owners: int64 (h, w), the number of the labelled
    person, from 1; 0 is the background. sides: float32 (4, h, w), the distances to the left, upper, right and lower
    side of that person's box, as shares of the image; 0 for the background. aspect: width by height of the image before
    it was made square.
    """

    labels: Tensor
    owners: Tensor
    sides: Tensor
    aspect: float = 1.0

    def to(self, device: torch.device | str) -> PartGroundTruth:
        """Copy to ``device``."""
        return PartGroundTruth(self.labels.to(device), self.owners.to(device), self.sides.to(device), self.aspect)


@MODELS.register_module()
class PartEncoder(BaseModel):  # type: ignore[misc,unused-ignore]
    """SAM 2.1's image encoder with a linear layer on each of its levels, which classify pixels.

    Each pixel predicts its part and the distances to the sides of its person's box; the box tells two people apart
    whose parts look alike. With ``masks`` pixels are compared as well: those of one person learn equal boxes and
    embeddings, so that every point gives a mask, at no cost. The tensors of the whole SAM are below "sam.": with
    ``exported = "sam."`` in the config of a training, ``python -m bmp.training --export`` writes a checkpoint for
    ``PoseSAM`` to start from.

    Args:
        model: as for ``SAM2Segmenter``.
        checkpoint: the weights to start from, see ``bmp.checkpoints.sources.resolve``; "random" makes them up.
        sides: weight of the loss of the sides; that of the parts is 1.
        masks: weight of the loss of the masks of points.
    """

    def __init__(self, model: str, checkpoint: str = "random", sides: float = 5.0, masks: float = 0.0) -> None:
        network = build_sam2(model, checkpoint)
        super().__init__(data_preprocessor=PosePreprocessor(network.image_size))
        self.sam = network
        self.sam.image_encoder.requires_grad_(True)
        self._weights = {"sides": sides, "masks": masks}
        channels = network.image_encoder.neck.d_model
        outputs = len(CIHP_PARTS) + _SIDES + (2 * _FREE + _SIDES + 1 if masks else 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.heads = nn.ModuleList(nn.Conv2d(channels, outputs, 1) for _ in range(3))

    def forward(self, inputs: Tensor, data_samples: Sequence[PartGroundTruth], mode: str = "loss") -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            inputs: float32 (B, 3, S, S), normalised.
            data_samples: the labels of each image, at S / 4.
            mode: "loss"; no other exists.

        Returns:
            scalars: "loss_parts", a cross-entropy; "loss_sides", the mean error over the pixels of people; with
            ``masks`` also "loss_masks", see ``masks_of_points``.
        """
        if mode != "loss":
            raise ValueError(f"mode: expected 'loss', got {mode!r}; this network is for training only")
        labels, owners, sides = (
            torch.stack([getattr(ground_truth, name) for ground_truth in data_samples])
            for name in ("labels", "owners", "sides")
        )
        levels = self.sam.image_encoder(inputs)["backbone_fpn"]
        outputs = [
            F.interpolate(head(level), labels.shape[1:], mode="bilinear", align_corners=False)
            for head, level in zip(self.heads, levels, strict=True)
        ]
        output = torch.stack(outputs).sum(dim=0)
        logits, distances, pairs = output.tensor_split((len(CIHP_PARTS), len(CIHP_PARTS) + _SIDES), dim=1)
        people = owners > 0
        missed = (distances - sides).abs().mean(dim=1) * people
        losses = {
            "loss_parts": F.cross_entropy(logits, labels),
            "loss_sides": self._weights["sides"] * missed.sum() / people.sum().clamp(min=1),
        }
        if self._weights["masks"]:
            traits = torch.cat((_boxes(distances), pairs[:, :_FREE]), dim=1)
            masks = masks_of_points(traits.flatten(2), pairs[:, _FREE:].flatten(2), owners.flatten(1))
            losses["loss_masks"] = self._weights["masks"] * masks
        return losses


def _boxes(distances: Tensor) -> Tensor:
    """Turn distances to the sides (B, 4, h, w) into their coordinates, in tenths of the image."""
    height, width = distances.shape[2:]
    x = (torch.arange(width, device=distances.device) + 0.5).expand(height, width) / width
    y = (torch.arange(height, device=distances.device) + 0.5)[:, None].expand(height, width) / height
    left, top, right, bottom = distances.unbind(dim=1)
    return 10 * torch.stack((x - left, y - top, x + right, y + bottom), dim=1)


def masks_of_points(traits: Tensor, weights: Tensor, owners: Tensor) -> Tensor:
    """Compare the masks of random points on people with the ground truth.

    A pixel belongs to the mask of a point where their embeddings agree: the logit is a bias less the squared
    differences, weighted as the point's pixel predicts.

    Args:
        traits: float (B, T, P), the embeddings of all pixels.
        weights: float (B, T + 1, P), logarithms of the T weights, and the bias.
        owners: int64 (B, P), the number of the person, 0 for the background.

    Returns:
        cross-entropy plus dice loss, the mean over the images; 0 for an image without people.
    """
    losses = [(traits.sum() + weights.sum()) * 0]
    for trait, weight, owner in zip(traits, weights, owners, strict=True):
        people = owner > 0
        if not people.any():
            continue
        # As many points on a small person as on a large one.
        points = torch.multinomial(people / owner.bincount()[owner], _POINTS, replacement=True)
        scale, bias = weight[:-1, points].exp(), weight[-1, points]
        own = trait[:, points]
        squares = scale.T @ trait**2 - 2 * (scale * own).T @ trait + (scale * own**2).sum(dim=0)[:, None]
        masks = bias[:, None] - squares
        ground_truth = owner == owner[points][:, None]
        crossed = F.binary_cross_entropy_with_logits(masks, ground_truth.to(masks.dtype))
        losses.append(crossed + dice_loss(masks[:, None, None], ground_truth[:, None]).mean())
    return torch.stack(losses).sum() / len(owners)


@DATASETS.register_module()
class PartMaps(Dataset):  # type: ignore[type-arg]
    """Images with part maps, as ``python -m bmp.synthcrowd --extras`` writes them, or of data sets with labelled parts.

    Args:
        dataset: a data set of ``bmp.registry.DATASETS``, or its config; its masks are the people.
        parts: folder of PNG files, uint8 with CIHP's labels, named like the images; None for the data set's own
            labels, see ``PeopleDataset.parts``, in which 255 stands for pixels that do not count.
        size: side of the network's square input, a multiple of 4.
        augment: arguments of ``Augmentation``, without rotation and shear.

    Raises:
        UserError: for a data set that cannot be had, and images without a part map.
    """

    def __init__(
        self,
        dataset: PeopleDataset | ConfigSection,
        parts: str | os.PathLike[str] | None,
        size: int,
        augment: ConfigSection,
    ) -> None:
        self._augmentation = Augmentation(
            **{"rotation": 0.0, "shear": 0.0, "jitter_before_grey": (0.0, 0.0, 0.0), **augment}
        )
        if self._augmentation.rotation or self._augmentation.shear:
            raise UserError("augment: part maps can be mirrored only; leave rotation and shear out")
        self._dataset: PeopleDataset = (
            build_part(dataset, registry.DATASETS) if isinstance(dataset, Mapping) else dataset
        )
        self._parts: list[Path] = []
        if parts is not None:
            names = (Path(self._dataset.file_name(index)).stem for index in range(len(self._dataset)))
            self._parts = [Path(parts) / f"{name}.png" for name in names]
        elif self._dataset.part_set is None:
            raise UserError(f"{self._dataset.name}: expected labelled parts, found none; give the folder of their maps")
        if missing := [file for file in self._parts if not file.is_file()]:
            raise UserError(
                f"{missing[0]}: expected the part map of an image, found none; make the data set with "
                "python -m bmp.synthcrowd --extras"
            )
        self._people = self._dataset.people()
        self._size = size

    @property
    def metainfo(self) -> dict[str, Any]:
        """The metadata that MMEngine reads."""
        return {"classes": CIHP_PARTS}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample: ``inputs``, uint8 (3, S, S) RGB, and ``data_samples``, a ``PartGroundTruth`` at S / 4."""
        image = self._dataset.load(index)
        rows = self._people.get(self._dataset.ground_truth["images"][index]["id"], [])
        owners, boxes = _owners(rows, image)
        if self._parts:
            labels: Any = cv2.imread(str(self._parts[index]), cv2.IMREAD_UNCHANGED)
            if labels is None:
                raise UserError(f"{self._parts[index]}: not a picture; make the data set anew")
        else:
            labelled = self._dataset.parts(index)
            labels, owners = labelled.labels.numpy(), labelled.owners.numpy().astype(np.uint8)
        pixels = to_square(image.pixels, self._size)
        if float(torch.rand(())) < self._augmentation.flip:
            pixels, labels, owners = pixels.flip(2), _MIRRORED[labels[:, ::-1]], owners[:, ::-1]
            boxes[:, [0, 2]] = 1 - boxes[:, [2, 0]]
        side = self._size // _STRIDE
        labels, owners = (
            cv2.resize(np.ascontiguousarray(values), (side, side), interpolation=cv2.INTER_NEAREST)
            for values in (labels, owners)
        )
        return {
            "inputs": recolour(pixels, self._augmentation),
            "data_samples": PartGroundTruth(
                torch.from_numpy(labels.astype(np.int64)),
                torch.from_numpy(owners.astype(np.int64)),
                _sides(owners, boxes),
                image.width / image.height,
            ),
        }


def _owners(rows: Sequence[Annotation], image: Image) -> tuple[Any, Any]:
    """Return the owner of each pixel, uint8 (H, W), and boxes xyxy (N + 1, 4) as shares of the image, by owner."""
    owners = np.zeros((image.height, image.width), np.uint8)
    boxes = np.zeros((len(rows) + 1, 4), np.float32)
    for number, row in enumerate(rows, 1):
        owners[labelled_mask(row, image).numpy()] = number
        x, y, width, height = row["bbox"]
        boxes[number] = x, y, x + width, y + height
    return owners, boxes / np.array([image.width, image.height] * 2, np.float32)


def _sides(owners: Any, boxes: Any) -> Tensor:
    centres = (np.arange(len(owners), dtype=np.float32) + 0.5) / len(owners)
    x, y = centres[None], centres[:, None]
    left, top, right, bottom = np.moveaxis(boxes[owners], 2, 0)
    sides = np.stack([x - left, y - top, right - x, bottom - y]) * (owners > 0)
    return torch.from_numpy(sides.astype(np.float32))
