"""COCO's rows, typed: annotations to records and back; knows no file and no data set.

What is read from files is checked in ``bmp.io.coco_json``; here rows are taken as their types say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from bmp.errors import UserError
from bmp.io.orientation import Orientation
from bmp.io.segmentations import Segmentation, mask_area, to_mask
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.ops.boxes import xywh_to_xyxy, xyxy_to_xywh
from bmp.ops.masks import RunLengths, to_rle
from bmp.structures import Detections, Image, Instances, Masks, Parts, Poses

CATEGORY_ID = 1
"""Of persons, in all that this program writes."""


class PartRow(TypedDict):
    """A part of a person's body: its number and name in the label set, its pixels, and its score in [0, 1]."""

    id: int
    name: str
    segmentation: RunLengths
    area: int
    score: float


class Annotation(TypedDict):
    """A person in an image, labelled or found. Boxes are [x, y, width, height] in pixels, ``area`` square pixels.

    ``keypoints`` are x, y, v for each; ``num_keypoints`` have v > 0. ``bbox_head`` and ``head_size`` (in pixels) are
    what PCKh measures with. ``score`` and the fields behind it are of people that were found, see ``to_annotations``.
    ``parts`` of people that are labelled are numbers of ``bmp.label_sets.CIHP_PARTS``.
    """

    id: int
    image_id: int | str
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    segmentation: NotRequired[Segmentation]
    keypoints: NotRequired[list[float]]
    num_keypoints: NotRequired[int]
    bbox_head: NotRequired[list[float]]
    head_size: NotRequired[float]
    parts: NotRequired[list[int] | list[PartRow]]
    score: NotRequired[float]
    mask_score: NotRequired[float]
    keypoint_scores: NotRequired[list[float]]
    keypoint_visibility: NotRequired[list[float]]
    keypoint_presence: NotRequired[list[float]]
    round: NotRequired[int]
    agreement: NotRequired[float]


class ImageRow(TypedDict):
    """An image: its id, its path below the folder of images with forward slashes, its size in pixels.

    crowdIndex: CrowdPose's measure of how crowded it is, in [0, 1].
    """

    id: int | str
    file_name: str
    height: int
    width: int
    crowdIndex: NotRequired[float]


class Category(TypedDict):
    """What is labelled; a skeleton counts keypoints from 1."""

    id: int
    name: str
    supercategory: NotRequired[str]
    keypoints: NotRequired[list[str]]
    skeleton: NotRequired[list[list[int]]]


class CocoDataset(TypedDict):
    """What ``pycocotools.coco.COCO`` takes as its ``dataset``."""

    info: dict[str, object]
    images: list[ImageRow]
    annotations: list[Annotation]
    categories: list[Category]


class PoseRow(TypedDict):
    """An estimated pose of somebody labelled, as ``bmp.inference.keypoints`` writes it; ``id`` is the annotation's.

    ``segmentation`` is the mask of the detector that was asked, if it found this person.
    """

    id: int
    image_id: NotRequired[int | str]
    keypoints: list[float]
    keypoint_scores: list[float]
    keypoint_visibility: list[float]
    keypoint_presence: list[float]
    keypoint_expected_oks: NotRequired[list[float]]
    segmentation: NotRequired[RunLengths]


def labelled_people(annotations: Sequence[Annotation]) -> Detections:
    """Return the labelled boxes of at least one annotation, in order, with score 1 and without masks."""
    boxes = torch.tensor([annotation["bbox"] for annotation in annotations], dtype=torch.float32)
    return Detections(xywh_to_xyxy(boxes), torch.ones(len(boxes)))


def labelled_mask(annotation: Annotation, image: Image) -> Tensor:
    """Return the mask of an annotation of that image, bool (H, W); ``UserError`` where it has none."""
    shape = annotation.get("segmentation")
    if shape is None:
        raise UserError(f"annotation {annotation['id']} has no segmentation; choose a data set whose people have masks")
    return to_mask(shape, image.height, image.width)


def labelled_poses(
    annotations: Sequence[Mapping[str, Any]], hidden: float = 1.0, keypoints: KeypointSet = COCO_KEYPOINTS
) -> Poses:
    """Return the labelled keypoints of annotations, without any for those that have none.

    A keypoint labelled as seen (v = 2) gets visibility 1, one labelled although hidden (v = 1) visibility ``hidden``,
    both score and presence 1. All others get 0 for all three. Where nobody has keypoints, there are as many as in
    ``keypoints``.
    """
    labelled_ones = (row["keypoints"] for row in annotations if row.get("keypoints"))
    nothing = [0.0] * len(next(labelled_ones, 3 * keypoints.names))
    values = torch.tensor([annotation.get("keypoints", nothing) for annotation in annotations], dtype=torch.float32)
    x, y, flags = values.reshape(-1, len(nothing) // 3, 3).unbind(2)
    seen, covered = (flags == 2).float(), (flags == 1).float()
    labelled = seen + covered
    return Poses(torch.stack((x, y), dim=2), labelled, seen + hidden * covered, labelled)


def turn_upright(
    annotation: Annotation, orientation: Orientation, keypoints: KeypointSet = COCO_KEYPOINTS
) -> Annotation:
    """Return an annotation of the stored pixels of a picture as one of the upright picture.

    Boxes and polygons count from edge to edge, keypoints from the middle of the first pixel. In a picture that is
    stored mirrored, whoever labelled it took left for right.
    """
    box = np.array([annotation["bbox"]], dtype=np.float64)
    turned: Annotation = {**annotation, "bbox": orientation.boxes(box)[0].tolist()}
    if "bbox_head" in annotation:
        turned["bbox_head"] = orientation.boxes(np.array([annotation["bbox_head"]], dtype=np.float64))[0].tolist()
    shape = annotation.get("segmentation")
    if isinstance(shape, list):
        corners = [orientation.points(np.array(polygon, dtype=np.float64).reshape(-1, 2)) for polygon in shape]
        turned["segmentation"] = [points.ravel().tolist() for points in corners]
    elif shape is not None:
        bits = orientation.mask(to_mask(shape, orientation.height, orientation.width).numpy())
        turned["segmentation"] = to_rle(torch.from_numpy(bits)[None])[0]
    if "keypoints" in annotation:
        values = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
        labelled = values[:, 2] > 0
        values[labelled, :2] = orientation.points(values[labelled, :2], pixels=True)
        if orientation.mirrored:
            values = values[list(keypoints.flip_indices)]
        turned["keypoints"] = values.ravel().tolist()
    return turned


def category(keypoints: KeypointSet) -> Category:
    """Return COCO's entry for persons; its skeleton counts keypoints from 1, as COCO does."""
    return {
        "id": CATEGORY_ID,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(keypoints.names),
        "skeleton": [[start + 1, end + 1] for start, end in keypoints.skeleton],
    }


def to_annotations(
    instances: Instances,
    image_id: int | str,
    keypoints: KeypointSet,
    first_id: int = 1,
    *,
    exact: bool = False,
    parts: Parts | None = None,
) -> list[Annotation]:
    """Return one COCO annotation a person, in order, with ids from ``first_id``; plain values, ready for ``json``.

    The standard fields: ``bbox`` [x, y, width, height], ``segmentation`` compressed RLE, ``area`` of the mask,
    ``keypoints`` x, y, v for each, ``num_keypoints`` with v > 0, ``iscrowd`` 0, ``score`` of the detection. v is as
    ``keypoint_flags`` says; x and y are the estimate whatever v is: evaluation scores the locations of all keypoints.

    Ours: ``mask_score`` (predicted IoU), ``keypoint_scores``, ``keypoint_visibility``, ``keypoint_presence``, the
    ``round`` in which the person was found, where it is known the ``agreement``, how sure the label is, and where
    ``parts`` are given, the person's, see ``part_rows``. Numbers
    are rounded for short files, or with ``exact`` left as they are for evaluation, where rounded scores would tie and
    change the order.
    """
    pixels, shares = (None, None) if exact else (2, 4)
    detections, poses, masks = instances.detections, instances.poses, instances.masks
    if poses.scores.shape[1] != len(keypoints):
        raise ValueError(
            f"expected poses of {len(keypoints)} keypoints, got {poses.scores.shape[1]}; "
            "pass the KeypointSet of the estimator that made them"
        )
    windows = masks.windows
    _, height, width = windows.shape
    rows = zip(
        to_numbers(xyxy_to_xywh(detections.boxes), pixels),
        to_numbers(detections.scores, shares),
        to_rle(windows),
        to_numbers(masks.scores, shares),
        to_numbers(poses.keypoints, pixels),
        keypoint_flags(poses, height, width, pixels),
        to_numbers(poses.scores, shares),
        to_numbers(poses.visibility, shares),
        to_numbers(poses.presence, shares),
        instances.round.tolist(),
        strict=True,
    )
    annotations: list[Annotation] = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": CATEGORY_ID,
            "bbox": box,
            "area": mask_area(rle, height, width),
            "segmentation": rle,
            "iscrowd": 0,
            "score": score,
            "mask_score": mask_score,
            "keypoints": [value for (x, y), flag in zip(points, row, strict=True) for value in (x, y, flag)],
            "num_keypoints": sum(flag > 0 for flag in row),
            "keypoint_scores": point_scores,
            "keypoint_visibility": visibility,
            "keypoint_presence": presence,
            "round": found,
        }
        for number, (box, score, rle, mask_score, points, row, point_scores, visibility, presence, found) in enumerate(
            rows, first_id
        )
    ]
    if instances.agreement is not None:
        for annotation, value in zip(annotations, to_numbers(instances.agreement, shares), strict=True):
            annotation["agreement"] = value
    if parts is not None:
        for annotation, own in zip(annotations, part_rows(parts, shares), strict=True):
            annotation["parts"] = own
    return annotations


def part_rows(parts: Parts, decimals: int | None = 4) -> list[list[PartRow]]:
    """Return the parts that each person has, by ascending number; scores are rounded to ``decimals``, if any."""
    areas, scores = parts.areas().tolist(), to_numbers(parts.scores, decimals)
    labels, owners = parts.labels.cpu(), parts.owners.cpu()
    found: list[list[PartRow]] = []
    for row, (own_areas, own_scores) in enumerate(zip(areas, scores, strict=True)):
        own = labels * (owners == row + 1)
        found.append(
            [
                {
                    "id": number,
                    "name": parts.label_set.names[number],
                    "segmentation": to_rle((own == number)[None])[0],
                    "area": own_areas[number],
                    "score": own_scores[number],
                }
                for number in range(1, len(parts.label_set))
                if own_areas[number]
            ]
        )
    return found


def keypoint_flags(poses: Poses, height: int, width: int, decimals: int | None = None) -> list[list[int]]:
    """Return COCO's v of each keypoint of people in an image of that size.

    0 for one that is absent (presence below 0.5) or outside the image once rounded to ``decimals``, where no label can
    be and presence tells the rest; else 2 for a visible one (visibility from 0.5), else 1.
    """
    x, y = (
        column.double() if decimals is None else column.double().round(decimals=decimals)
        for column in poses.keypoints.unbind(dim=2)
    )
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    flags: list[list[int]] = torch.where(inside, poses.flags(), 0).tolist()
    return flags


def to_numbers(values: Tensor, decimals: int | None) -> list[Any]:
    """Return a tensor of any shape as nested lists of Python's floats, ready for ``json``.

    They are rounded to so many ``decimals`` in double precision, where 0.3 prints as 0.3; None leaves them as they are.
    """
    # Adding zero turns -0.0 into 0.0.
    precise = values.cpu().double()
    numbers: list[Any] = ((precise if decimals is None else precise.round(decimals=decimals)) + 0.0).tolist()
    return numbers


def to_instances(rows: Sequence[Mapping[str, Any]], image: Image, keypoints: KeypointSet = COCO_KEYPOINTS) -> Instances:
    """Turn annotations into what the drawing takes; what is not labelled is not drawn."""
    boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(rows), image.height, image.width, dtype=torch.bool)
    for mask, row in zip(masks, rows, strict=True):
        mask |= to_mask(row.get("segmentation"), image.height, image.width)
    return Instances(
        Detections(xywh_to_xyxy(boxes), torch.tensor([float(row.get("score", 1.0)) for row in rows])),
        labelled_poses(rows, 0.0, keypoints),
        Masks(masks, torch.ones(len(rows))),
        torch.ones(len(rows), dtype=torch.int64),
    )
