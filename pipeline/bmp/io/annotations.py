"""COCO annotations to records and back; knows no file and no data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from bmp.errors import UserError
from bmp.io.coco_json import CATEGORY_ID
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.ops.boxes import xywh_to_xyxy, xyxy_to_xywh
from bmp.ops.masks import from_rle, to_rle
from bmp.structures import Detections, Image, Instances, Masks, Poses

Row = dict[str, Any]


def labelled_people(annotations: Sequence[Row]) -> Detections:
    """Return the labelled boxes of at least one annotation, in order, with score 1 and without masks."""
    boxes = torch.tensor([annotation["bbox"] for annotation in annotations], dtype=torch.float32)
    return Detections(xywh_to_xyxy(boxes), torch.ones(len(boxes)))


def labelled_mask(annotation: Row, image: Image) -> Tensor:
    """Return the mask of an annotation of that image, bool (H, W); ``UserError`` where it has none."""
    shape = annotation.get("segmentation")
    if shape is None:
        raise UserError(f"annotation {annotation['id']} has no segmentation; choose a data set whose people have masks")
    if isinstance(shape, list):
        shape = coco_mask.merge(coco_mask.frPyObjects(shape, image.height, image.width))
    return from_rle([shape], image.height, image.width)[0]


def category(keypoints: KeypointSet) -> dict[str, Any]:
    """Return COCO's entry for persons; its skeleton counts keypoints from 1, as COCO does."""
    return {
        "id": CATEGORY_ID,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(keypoints.names),
        "skeleton": [[start + 1, end + 1] for start, end in keypoints.skeleton],
    }


def to_annotations(
    instances: Instances, image_id: int, keypoints: KeypointSet, first_id: int = 1, *, exact: bool = False
) -> list[dict[str, Any]]:
    """Return one COCO annotation a person, in order, with ids from ``first_id``; plain values, ready for ``json``.

    The standard fields: ``bbox`` [x, y, width, height], ``segmentation`` compressed RLE, ``area`` of the mask,
    ``keypoints`` x, y, v for each, ``num_keypoints`` with v > 0, ``iscrowd`` 0, ``score`` of the detection. v is 0 for
    a keypoint that is absent (presence below 0.5), else 2 for a visible one (visibility from 0.5), else 1. x and y are
    the estimate whatever v is: evaluation scores the places of all keypoints.

    Ours: ``mask_score`` (predicted IoU), ``keypoint_scores``, ``keypoint_visibility``, ``keypoint_presence``, and the
    ``round`` in which the person was found. Numbers are rounded for short files, or with ``exact`` left as they are
    for evaluation, where rounded scores would tie and change the order.
    """
    places, shares = (None, None) if exact else (2, 4)
    detections, poses, masks = instances.detections, instances.poses, instances.masks
    if poses.scores.shape[1] != len(keypoints):
        raise ValueError(
            f"expected poses of {len(keypoints)} keypoints, got {poses.scores.shape[1]}; "
            "pass the KeypointSet of the estimator that made them"
        )
    flags = torch.where(poses.presence < 0.5, 0, torch.where(poses.visibility >= 0.5, 2, 1)).tolist()
    rows = zip(
        to_numbers(xyxy_to_xywh(detections.boxes), places),
        to_numbers(detections.scores, shares),
        to_rle(masks.bits),
        to_numbers(masks.scores, shares),
        to_numbers(poses.keypoints, places),
        flags,
        to_numbers(poses.scores, shares),
        to_numbers(poses.visibility, shares),
        to_numbers(poses.presence, shares),
        instances.round.tolist(),
        strict=True,
    )
    return [
        {
            "id": number,
            "image_id": image_id,
            "category_id": CATEGORY_ID,
            "bbox": box,
            "area": int(coco_mask.area(rle)),
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


def to_numbers(values: Tensor, decimals: int | None) -> list[Any]:
    """Return a tensor of any shape as nested lists of Python's floats, ready for ``json``.

    They are rounded to so many ``decimals`` in double precision, where 0.3 prints as 0.3; None leaves them as they are.
    """
    # Adding zero turns -0.0 into 0.0.
    precise = values.cpu().double()
    numbers: list[Any] = ((precise if decimals is None else precise.round(decimals=decimals)) + 0.0).tolist()
    return numbers


def to_instances(rows: Sequence[Mapping[str, Any]], image: Image) -> Instances:
    """Turn annotations into what the drawing takes; what is not labelled is not drawn."""
    count, size = len(rows), (image.height, image.width)
    boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)
    nothing = [0] * (3 * len(COCO_KEYPOINTS))
    points = torch.tensor([row.get("keypoints", nothing) for row in rows], dtype=torch.float32)
    points = points.reshape(count, len(COCO_KEYPOINTS), 3)
    flags = points[..., 2]
    masks = from_rle([_rle(row.get("segmentation"), *size) for row in rows], *size)
    return Instances(
        Detections(xywh_to_xyxy(boxes), torch.tensor([float(row.get("score", 1.0)) for row in rows])),
        Poses(points[..., :2].contiguous(), (flags > 0).float(), (flags == 2).float(), (flags > 0).float()),
        Masks(masks, torch.ones(count)),
        torch.ones(count, dtype=torch.int64),
    )


def _rle(segmentation: Any, height: int, width: int) -> Any:
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return segmentation or {"size": [height, width], "counts": [height * width]}
