"""Images of a data set with a pose for everybody labelled in them; knows no network and no metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.io.annotations import Annotation, labelled_people, labelled_poses
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.ops.boxes import iou
from bmp.stages import Detector
from bmp.structures import Detections, Image, Poses

_SAME_PERSON = 0.5  # IoU of a labelled and a detected box


@dataclass(frozen=True, eq=False)
class PosedImage:
    """An image and everybody labelled in it, at least one person, in the order of the annotations.

    annotations: of the ground truth, a row each. people: the labelled boxes with score 1, without masks. poses: those
    that guide the segmenter. unlabelled: bool (N, K), keypoints of unknown location, which must not become prompts;
    None where the poses are estimates. keypoints: what those of the poses mean.
    """

    image: Image
    annotations: list[Annotation]
    people: Detections
    poses: Poses
    unlabelled: Tensor | None = None
    keypoints: KeypointSet = COCO_KEYPOINTS


def true_poses(dataset: PeopleDataset, hidden: float = 0.5, image_batch: int = 4) -> Iterator[list[PosedImage]]:
    """Take the labelled keypoints for poses (paper Table 3), ``image_batch`` images at a time.

    Labels have a flag in place of probabilities. A keypoint labelled as seen (v = 2) gets visibility 1, one labelled
    although hidden (v = 1) visibility ``hidden``, both score and presence 1. All others get 0 for all three and are
    not to be prompted with: the prompter needs a threshold above 0, as ``MaxSpread(count=3)``, the paper's choice,
    has. People without labelled keypoints stay: without a prompt they get an empty mask of score 0
    and counts as missed.

    Args:
        dataset: in which at least one person has labelled keypoints.
        hidden: in [0, 1]. 0.5 lets ``MaxSpread`` use keypoints that another body may cover, after the visible ones
            and above its threshold of 0.3; 0 leaves them out.
        image_batch: images that are loaded at a time.

    Raises:
        UserError: no person has labelled keypoints, or ``hidden`` is out of range.
        ImageError: an image is broken.
    """
    if not 0 <= hidden <= 1:
        raise UserError(f"hidden: expected the visibility of a hidden keypoint in [0, 1], got {hidden}")
    if not any(annotation.get("num_keypoints", 0) for annotation in dataset.ground_truth["annotations"]):
        raise UserError(f"{dataset.name}: nobody has labelled keypoints; choose another data set or estimated poses")
    for batch in labelled_images(dataset, image_batch):
        yield [truly_posed(image, annotations, hidden, dataset.keypoints) for image, annotations in batch]


def labelled_images(dataset: PeopleDataset, size: int) -> Iterator[list[tuple[Image, list[Annotation]]]]:
    """Yield the images that have people, loaded, with these people's annotations, ``size`` images at a time."""
    if size < 1:
        raise UserError(f"image_batch: expected at least 1, got {size}")
    people = dataset.people()
    ids = [entry["id"] for entry in dataset.ground_truth["images"]]
    peopled = [index for index, image_id in enumerate(ids) if image_id in people]
    for start in range(0, len(peopled), size):
        yield [(dataset.load(index), people[ids[index]]) for index in peopled[start : start + size]]


def with_detected_masks(
    images: Sequence[Image], labelled: Sequence[Detections], detector: Detector
) -> list[Detections]:
    """Give labelled people the masks that a detector makes of them, empty for those whom it does not find.

    For pose estimators that are conditioned on masks: the labelled masks would tell them more than they know in use.
    A detection is a person's where the two boxes are each other's best match, at an IoU of at least 0.5. Raises
    ``UserError`` for a detector that makes no masks.
    """
    found = detector.detect(images)
    return [_with_masks(*one) for one in zip(images, labelled, found, strict=True)]


def _with_masks(image: Image, labelled: Detections, found: Detections) -> Detections:
    masks = torch.zeros(len(labelled), image.height, image.width, dtype=torch.bool)
    if len(found):
        if found.masks is None:
            raise UserError("masks of people: this detector gives boxes only; choose one that makes masks")
        overlaps = iou(labelled.boxes, found.boxes.cpu())
        best, theirs = overlaps.max(dim=1).indices, overlaps.max(dim=0).indices
        people = torch.arange(len(labelled))
        mutual = (theirs[best] == people) & (overlaps[people, best] >= _SAME_PERSON)
        masks[mutual] = found.masks.cpu()[best[mutual]]
    return replace(labelled, masks=masks)


def truly_posed(
    image: Image, annotations: list[Annotation], hidden: float, keypoints: KeypointSet = COCO_KEYPOINTS
) -> PosedImage:
    """Return an image whose people, at least one, have their labelled keypoints for poses; see ``true_poses``."""
    poses = labelled_poses(annotations, hidden, keypoints)
    return PosedImage(image, annotations, labelled_people(annotations), poses, poses.presence == 0, keypoints)
