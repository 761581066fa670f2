"""People as rows that somebody edits: checked, merged, turned into what a segmenter is asked.

Rows are annotations of people.json. It knows no file, no model and no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID, to_numbers
from bmp.io.json_fields import JsonObject, are_numbers, is_number
from bmp.io.segmentations import (
    checked_segmentation,
    encode_runs,
    margin,
    mask_area,
    mask_box,
    to_run_lengths,
    to_windows,
)
from bmp.label_sets import KeypointSet
from bmp.ops.boxes import xywh_to_xyxy
from bmp.ops.masks import exclusive, to_rle, union
from bmp.segmenters.corrected import Correction
from bmp.structures import Detections, Poses

KINDS = ("added", "box", "keypoints", "mask", "merged")
"""What ``edited`` of a person may say: which part of it somebody has put right."""
MOST_CLICKS = 64
"""Clicks of a person."""
_PER_KEYPOINT = ("keypoint_scores", "keypoint_visibility", "keypoint_presence")
_EDITABLE = ("bbox", "score", "segmentation", "mask_score", "keypoints", *_PER_KEYPOINT, "points")


def checked_person(values: Mapping[str, object], height: int, width: int, keypoints: KeypointSet) -> JsonObject:
    """Return a row with what somebody may edit of a person, checked and with numbers rounded as in people.json.

    Args:
        values: ``bbox`` [x, y, width, height]; ``score`` and ``mask_score`` (0 if absent) in [0, 1]; ``segmentation``,
            polygons or run lengths, or null for none; ``keypoints`` x, y, v for each; ``keypoint_scores``,
            ``keypoint_visibility`` and ``keypoint_presence`` in [0, 1], which follow v if absent; ``points``
            [x, y, label], at most ``MOST_CLICKS``; ``edited``, some of ``KINDS``. Other fields are not looked at.
        height: of the image, in pixels.
        width: of the image, in pixels.
        keypoints: the meaning of the keypoints.

    Raises:
        UserError: a field is not as it should be.
    """
    beyond = margin(height, width)
    box = values.get("bbox")
    if not are_numbers(box, -beyond, max(height, width) + 2 * beyond) or len(box) != 4 or min(box[2:]) <= 0:
        raise UserError("bbox: expected [x, y, width, height] in pixels, near the image and of some size")
    shares = {name: _share(values.get(name, default), name) for name, default in (("score", 1.0), ("mask_score", 0.0))}
    pose = checked_pose(values, height, width, keypoints)
    clicks = values.get("points", [])
    if (
        not isinstance(clicks, list)
        or len(clicks) > MOST_CLICKS
        or not all(are_numbers(click, 0, max(height, width)) and len(click) == 3 for click in clicks)
        or not {click[2] for click in clicks} <= {0, 1}
    ):
        raise UserError(
            f"points: expected at most {MOST_CLICKS} of [x, y, 1] on the person and [x, y, 0] beside it, in the image"
        )
    edited = values.get("edited", [])
    if not isinstance(edited, list) or not all(isinstance(kind, str) and kind in KINDS for kind in edited):
        raise UserError(f"edited: expected some of {', '.join(KINDS)}")
    try:
        shape = checked_segmentation(values.get("segmentation"), height, width)
    except ValueError as error:
        raise UserError(f"segmentation: {error}") from None
    mask = to_run_lengths(shape, height, width) if shape else encode_runs(np.array([height * width]), height, width)
    return {
        "category_id": CATEGORY_ID,
        "bbox": _rounded(box, 2),
        "area": mask_area(mask, height, width),
        "segmentation": mask,
        "iscrowd": 0,
        **{name: round(share, 4) for name, share in shares.items()},
        **pose,
        **({"points": [[*_rounded(click[:2], 2), int(click[2])] for click in clicks]} if clicks else {}),
        **({"edited": sorted(set(edited))} if edited else {}),
    }


def checked_pose(values: Mapping[str, object], height: int, width: int, keypoints: KeypointSet) -> JsonObject:
    """Return the fields of ``checked_person`` that are about keypoints: all that a mask of somebody else depends on."""
    count, beyond = len(keypoints), margin(height, width)
    points = values.get("keypoints")
    if not are_numbers(points, -beyond, max(height, width) + beyond) or len(points) != 3 * count:
        raise UserError(f"keypoints: expected x, y, v for each of {count} keypoints, near the image")
    flags = points[2::3]
    if not set(flags) <= {0, 1, 2}:
        raise UserError("keypoints: expected v to be 0 for absent, 1 for hidden or 2 for visible")
    implied = {
        "keypoint_scores": [float(flag > 0) for flag in flags],
        "keypoint_visibility": [float(flag == 2) for flag in flags],
        "keypoint_presence": [float(flag > 0) for flag in flags],
    }
    per_keypoint: dict[str, list[float]] = {}
    for name in _PER_KEYPOINT:
        column = values.get(name, implied[name])
        if not are_numbers(column, 0, 1) or len(column) != count:
            raise UserError(f"{name}: expected {count} numbers from 0 to 1")
        per_keypoint[name] = column
    return {
        "keypoints": [value if place % 3 < 2 else int(value) for place, value in enumerate(_rounded(points, 2))],
        "num_keypoints": sum(flag > 0 for flag in flags),
        **{name: _rounded(column, 4) for name, column in per_keypoint.items()},
    }


def with_edit(stored: JsonObject | None, edit: JsonObject) -> JsonObject:
    """Return the row of a person after an edit, with everything of the ``stored`` one that no edit touches.

    An edit without ``edited`` gets it from the difference. How sure the model was says nothing of what a person has
    drawn, so ``agreement`` of an edited person goes; and so do the parts of a mask that has changed, which they tile.
    """
    if stored is None:
        return {**edit, "edited": edit.get("edited") or ["added"]}
    kept = {key: value for key, value in stored.items() if key not in (*edit, *_EDITABLE, "edited")}
    row = {**kept, **edit}
    changed = differences(stored, row)
    if "edited" not in edit:
        earlier = stored.get("edited", [])
        row["edited"] = sorted({*(earlier if isinstance(earlier, list) else []), *changed})
    if changed:
        row.pop("agreement", None)
    if "mask" in changed:
        row.pop("parts", None)
    if not row.get("edited"):
        row.pop("edited", None)
    return row


def differences(first: JsonObject, second: JsonObject) -> list[str]:
    """Return in which of ``KINDS`` two rows of a person differ."""
    fields = {
        "box": ("bbox",),
        "keypoints": ("keypoints", *_PER_KEYPOINT),
        "mask": ("segmentation", "mask_score", "points"),
    }
    return [kind for kind, names in fields.items() if any(first.get(name) != second.get(name) for name in names)]


def merged(first: JsonObject, second: JsonObject, height: int, width: int) -> JsonObject:
    """Return one person made of two checked rows: the union of masks and boxes, of each keypoint the better one."""
    masks = to_windows([row["segmentation"] for row in (first, second)], height, width)
    (mask,) = to_rle(union(masks)[None])
    area = mask_area(mask, height, width)
    rows = [first, second]
    flags, scores = (
        np.array([row[name] for row in rows], dtype=np.float64) for name in ("keypoints", "keypoint_scores")
    )
    best = np.where(flags[0, 2::3] != flags[1, 2::3], flags[1, 2::3] > flags[0, 2::3], scores[1] > scores[0]).astype(
        int
    )
    boxes = xywh_to_xyxy(torch.tensor([row["bbox"] for row in rows], dtype=torch.float32))
    low, high = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)

    def chosen(name: str, step: int) -> list[object]:
        columns: list[Sequence[object]] = [row[name] for row in rows]
        return [value for k, which in enumerate(best) for value in columns[which][step * k : step * (k + 1)]]

    return {
        **first,
        "bbox": mask_box(mask, height, width) if area else to_numbers(torch.cat([low, high - low]), 2),
        "area": area,
        "segmentation": mask,
        "score": max(row["score"] for row in rows),
        "mask_score": min(row["mask_score"] for row in rows),
        "keypoints": chosen("keypoints", 3),
        "num_keypoints": sum(flag in (1, 2) for flag in chosen("keypoints", 3)[2::3]),
        **{name: chosen(name, 1) for name in _PER_KEYPOINT},
        "edited": ["merged"],
    }


def share_pixels(rows: Sequence[JsonObject], height: int, width: int) -> list[JsonObject]:
    """Give each pixel of an image to one person: to who was edited last, and else to the mask of highest score.

    A row whose mask loses pixels keeps the whole of it as ``drawn``, so that they come back when the others give way.
    """
    if not any(row.get("edited") for row in rows):
        return list(rows)

    def claim(number: int) -> tuple[int, float]:
        row = rows[number]
        return (row.get("revision", 0) if row.get("edited") else 0), row.get("mask_score", 0.0)

    drawn = [row.get("drawn", row.get("segmentation")) for row in rows]
    whole = to_windows(drawn, height, width)
    places = torch.empty(len(rows))
    places[sorted(range(len(rows)), key=claim)] = torch.arange(len(rows), dtype=torch.float32)
    owned = exclusive(whole, places)
    shared = []
    for number, (row, mask) in enumerate(zip(rows, drawn, strict=True)):
        if mask is None:
            shared.append(row)
            continue
        plain = {key: value for key, value in row.items() if key != "drawn"}
        if torch.equal(owned.patches[number], whole.patches[number]):
            own, changed = to_run_lengths(mask, height, width), {}
        else:
            (own,), changed = to_rle(owned[[number]]), {"drawn": mask}
        shared.append({**plain, "segmentation": own, "area": mask_area(own, height, width), **changed})
    return shared


def to_poses(rows: Sequence[JsonObject], count: int) -> Poses:
    """Return the poses of checked rows, with ``count`` keypoints each."""
    points = torch.tensor([row["keypoints"] for row in rows], dtype=torch.float32).reshape(-1, count, 3)
    columns = (
        torch.tensor([row[name] for row in rows], dtype=torch.float32).reshape(-1, count) for name in _PER_KEYPOINT
    )
    scores, visibility, presence = columns
    return Poses(points[..., :2].contiguous(), scores, visibility, presence)


def to_correction(row: JsonObject, moved: Sequence[int], height: int, width: int, count: int) -> Correction:
    """Return what a segmenter is asked about the person of a checked row.

    moved: numbers of the keypoints that were placed by hand, in [0, ``count``).
    """
    clicks = torch.tensor(row.get("points", []), dtype=torch.float32).reshape(-1, 3)
    mask = to_windows([row["segmentation"]], height, width)
    box = xywh_to_xyxy(torch.tensor([row["bbox"]], dtype=torch.float32))
    hand = torch.zeros(count, dtype=torch.bool)
    hand[list(moved)] = True
    return Correction(
        Detections(box, torch.tensor([row["score"]], dtype=torch.float32), mask if bool(mask.any()) else None),
        to_poses([row], count),
        hand,
        clicks[:, :2].contiguous(),
        clicks[:, 2].to(torch.int8),
    )


def _share(value: object, name: str) -> float:
    if not is_number(value, 0, 1):
        raise UserError(f"{name}: expected a number from 0 to 1")
    return float(value)


def _rounded(values: Sequence[float], decimals: int) -> list[float]:
    numbers: list[float] = to_numbers(torch.tensor(values, dtype=torch.float64), decimals)
    return numbers
