"""Poses measured as the benchmark of their keypoint set does; knows COCO dicts and keypoint sets, no model and no file.

Results of one set are compared with labels of another on the keypoints that both have. Every set has COCO's average
precision with its own sigmas, and some have a protocol of their own:

| set | protocol | as |
| --- | --- | --- |
| CrowdPose | AP of easy, medium and hard images, by their crowd index | MMPose's CocoMetric with keypoints_crowd |
| COCO-WholeBody | AP of body, feet, face, hands and all | MMPose's CocoWholeBodyMetric |
| MPII | PCKh | MMPose's MpiiPCKAccuracy |
| JHMDB | PCK by boxes and by torsos | MMPose's JhmdbPCKAccuracy |
| PoseTrack18 | AP of joints | poseval, which MMPose's PoseTrack18Metric calls |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch

from bmp.evaluation.metrics.coco import CocoNumbers, compare, summarize, to_results
from bmp.evaluation.metrics.matching import Bools, Floats
from bmp.io.annotations import Annotation, CocoDataset
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS, Conversion, KeypointSet, conversion
from bmp.ops.boxes import fit_aspect, xywh_to_xyxy
from bmp.ops.oks import oks

BOX_SHARE = 0.53
"""A person's usual share of the area of its box: what OKS is measured with where a set labels no areas (MMPose)."""
_WINDOW_ASPECT, _WINDOW_PADDING = 3 / 4, 1.25
WITHOUT_AREAS = ("crowdpose", "aic", "mpii", "mhp", "posetrack18", "jhmdb")

CROWD_LEVELS: dict[str, Callable[[float], int]] = {
    "": lambda index: 0 if index <= 0.1 else 1 if index <= 0.8 else 2,
    "_released": lambda index: 0 if index < 0.2 else 1 if index < 0.8 else 2,
}
"""Which images are easy (0), medium and hard (2): as the paper says, and as the released programs do it, which the
published numbers are from."""
LEVELS = ("easy", "medium", "hard")

WHOLE_BODY = {
    "body": range(17),
    "foot": range(17, 23),
    "face": range(23, 91),
    "left_hand": range(91, 112),
    "right_hand": range(112, 133),
    "whole": range(133),
}
"""The parts that COCO-WholeBody measures, by their keypoints."""

MPII_JOINTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
POSETRACK_JOINTS = {
    "head": ("head_top", "head_bottom", "nose"),
    **{joint: (f"right_{joint}", f"left_{joint}") for joint in MPII_JOINTS},
}


@dataclass(frozen=True)
class PoseSets:
    """Whose keypoints are compared with whose.

    labelled: of the ground truth. estimated: of the results. unknown: why the ground truth has none although its file
    does, in words. approximate: let keypoints nearby stand in for those that the results lack. alike: OKS above which
    the less sure of two results of an image is left out first, as MMPose does from 0.9 on; None leaves out none.
    """

    labelled: KeypointSet = COCO_KEYPOINTS
    estimated: KeypointSet = COCO_KEYPOINTS
    unknown: str = ""
    approximate: bool = False
    alike: float | None = None

    @property
    def conversion(self) -> Conversion:
        """How results are read."""
        return conversion(self.estimated, self.labelled, approximate=self.approximate)


@dataclass(frozen=True)
class PoseNumbers:
    """How poses do.

    coco: COCO's numbers, with the sigmas of the keypoints that are compared. protocol: the set's own numbers by name,
    in [0, 1], None where there is none; empty for sets without a protocol of their own. reasons: why, by name.
    """

    coco: CocoNumbers
    protocol: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Compared:
    """Labels and results of the same keypoints."""

    keypoints: KeypointSet
    ground_truth: CocoDataset
    rows: list[Annotation]
    limit: int | None

    def ap(self, part: Sequence[int] | None = None) -> CocoNumbers:
        """Return COCO's numbers of some of the keypoints; scores are those of all."""
        results = to_results(self.rows, "keypoints")
        if part is None or list(part) == list(range(len(self.keypoints))):
            return summarize(compare(self.ground_truth, results, "keypoints", self.limit, keypoints=self.keypoints))
        for result in results:
            result["keypoints"] = _taken(result["keypoints"], part, 3)
        labels = {**self.ground_truth, "annotations": [_of_part(row, part) for row in self.ground_truth["annotations"]]}
        meaning = self.keypoints.part(part)
        return summarize(compare(cast(CocoDataset, labels), results, "keypoints", self.limit, keypoints=meaning))

    def people(self) -> list[Annotation]:
        """Return the labels of those who are to be found."""
        return [row for row in self.ground_truth["annotations"] if not row.get("iscrowd") and "keypoints" in row]


def evaluate_poses(
    ground_truth: CocoDataset,
    rows: Sequence[Annotation],
    sets: PoseSets | None = None,
    max_detections: int | None = None,
) -> PoseNumbers:
    """Measure poses as the benchmark of their labels does.

    Args:
        ground_truth: COCO dict. CrowdPose needs ``crowdIndex`` in its images, MPII ``head_size`` or ``bbox_head`` in
            its annotations, PoseTrack18 ``bbox_head``. People of MPII and JHMDB have ``bbox``.
        rows: annotations of everybody found, as ``bmp.io.annotations.to_annotations`` makes them.
        sets: what the keypoints of both mean; COCO's if None. At least one has to be known in both.
        max_detections: how many results of an image count for average precision, the best first; 20 if None.

    Raises:
        UserError: as for ``bmp.evaluation.metrics.coco.evaluate_coco``.
    """
    sets = PoseSets() if sets is None else sets
    compared = _on_common_keypoints(ground_truth, rows, sets, max_detections)
    numbers = PoseNumbers(compared.ap())
    own = _PROTOCOLS.get(sets.labelled.name)
    if own is None:
        return numbers
    protocol, reasons = own(compared)
    return replace(numbers, protocol=protocol, reasons=reasons)


def pose_precision(
    ground_truth: CocoDataset,
    rows: Sequence[Annotation],
    sets: PoseSets | None = None,
    max_detections: int | None = None,
) -> CocoNumbers:
    """Return what ``evaluate_poses`` has as ``coco``, without the set's own protocol; arguments as there."""
    return _on_common_keypoints(ground_truth, rows, PoseSets() if sets is None else sets, max_detections).ap()


def _on_common_keypoints(
    ground_truth: CocoDataset, rows: Sequence[Annotation], sets: PoseSets, limit: int | None
) -> _Compared:
    reading = sets.conversion
    known = reading.known
    if sets.labelled.name in WITHOUT_AREAS:
        ground_truth = {
            **ground_truth,
            "annotations": [
                cast(Annotation, {**row, "area": BOX_SHARE * row["bbox"][2] * row["bbox"][3]})
                for row in ground_truth["annotations"]
            ],
        }
    if len(known) < len(sets.labelled):
        labels = [_of_part(row, known) for row in ground_truth["annotations"]]
        ground_truth = {**ground_truth, "annotations": labels}
    if sets.estimated.names != sets.labelled.names:
        rows = [_read_as(reading, row) for row in rows]
    keypoints = sets.labelled.part(known)
    return _Compared(keypoints, ground_truth, _unlike(rows, keypoints, sets.alike), limit)


def _unlike(rows: Sequence[Annotation], keypoints: KeypointSet, threshold: float | None) -> list[Annotation]:
    """Leave out results that resemble a surer one of their image, as MMPose's ``oks_nms`` does.

    The area of a result is that of the window through which a top-down network sees its box.
    """
    if threshold is None:
        return list(rows)
    by_image: dict[int | str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_image[row["image_id"]].append(number)
    scores = np.array([result["score"] for result in to_results(rows, "keypoints")])
    variances = (2 * np.array(keypoints.sigmas)) ** 2
    kept: list[int] = []
    for numbers in by_image.values():
        points = np.array([rows[number]["keypoints"] for number in numbers], dtype=np.float64)
        points = points.reshape(len(numbers), -1, 3)[..., :2]
        boxes = torch.tensor([rows[number]["bbox"] for number in numbers], dtype=torch.float64)
        area = fit_aspect(xywh_to_xyxy(boxes), _WINDOW_ASPECT, _WINDOW_PADDING)[1].prod(dim=1).numpy()
        order = scores[numbers].argsort()[::-1]
        while len(order):
            best, order = order[0], order[1:]
            kept.append(numbers[best])
            squared = ((points[order] - points[best]) ** 2).sum(axis=2)
            falloff = variances * ((area[order] + area[best]) / 2 + np.spacing(1))[:, None] * 2
            order = order[np.exp(-squared / falloff).mean(axis=1) <= threshold]
    return [rows[number] for number in sorted(kept)]


def _read_as(reading: Conversion, row: Annotation) -> Annotation:
    """Return a result with the keypoints that are compared."""
    found = row.copy()
    found["keypoints"] = reading.of_labels(row["keypoints"])
    for name in ("keypoint_scores", "keypoint_visibility", "keypoint_presence"):
        if name in row:
            found[name] = reading.of_values(row[name])
    return found


def _of_part(row: Annotation, part: Sequence[int]) -> Annotation:
    """Return a label with some of its keypoints, counted anew in the way in which they were counted."""
    if "keypoints" not in row:
        return row
    flags = row["keypoints"][2::3]
    least = 2 if row.get("num_keypoints") == sum(flag == 2 for flag in flags) else 1
    kept = row.copy()
    kept["keypoints"] = _taken(row["keypoints"], part, 3)
    kept["num_keypoints"] = sum(flag >= least for flag in kept["keypoints"][2::3])
    return kept


def _taken(values: Sequence[float], rows: Iterable[int], width: int) -> list[float]:
    return [value for row in rows for value in values[width * row : width * (row + 1)]]


# Protocols: the numbers by name, and why there is none.

_Protocol = tuple[dict[str, "float | None"], dict[str, str]]


def _crowd_pose(compared: _Compared) -> _Protocol:
    """AP on the images of each level of the crowd index."""
    indices = {image["id"]: image.get("crowdIndex") for image in compared.ground_truth["images"]}
    numbers: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for ending, level_of in CROWD_LEVELS.items():
        for level, words in enumerate(LEVELS):
            name = f"ap_{words}{ending}"
            if any(index is None for index in indices.values()):
                numbers[name], reasons[name] = None, "not all images have a crowdIndex"
                continue
            chosen = {key for key, index in indices.items() if index is not None and level_of(index) == level}
            labels = {
                **compared.ground_truth,
                "images": [image for image in compared.ground_truth["images"] if image["id"] in chosen],
                "annotations": [row for row in compared.ground_truth["annotations"] if row["image_id"] in chosen],
            }
            rows = [row for row in compared.rows if row["image_id"] in chosen]
            alone = _Compared(compared.keypoints, cast(CocoDataset, labels), rows, compared.limit)
            numbers[name] = alone.ap().ap
            if numbers[name] is None:
                reasons[name] = f"nobody is labelled in images that are {words}"
    return numbers, reasons


def _whole_body(compared: _Compared) -> _Protocol:
    """AP and AR of parts of the body whose keypoints are all compared."""
    places = {name: number for number, name in enumerate(compared.keypoints.names)}
    all_names = KEYPOINT_SETS["coco_wholebody"].names
    numbers: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for part, rows in WHOLE_BODY.items():
        names = [all_names[row] for row in rows]
        missing = sum(name not in places for name in names)
        found = None if missing else compared.ap([places[name] for name in names])
        numbers[f"{part}_ap"], numbers[f"{part}_ar"] = (found.ap, found.ar) if found else (None, None)
        if missing:
            why = f"{missing} of its {len(names)} keypoints are not estimated"
        else:
            why = "nobody is labelled with keypoints of this part"
        for name in (f"{part}_ap", f"{part}_ar"):
            if numbers[name] is None:
                reasons[name] = why
        if part == "right_hand":
            for ending in ("ap", "ar"):
                sides = [numbers[f"{side}_hand_{ending}"] for side in ("left", "right")]
                numbers[f"hand_{ending}"] = _mean(sides)
                if numbers[f"hand_{ending}"] is None:
                    reasons[f"hand_{ending}"] = reasons.get(f"left_hand_{ending}") or why
    return numbers, reasons


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Labelled people beside the results that are theirs; who has none is infinitely far from it.

    labels, results: (N, K, 2) in pixels. labelled: bool (N, K). people: the labels themselves.
    """

    labels: Floats
    results: Floats
    labelled: Bools
    people: list[Annotation]


def _paired(compared: _Compared) -> _Pairs:
    """Give each labelled person a result: of all pairs of an image the most alike first, by OKS."""
    count = len(compared.keypoints)
    people = [row for row in compared.people() if any(flag > 0 for flag in row["keypoints"][2::3])]
    labels = np.array([row["keypoints"] for row in people], dtype=np.float64).reshape(-1, count, 3)
    results = np.full((len(people), count, 2), np.inf)
    by_image: dict[int | str, list[int]] = defaultdict(list)
    for number, row in enumerate(people):
        by_image[row["image_id"]].append(number)
    found: dict[int | str, list[Annotation]] = defaultdict(list)
    for row in compared.rows:
        found[row["image_id"]].append(row)
    sigmas = torch.tensor(compared.keypoints.sigmas, dtype=torch.float64)
    for image_id, numbers in by_image.items():
        if not (rows := found[image_id]):
            continue
        poses = np.array([row["keypoints"] for row in rows], dtype=np.float64).reshape(len(rows), count, 3)[..., :2]
        own = torch.from_numpy(labels[numbers])
        area = torch.tensor([people[number]["area"] for number in numbers], dtype=torch.float64).clamp(min=1)
        table = oks(own[..., :2], torch.from_numpy(poses), area, sigmas, own[..., 2] > 0).numpy()
        for _ in range(min(table.shape)):
            person, result = np.unravel_index(table.argmax(), table.shape)
            results[numbers[person]] = poses[result]
            table[person], table[:, result] = -1, -1
    return _Pairs(labels[..., :2], results, labels[..., 2] > 0, people)


def within(labels: Floats, results: Floats, labelled: Bools, sizes: Floats, threshold: float) -> list[float | None]:
    """Return the share of correct keypoints (PCK) of each kind: nearer than ``threshold`` times a size.

    Args:
        labels: (N, K, 2), in pixels.
        results: (N, K, 2), those of the same people; infinite where there is none.
        labelled: bool (N, K), which count.
        sizes: (N,), of the people in pixels; people of size 0 do not count.
        threshold: in sizes.

    Returns:
        K shares in [0, 1], None without labels; distances are rounded to single precision, as MMPose does.
    """
    counts = labelled & (sizes > 0)[:, None]
    with np.errstate(invalid="ignore"):
        apart = (results - labels) / np.where(sizes > 0, sizes, 1)[:, None, None]
    distances = np.linalg.norm(apart, axis=-1).astype(np.float32)
    return [
        float((distances[rows, kind] < threshold).sum() / rows.sum()) if (rows := counts[:, kind]).any() else None
        for kind in range(labelled.shape[1])
    ]


def head_size(person: Mapping[str, Any]) -> float:
    """Return the size of a head in pixels: ``head_size``, or 0.6 of the diagonal of ``bbox_head``; 0 if unknown."""
    if "head_size" in person:
        return float(person["head_size"])
    box = person.get("bbox_head")
    return 0.6 * float(np.hypot(box[2], box[3])) if box else 0.0


def _mpii(compared: _Compared) -> _Protocol:
    """PCKh: within half a head; pelvis and thorax do not count for the mean, in which each keypoint weighs the same."""
    pairs = _paired(compared)
    sizes = np.array([head_size(person) for person in pairs.people])
    names = compared.keypoints.names
    counted = [number for number, name in enumerate(names) if name not in ("pelvis", "thorax")]
    weights = (pairs.labelled & (sizes > 0)[:, None]).sum(axis=0)
    half, tenth = (within(pairs.labels, pairs.results, pairs.labelled, sizes, share) for share in (0.5, 0.1))
    shares = dict(zip(names, half, strict=True))
    numbers = {"pckh_head": shares.get("head_top")}
    numbers |= {f"pckh_{joint}": _sides(shares, joint) for joint in MPII_JOINTS}
    numbers["pckh"] = _weighted([half[k] for k in counted], weights[counted])
    numbers["pckh_at_0.1"] = _weighted([tenth[k] for k in counted], weights[counted])
    nobody = "" if sizes.any() else "nobody's head is labelled (head_size or bbox_head)"
    return numbers, _pck_reasons(numbers, nobody)


def _jhmdb(compared: _Compared) -> _Protocol:
    """PCK within a fifth of the box's longer side, and of the way from the left shoulder to the right hip (tPCK)."""
    pairs = _paired(compared)
    names = compared.keypoints.names
    boxes = np.array([max(person["bbox"][2:]) for person in pairs.people], dtype=np.float64)
    ends = [names.index(name) for name in ("left_shoulder", "right_hip") if name in names]
    torsos = np.zeros(len(boxes))
    if len(ends) == 2:
        one, other = ends
        torsos = np.linalg.norm(pairs.labels[:, one] - pairs.labels[:, other], axis=-1)
        with np.errstate(invalid="ignore"):
            guessed = np.linalg.norm(pairs.results[:, one] - pairs.results[:, other], axis=-1)
        torsos = np.where(torsos < 1, np.nan_to_num(guessed), torsos)
    numbers: dict[str, float | None] = {}
    for kind, sizes in (("pck", boxes), ("tpck", torsos)):
        found = within(pairs.labels, pairs.results, pairs.labelled, sizes, 0.2)
        shares = dict(zip(names, found, strict=True))
        numbers[f"{kind}_head"] = shares.get("head")
        numbers |= {f"{kind}_{joint}": _sides(shares, joint) for joint in MPII_JOINTS}
        known = [share for share in found if share is not None]
        numbers[kind] = float(np.mean(known)) if known else None
    return numbers, _pck_reasons(numbers, "")


def _sides(shares: Mapping[str, float | None], joint: str) -> float | None:
    return _mean([shares.get(f"left_{joint}"), shares.get(f"right_{joint}")])


def _weighted(shares: Sequence[float | None], weights: npt.NDArray[np.int64]) -> float | None:
    known = [(share, int(weight)) for share, weight in zip(shares, weights, strict=True) if share is not None]
    total = sum(weight for _, weight in known)
    return sum(share * weight for share, weight in known) / total if total else None


def _pck_reasons(numbers: Mapping[str, float | None], all_lack: str) -> dict[str, str]:
    lacking = all_lack or "nobody is labelled with it, or it is not estimated"
    return {name: lacking for name, value in numbers.items() if value is None}


def _pose_track(compared: _Compared) -> _Protocol:
    """AP of each joint as poseval defines it: a joint is right within half a head of that of the person it belongs to.

    A result belongs to the person of whom it has the largest share of joints right, and each person keeps the result
    that has the largest. Images without any label do not count, and neither do joints in regions to be ignored, nor
    people without a head.
    """
    names = compared.keypoints.names
    joints = [name for group in POSETRACK_JOINTS.values() for name in group if name in names]
    places = [names.index(name) for name in joints]
    scores: list[list[float]] = [[] for _ in joints]
    right: list[list[bool]] = [[] for _ in joints]
    totals = np.zeros(len(joints), dtype=np.int64)
    labelled: dict[int | str, list[Annotation]] = defaultdict(list)
    for person in compared.people():
        if head_size(person) > 0:
            labelled[person["image_id"]].append(person)
    found: dict[int | str, list[Annotation]] = defaultdict(list)
    for row in compared.rows:
        found[row["image_id"]].append(row)
    for image in compared.ground_truth["images"]:
        people, rows = labelled[image["id"]], found[image["id"]]
        if not people:
            continue
        values = np.array([row["keypoints"] for row in people], dtype=np.float64).reshape(len(people), -1, 3)[:, places]
        poses = np.array([row["keypoints"] for row in rows], dtype=np.float64).reshape(len(rows), len(names), 3)
        poses = poses[:, places, :2]
        regions = _ignored(image)
        has_label = values.any(axis=-1) & ~_inside(values[..., :2], regions)
        has_result = ~_inside(poses, regions)
        totals += has_label.sum(axis=0)
        sizes = np.array([head_size(person) for person in people])
        distances = np.linalg.norm(poses[:, None] - values[None, ..., :2], axis=-1) / sizes[None, :, None]
        hits = (distances <= 0.5) & has_label[None] & has_result[:, None]
        owner = _owners(hits.sum(axis=2) / np.maximum(has_label.sum(axis=1), 1)[None])
        for result, row in enumerate(rows):
            for joint, place in enumerate(places):
                if has_result[result, joint]:
                    scores[joint].append(row["keypoint_scores"][place])
                    right[joint].append(owner[result] >= 0 and bool(hits[result, owner[result], joint]))
    values_of = {
        name: _average_precision(scores[number], right[number], int(totals[number]))
        for number, name in enumerate(joints)
    }
    numbers = {
        f"ap_{group}": _mean([values_of.get(name) for name in members]) for group, members in POSETRACK_JOINTS.items()
    }
    known = [value for value in values_of.values() if value is not None]
    numbers["ap_joints"] = float(np.mean(known)) if known else None
    nobody = "" if any(labelled.values()) else "nobody's head is labelled (bbox_head)"
    return numbers, _pck_reasons(numbers, nobody)


def _owners(shares: Floats) -> npt.NDArray[np.int64]:
    """Return the person of each result, -1 for none, from the shares (results, people) of joints it has right."""
    owner = np.full(len(shares), -1)
    if not shares.size:
        return owner
    best = np.zeros_like(shares)
    rows = np.arange(len(shares))
    best[rows, shares.argmax(axis=1)] = shares.max(axis=1)
    for person in range(shares.shape[1]):
        if best[:, person].max() > 0:
            owner[best[:, person].argmax()] = person
    return owner


def _ignored(image: Mapping[str, Any]) -> list[npt.NDArray[np.float32]]:
    """Return the polygons of an image in which PoseTrack18 has no labels."""
    columns = image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or []
    polygons = (np.array([x, y], dtype=np.float32).T for x, y in zip(*columns, strict=False) if len(x) == len(y) > 2)
    return [np.ascontiguousarray(polygon) for polygon in polygons]


def _inside(points: Floats, regions: Sequence[npt.NDArray[np.float32]]) -> Bools:
    """Return which of the points (..., 2) lie in one of the polygons, bool (...)."""
    found = np.zeros(points.shape[:-1], dtype=bool)
    if regions:
        for place in np.ndindex(*found.shape):
            point = float(points[place][0]), float(points[place][1])
            found[place] = any(cv2.pointPolygonTest(region, point, False) > 0 for region in regions)
    return found


def _average_precision(scores: Sequence[float], right: Sequence[bool], total: int) -> float | None:
    """Return the area under the curve of precision, made to fall, over recall; None where nothing is labelled."""
    if not total:
        return None
    if not scores:
        return 0.0
    hits = np.array(right)[np.argsort(-np.array(scores), kind="stable")].cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float((np.diff(hits, prepend=0) / total * precision).sum())


_PROTOCOLS: dict[str, Callable[[_Compared], _Protocol]] = {
    "crowdpose": _crowd_pose,
    "coco_wholebody": _whole_body,
    "mpii": _mpii,
    "jhmdb": _jhmdb,
    "posetrack18": _pose_track,
}
