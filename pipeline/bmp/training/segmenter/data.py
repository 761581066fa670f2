"""People with masks and keypoints as samples of training: mixed from data sets, augmented. Knows no network.

A keypoint is where its data set says, x = 3 being the middle of column 3. In a ``Keypoints`` record, whose first pixel
ends at 1, it is half a pixel further, and ``PoseSAM`` takes that off again: so the network is prompted with exactly
what ``SAM2Segmenter`` prompts it with.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from mmengine.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import ColorJitter
from torchvision.transforms.v2.functional import resize, rgb_to_grayscale

from bmp import registry
from bmp.build import build_part
from bmp.config import ConfigSection
from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage, truly_posed
from bmp.errors import UserError
from bmp.io.annotations import Annotation, ImageRow, labelled_mask, labelled_people
from bmp.io.json_fields import are_numbers, expect, is_id, is_whole, read_json, rows_of, short
from bmp.io.segmentations import checked_segmentation, to_mask, to_run_lengths
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.openmmlab import Sample
from bmp.ops.masks import to_rle
from bmp.segmenters.point_sampling import Keypoints
from bmp.structures import Image, Poses
from bmp.training.segmenter.cache import image_key

_COUNT = len(COCO_KEYPOINTS)
_GREY = (124, 116, 104)  # what SAM 2's normalisation turns into zeros
_HIDDEN = 0.5  # visibility of a keypoint that is labelled although something covers it
_STAY = np.eye(2, 3)

Matrix = npt.NDArray[np.float64]
"""How pixels move, (2, 3): a linear part and a step."""


@dataclass(frozen=True, eq=False)
class PosedMasks:
    """The people of an image to train on.

    masks: bool (N, S, S), of the network's input. keypoints: of the same N people, in pixels of the masks.
    image_key: stands for the content of the image, None where it was augmented and will not be seen again.
    starts: like ``masks``, what a detector took for each of these people, empty for those it did not find; None where
    no detector was asked.
    """

    masks: Tensor
    keypoints: Keypoints
    image_key: str | None = None
    starts: Tensor | None = None

    def to(self, device: torch.device | str) -> PosedMasks:
        """Copy to ``device``."""
        starts = None if self.starts is None else self.starts.to(device)
        return replace(self, masks=self.masks.to(device), keypoints=self.keypoints.to(device), starts=starts)


@dataclass(frozen=True)
class Augmentation:
    """How images of training are varied, as SAM 2 is trained: keypoints and masks move along.

    flip: chance of a mirror image. rotation, shear: largest angles in degrees, to either side, about the middle of the
    image; what comes in from outside is grey. brightness, contrast, saturation: largest relative changes. grey: chance
    of an image without colours. jitter_before_grey: brightness, contrast and saturation once more: SAM 2 first changes
    all frames of a video alike, then some lose their colours, then each is changed by itself.
    """

    flip: float = 0.5
    rotation: float = 25.0
    shear: float = 20.0
    brightness: float = 0.1
    contrast: float = 0.05
    saturation: float = 0.05
    grey: float = 0.05
    jitter_before_grey: tuple[float, float, float] = (0.1, 0.03, 0.03)


@dataclass(frozen=True)
class Starts:
    """Chances that the mask a person starts from is made of the ground truth, and not the detector's.

    A network learns from true masks to copy them, from noisy ones how the image corrects them, and from the detector's
    which errors to expect.

    true: chance of the ground truth itself. noisy: chance of the ground truth with errors, those of ``NoisyMask`` with
    somebody else of the image as the neighbour. The rest starts from the detector's masks, or, where there is none,
    from nothing.
    """

    true: float = 0.0
    noisy: float = 0.0

    def __post_init__(self) -> None:
        if min(self.true, self.noisy) < 0 or self.true + self.noisy > 1:
            raise UserError(
                f"starts: expected chances from 0 whose sum is at most 1, got true={self.true} and noisy={self.noisy}"
            )

    def draw(self, ground_truth: Tensor, detected: Tensor | None) -> Tensor | None:
        """Choose of masks bool (N, H, W), and None for no detector's: such masks, empty for nothing, None for all."""
        if not self.true + self.noisy:
            return detected
        starts = torch.zeros_like(ground_truth) if detected is None else detected.clone()
        for row, chance in enumerate(torch.rand(len(ground_truth)).tolist()):
            if chance < self.true:
                starts[row] = ground_truth[row]
            elif chance < self.true + self.noisy:
                starts[row] = with_errors(ground_truth, row)
        return starts


def with_errors(masks: Tensor, row: int) -> Tensor:
    """Give one of the masks bool (N, H, W) a detector's errors: a part of another one, gaps, a moved outline."""
    from bmp.training.pose.transforms import NoisyMask  # imports mmpose

    others = [other for other in range(len(masks)) if other != row]
    noise = NoisyMask(none=0.0, neighbour=0.5, patches=0.3, rim=0.8)
    neighbours = [to_rle(masks[[other]])[0] for other in others]
    noisy = noise.transform({"mask": masks[row].numpy(), "neighbours": neighbours})["mask"]
    return torch.from_numpy(noisy)


class PosedPeople:
    """A data set whose people have poses: labelled ones, or those that an estimator found in the labelled boxes.

    Crowd regions are left out, and images without anybody.

    Args:
        dataset: config of a data set of ``bmp.registry.DATASETS``, or one.
        keypoints: file that ``python -m bmp.inference.keypoints`` wrote for it; None takes the labelled keypoints,
            where there are any. Masks that are in it (``--masks``) become those of the images' ``people``.
        min_area: people with a smaller mask, in square pixels, are left out.

    Raises:
        UserError: for a data set that cannot be had, and a file that is not of it.
    """

    def __init__(
        self,
        dataset: PeopleDataset | ConfigSection,
        keypoints: str | os.PathLike[str] | None = None,
        min_area: float = 0.0,
    ) -> None:
        self.dataset: PeopleDataset = (
            build_part(dataset, registry.DATASETS) if isinstance(dataset, Mapping) else dataset
        )
        labelled = self.dataset.keypoints
        if keypoints is None and labelled.names != COCO_KEYPOINTS.names:
            raise UserError(
                f"{self.dataset.name}: SAM is trained with COCO's keypoints, these are {labelled}; estimate COCO's "
                "with python -m bmp.inference.keypoints, and give them as keypoints"
            )
        people = {
            image_id: large
            for image_id, rows in self.dataset.people().items()
            if (large := [row for row in rows if row["area"] >= min_area])
        }
        self._people = people
        self._indices = [
            index for index, image in enumerate(self.dataset.ground_truth["images"]) if image["id"] in people
        ]
        self._estimates = None if keypoints is None else _Estimates(Path(keypoints), self.dataset)

    def __len__(self) -> int:
        """Return the number of images with people."""
        return len(self._indices)

    def entry(self, index: int) -> ImageRow:
        """Return the ground truth's entry of the image."""
        return self.dataset.ground_truth["images"][self._indices[index]]

    def load(self, index: int, rows: Sequence[int] | None = None) -> PosedImage:
        """Read an image; ``rows`` are the people that are wanted of it, all if None."""
        image = self.dataset.load(self._indices[index])
        people = self._people[self.entry(index)["id"]]
        chosen = people if rows is None else [people[row] for row in rows]
        if self._estimates is not None:
            people_found = replace(labelled_people(chosen), masks=self._estimates.masks(chosen, image))
            return PosedImage(image, chosen, people_found, self._estimates.poses(chosen))
        return truly_posed(image, chosen, _HIDDEN)

    def count(self, index: int) -> int:
        """Return how many people an image has."""
        return len(self._people[self.entry(index)["id"]])


class _Estimates:
    """The poses in a file of ``bmp.inference.keypoints`` as one tensor: lists would take ten times the room."""

    def __init__(self, path: Path, dataset: PeopleDataset) -> None:
        wanted = {row["id"]: row["image_id"] for rows in dataset.people().values() for row in rows}
        sizes = {image["id"]: (image["height"], image["width"]) for image in dataset.ground_truth["images"]}
        self._index: dict[int, int] = {}
        self._masks: dict[int, bytes] = {}  # a fraction of what the dicts would take
        values: list[Tensor] = []
        for location, row in _read_rows(path):
            if row["id"] in wanted and row["image_id"] == wanted[row["id"]]:
                self._index[row["id"]] = len(values)
                values.append(_values(location, row))
                if "segmentation" in row:
                    self._masks[row["id"]] = _mask(location, row["segmentation"], *sizes[row["image_id"]])
        missing = [number for number in wanted if number not in self._index]
        if missing:
            raise UserError(
                f"{path}: has no keypoints of {len(missing)} of the {len(wanted)} people in {dataset.name}, the first "
                f"is annotation {missing[0]}; make it from this data set with python -m bmp.inference.keypoints"
            )
        self._values = torch.stack(values) if values else torch.empty(0, _COUNT, 5)

    def poses(self, annotations: Sequence[Annotation]) -> Poses:
        values = self._values[[self._index[row["id"]] for row in annotations]]
        scores, visibility, presence = values[:, :, 2:].unbind(dim=2)
        return Poses(values[:, :, :2], scores, visibility, presence)

    def masks(self, annotations: Sequence[Annotation], image: Image) -> Tensor | None:
        """Return the masks of people in an image, bool (N, H, W), empty for those without; None if nobody has any."""
        if not self._masks:
            return None
        masks = torch.zeros(len(annotations), image.height, image.width, dtype=torch.bool)
        for mask, row in zip(masks, annotations, strict=True):
            if row["id"] in self._masks:
                size = [image.height, image.width]
                mask |= to_mask({"size": size, "counts": self._masks[row["id"]].decode()}, *size)
        return masks


_ORIGIN = "expected keypoints as python -m bmp.inference.keypoints writes them"


def _read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = read_json(path)
    if not isinstance(content, dict) or "annotations" not in content:
        raise UserError(f"{path}: {_ORIGIN}, got other JSON; run that first")
    for location, row in rows_of(path, content, "annotations"):
        expect(is_whole(row.get("id")) and is_id(row.get("image_id")), location, f"{_ORIGIN}, got {short(row)}")
        yield location, row


def _values(location: str, row: ConfigSection) -> Tensor:
    """Return x, y, score, visibility and presence of each keypoint, float32 (K, 5)."""
    points = row.get("keypoints")
    if not are_numbers(points, -1e6, 1e6) or len(points) != 3 * _COUNT:
        raise UserError(f"{location}: {_ORIGIN}, its keypoints are {short(points)}")
    columns = [points[0::3], points[1::3]]
    for name in ("keypoint_scores", "keypoint_visibility", "keypoint_presence"):
        column = row.get(name)
        if not are_numbers(column, 0, 1) or len(column) != _COUNT:
            raise UserError(f"{location}: {_ORIGIN}, its {name} are {short(column)}")
        columns.append(column)
    return torch.tensor(columns).T.contiguous()


def _mask(location: str, shape: object, height: int, width: int) -> bytes:
    """Return the compressed run lengths of a mask."""
    try:
        checked = checked_segmentation(shape, height, width)
    except ValueError as error:
        raise UserError(f"{location}: {error}") from None
    if checked is None:
        raise UserError(f"{location}: {_ORIGIN}, its segmentation is empty")
    return to_run_lengths(checked, height, width)["counts"].encode()


@DATASETS.register_module()
class PoseMaskDataset(Dataset):  # type: ignore[type-arg]
    """Samples for ``PoseSAM``: images, their people's masks and keypoints.

    A keypoint is available to samplers where it is labelled, or estimated with a presence of at least 0.5.

    Args:
        sources: by a name of one's choice, each a dict of ``dataset`` and ``keypoints`` as ``PosedPeople`` takes them,
            and ``weight``: how many times each of its images is seen in an epoch, 1 if not given. For a fraction,
            images are drawn anew each time.
        size: side of the network's square input; images are stretched to it, as ``SAM2Segmenter`` does.
        max_people: of a crowd, so many are drawn each time; None takes all.
        augment: arguments of ``Augmentation``; None leaves images as they are, and then they can be cached.
        min_area: people with a smaller mask, in square pixels, are left out.
        starts: what the mask is that a person starts from, see ``Starts``; None for the detector's, where there is one.

    Raises:
        UserError: for sources that cannot be had or have nobody, and for numbers out of their range.
    """

    def __init__(
        self,
        sources: Mapping[str, ConfigSection],
        size: int,
        max_people: int | None = 3,
        augment: ConfigSection | None = None,
        min_area: float = 10.0,
        starts: Mapping[str, float] | None = None,
    ) -> None:
        if size < 1 or (max_people is not None and max_people < 1):
            raise UserError(f"size, max_people: expected at least 1, got {size} and {max_people}")
        self._size = size
        self._max_people = max_people
        self._augmentation = None if augment is None else Augmentation(**augment)
        self._starts = Starts(**(starts or {}))
        self._sources: list[tuple[PosedPeople, int]] = []  # with how many samples of an epoch are its own
        for name, source in sources.items():
            arguments = dict(source)
            weight = arguments.pop("weight", 1.0)
            people = PosedPeople(**arguments, min_area=min_area)
            if weight < 0 or not len(people):
                raise UserError(f"sources.{name}: expected people and a weight from 0, got {len(people)} and {weight}")
            self._sources.append((people, round(weight * len(people))))

    @property
    def metainfo(self) -> dict[str, Any]:
        """What MMEngine wants to know of a dataset."""
        return {"classes": ("person",)}

    def __len__(self) -> int:
        """Return how many samples an epoch has."""
        return sum(share for _, share in self._sources)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample: ``inputs``, uint8 (3, S, S) RGB, and ``data_samples``, ``PosedMasks`` with somebody in it.

        All chance is from torch's generator.
        """
        people, place = self._find(index)
        count = people.count(place)
        rows = torch.randperm(count)[: self._max_people].sort().values.tolist()
        return self._sample(people.load(place, rows))

    def _find(self, index: int) -> tuple[PosedPeople, int]:
        """Return whose sample number ``index`` is, and which of its images."""
        for people, share in self._sources:
            if index < share:
                times, place = divmod(index, len(people))
                if (times + 1) * len(people) > share:  # not all images are seen once more
                    place = int(torch.randint(len(people), ()))
                return people, place
            index -= share
        raise IndexError(index)

    def _sample(self, posed: PosedImage) -> Sample:
        image, poses, augmentation = posed.image, posed.poses, self._augmentation
        ground_truth = torch.stack([labelled_mask(row, image) for row in posed.annotations])
        mirrored, move = (False, _STAY) if augmentation is None else _draw(augmentation, image)
        masks = _move_masks(ground_truth, move, self._size)
        if not masks.any():  # everybody was moved out of the image
            mirrored, move = False, _STAY
            masks = _move_masks(ground_truth, move, self._size)
        inputs = to_square(image.pixels if move is _STAY else _move_pixels(image.pixels, move), self._size)
        if augmentation is not None:
            inputs = recolour(inputs, augmentation)
        points = poses.keypoints @ poses.keypoints.new_tensor(move[:, :2]).T + poses.keypoints.new_tensor(move[:, 2])
        points = points * points.new_tensor([self._size / image.width, self._size / image.height])
        keypoints = Keypoints.of(replace(poses, keypoints=points))
        if mirrored:
            order = list(COCO_KEYPOINTS.flip_indices)
            keypoints = Keypoints(
                keypoints.points[:, order], keypoints.visibility[:, order], keypoints.available[:, order]
            )
        seen = masks.flatten(1).any(dim=1)
        key = image_key(inputs) if augmentation is None else None
        # A mask so small that stretching loses it: it is the only one, and the network learns that nobody is there.
        rows = seen if seen.any() else ~seen
        begun = self._starts.draw(ground_truth, posed.people.masks)
        starts = None if begun is None else _move_masks(begun, move, self._size)[rows]
        return {"inputs": inputs, "data_samples": PosedMasks(masks[rows], keypoints[rows], key, starts)}


def _draw(augmentation: Augmentation, image: Image) -> tuple[bool, Matrix]:
    """Draw whether the image is mirrored, and how its pixels move, that included: from old locations to new ones."""
    chance, turn, lean = torch.rand(3).tolist()
    turn, lean = (
        math.radians(limit * (2 * share - 1))
        for limit, share in ((augmentation.rotation, turn), (augmentation.shear, lean))
    )
    mirrored = chance < augmentation.flip
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = rotation @ np.array([[1.0, math.tan(lean)], [0.0, 1.0]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    middle = np.array([image.width - 1, image.height - 1]) / 2
    return mirrored, np.column_stack((linear, middle - linear @ middle))


def _move_pixels(pixels: Tensor, move: Matrix) -> Tensor:
    height, width = pixels.shape[:2]
    moved = cv2.warpAffine(pixels.numpy(), move, (width, height), borderValue=_GREY)
    return torch.from_numpy(moved)


def _move_masks(masks: Tensor, move: Matrix, size: int) -> Tensor:
    """Move masks bool (N, H, W) and stretch them to bool (N, size, size), in one step."""
    stretch = size / np.array(masks.shape[:0:-1], dtype=np.float64)
    # Pixels are counted from their middle, and the stretch leaves the image's edge where it is.
    both = np.column_stack((stretch[:, None] * move[:, :2], stretch * (move[:, 2] + 0.5) - 0.5))
    moved = [cv2.warpAffine(mask.numpy().astype(np.uint8) * 255, both, (size, size)) > 127 for mask in masks]
    return torch.from_numpy(np.stack(moved))


def to_square(pixels: Tensor, size: int) -> Tensor:
    """Stretch uint8 (H, W, 3) to uint8 (3, size, size), as ``SAM2Segmenter`` does but for the rounding."""
    stretched: Tensor = resize(pixels.permute(2, 0, 1).float(), [size, size], antialias=True)
    return stretched.round().clamp(0, 255).to(torch.uint8)


def recolour(image: Tensor, augmentation: Augmentation) -> Tensor:
    """Change the colours of uint8 (3, H, W) at random, as far as ``augmentation`` allows."""
    image = ColorJitter(*augmentation.jitter_before_grey)(image)
    if float(torch.rand(())) < augmentation.grey:
        image = rgb_to_grayscale(image, num_output_channels=3)
    changed: Tensor = ColorJitter(augmentation.brightness, augmentation.contrast, augmentation.saturation)(image)
    return changed
