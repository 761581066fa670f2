"""Measures the loop round by round (protocol 1): numbers from labels and results. Knows no file, no picture.

Where a number is None, ``reasons`` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import get_args

from bmp.evaluation.metrics.coco import CocoNumbers, Kind, evaluate_coco, to_results
from bmp.evaluation.metrics.matching import (
    EqualPrecision,
    Matches,
    found_and_lost,
    match,
    mean_iou,
    precision,
    recall,
    recall_at_equal_precision,
)
from bmp.evaluation.metrics.poses import PoseNumbers, PoseSets, evaluate_poses, pose_precision
from bmp.io.annotations import Annotation, CocoDataset

_NOBODY = "nobody is labelled"
_VISIBLE = 2


@dataclass(frozen=True)
class Overlap:
    """How many people are found, by the overlap of boxes or of masks, from IoU 0.5; None where there is no number.

    recall, precision, mean_iou: in [0, 1], of all people known after the round. found, lost: how many of the labelled
    people are matched now and were not after the round before, and the other way round.
    """

    recall: float | None
    precision: float | None
    mean_iou: float | None
    found: int
    lost: int


@dataclass(frozen=True)
class ComparisonSettings:
    """How results are measured; by default as COCO does.

    segm_score: the score that ranks masks, a name of ``bmp.evaluation.metrics.coco.SEGM_SCORES``. max_detections: how
    many boxes and masks of an image count for average precision, the best first. max_poses: how many poses.
    approximate_keypoints: measure poses also on labelled keypoints that are not estimated but have a neighbour that is,
    such as the neck of another data set, see ``bmp.label_sets.conversion``. pose_nms: OKS above which the less sure of
    two poses of an image is left out before poses are measured, MMPose's 0.9 for one; None for none.
    """

    segm_score: str = "detection_times_iou"
    max_detections: int = 100
    max_poses: int = 20
    approximate_keypoints: bool = False
    pose_nms: float | None = None

    def limit(self, kind: Kind) -> int:
        """Return how many results of that kind count in an image."""
        return self.max_poses if kind == "keypoints" else self.max_detections


_AS_COCO = ComparisonSettings()
_BOTH_COCO = PoseSets()


@dataclass(frozen=True, eq=False)
class Round:
    """The numbers of everybody known after a round.

    number: of the round, from 1. people: how many are known. coco: by kind, only kinds that the ground truth has labels
    for. poses: the same of keypoints with what the benchmark of their set asks for besides, None where they are not
    compared. boxes: overlap of boxes. masks: overlap of masks, None where the ground truth has none. matches: which
    result is which person, by masks where there are masks, else by boxes. beyond: by kind, how many of the people known
    are beyond the limit of their image. visible_keypoints: of poses, with OKS over the visible keypoints alone; None
    where the ground truth does not tell visible keypoints from hidden ones.
    """

    number: int
    people: int
    coco: dict[Kind, CocoNumbers]
    poses: PoseNumbers | None
    boxes: Overlap
    masks: Overlap | None
    matches: Matches
    beyond: dict[Kind, int]
    visible_keypoints: CocoNumbers | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """All rounds, and the recall of boxes after the last where it is as precise as after the first.

    lacking: for each kind that cannot be compared, the reason. lacking_visible: the same for
    visible keypoints, "" where they can be compared. sets: the keypoints of labels and results.
    """

    rounds: list[Round]
    box_recall: EqualPrecision
    settings: ComparisonSettings
    lacking: dict[Kind, str]
    lacking_visible: str
    sets: PoseSets


def compare_rounds(
    ground_truth: CocoDataset,
    rows_of: Callable[[int], Sequence[Annotation]],
    rounds: int,
    settings: ComparisonSettings = _AS_COCO,
    sets: PoseSets = _BOTH_COCO,
) -> Comparison:
    """Measure the people known after each round.

    Masks and keypoints are compared where the ground truth has them: masks where every person has one, keypoints where
    anybody has one. Recall, precision and mean IoU are of all results, average precision of those within the limits of
    ``settings``.

    Args:
        ground_truth: COCO dict of persons.
        rows_of: gives the annotations, with all digits, of everybody known after a round, counted from 1.
        rounds: how many there are, at least 1.
        settings: how they are measured.
        sets: what the keypoints of the ground truth and of the rows mean; COCO's if not given.
    """
    sets = replace(sets, approximate=settings.approximate_keypoints, alike=settings.pose_nms)
    kinds = labelled_kinds(ground_truth, sets)
    lacking = _lacking(ground_truth, sets)
    lacking_visible = lacking.get("keypoints") or _one_sort_of_keypoints(ground_truth)
    visible = None if lacking_visible else _visible_alone(ground_truth)
    done: list[Round] = []
    box_matches: list[Matches] = []
    mask_matches: list[Matches] = []
    for number in range(1, rounds + 1):
        rows = rows_of(number)
        coco: dict[Kind, CocoNumbers] = {
            kind: evaluate_coco(ground_truth, to_results(rows, kind, settings.segm_score), kind, settings.limit(kind))
            for kind in kinds
            if kind != "keypoints"
        }
        poses = None
        if "keypoints" in kinds:
            poses = evaluate_poses(ground_truth, rows, sets, settings.max_poses)
            coco["keypoints"] = poses.coco
        box_matches.append(match(ground_truth, rows, "bbox"))
        if "segm" in kinds:
            mask_matches.append(match(ground_truth, rows, "segm", segm_score=settings.segm_score))
        counts = Counter(row["image_id"] for row in rows).values()
        done.append(
            Round(
                number,
                len(rows),
                coco,
                poses,
                _overlap(box_matches),
                _overlap(mask_matches) if mask_matches else None,
                (mask_matches or box_matches)[-1],
                {kind: sum(max(0, count - settings.limit(kind)) for count in counts) for kind in get_args(Kind)},
                None if visible is None else pose_precision(visible, rows, sets, settings.max_poses),
            )
        )
    if not done:
        raise ValueError(f"expected at least 1 round, got {rounds}")
    equal = recall_at_equal_precision(box_matches[0], box_matches[-1])
    return Comparison(done, equal, settings, lacking, lacking_visible, sets)


def labelled_kinds(ground_truth: CocoDataset, sets: PoseSets = _BOTH_COCO) -> list[Kind]:
    """Return the kinds of labels in the ground truth: boxes always, masks if all have one, keypoints if anybody has.

    Keypoints only if results of ``sets`` can be compared with them.
    """
    unlabelled = _unlabelled(ground_truth, sets)
    return [kind for kind in get_args(Kind) if kind not in unlabelled]


def reasons(comparison: Comparison) -> dict[str, str]:
    """Return the reason for each missing number, a sentence without its full stop.

    Returns:
        by the key of the number in ``bmp.evaluation.report.numbers``, such as "rounds[0].segm.ap_small".
    """
    found: dict[str, str] = {}
    for index, entry in enumerate(comparison.rounds):
        place = f"rounds[{index}]"
        for kind in get_args(Kind):
            if kind in entry.coco:
                missing = _reasons_of_coco(entry.coco[kind], comparison)
                found |= {f"{place}.{kind}.{name}": reason for name, reason in missing.items()}
                if kind == "keypoints" and entry.poses:
                    own = entry.poses.reasons
                    found |= {f"{place}.keypoints_protocol.{name}": reason for name, reason in own.items()}
            else:
                found[f"{place}.{kind}"] = comparison.lacking[kind]
        if entry.visible_keypoints is None:
            found[f"{place}.visible_keypoints"] = comparison.lacking_visible
        else:
            missing = _reasons_of_coco(entry.visible_keypoints, comparison)
            found |= {f"{place}.visible_keypoints.{name}": reason for name, reason in missing.items()}
        found |= _reasons_of_overlap(f"{place}.boxes_at_iou_50", entry.boxes, "bbox", entry, comparison)
        if entry.masks is None:
            found[f"{place}.masks_at_iou_50"] = comparison.lacking["segm"]
        else:
            found |= _reasons_of_overlap(f"{place}.masks_at_iou_50", entry.masks, "segm", entry, comparison)
    return found | _reasons_of_equal_precision(comparison)


def _unlabelled(ground_truth: CocoDataset, sets: PoseSets) -> dict[Kind, str]:
    """Return the missing labels for each kind that cannot be compared."""
    annotations = ground_truth["annotations"]
    if not annotations:
        return {"segm": _NOBODY, "keypoints": _NOBODY}
    missing: dict[Kind, str] = {}
    bare = [number for number, row in enumerate(annotations, 1) if "segmentation" not in row]
    if bare:
        first = annotations[bare[0] - 1].get("id", bare[0])
        missing["segm"] = (
            f"{len(bare)} of the {len(annotations)} annotations have no mask, the first is annotation {first}; "
            "masks are compared where everybody has one"
        )
    if sets.unknown:
        missing["keypoints"] = f"the labelled keypoints cannot be compared, {sets.unknown}"
    elif not any(row.get("num_keypoints", 0) > 0 for row in annotations):
        missing["keypoints"] = "nobody has labelled keypoints"
    elif not sets.conversion.known:
        missing["keypoints"] = f"none of {sets.labelled} is estimated ({', '.join(sets.labelled.names):.60})"
    return missing


def _lacking(ground_truth: CocoDataset, sets: PoseSets) -> dict[Kind, str]:
    """Return the reason for each kind that cannot be compared: no labels, or crowd regions only."""
    people = [row for row in ground_truth["annotations"] if not row.get("iscrowd")]
    lacking: dict[Kind, str] = {}
    if not people:
        reason = "only crowd regions are labelled" if ground_truth["annotations"] else _NOBODY
        lacking = dict.fromkeys(get_args(Kind), reason)
    elif not any(row.get("num_keypoints", 0) > 0 for row in people):
        lacking["keypoints"] = "only crowd regions have labelled keypoints"
    return lacking | _unlabelled(ground_truth, sets)


def _flags(annotation: Annotation) -> Sequence[float]:
    """Return v of each keypoint: 0 not labelled, 1 hidden, 2 visible."""
    return annotation.get("keypoints", ())[2::3]


def _one_sort_of_keypoints(ground_truth: CocoDataset) -> str:
    """Say why visible keypoints are nothing to compare apart; "" where both sorts are labelled of people."""
    flags = {flag for row in ground_truth["annotations"] if not row.get("iscrowd") for flag in _flags(row)}
    absent = next((word for flag, word in ((2, "visible"), (1, "hidden")) if flag not in flags), "")
    return f"no keypoint is labelled as {absent}" if absent else ""


def _visible_alone(ground_truth: CocoDataset) -> CocoDataset:
    """Return the ground truth with hidden keypoints as if not labelled; people without others do not count."""
    rows: list[Annotation] = []
    for row in ground_truth["annotations"]:
        flags = _flags(row)
        keypoints = [value if flags[i // 3] == _VISIBLE else 0 for i, value in enumerate(row.get("keypoints", ()))]
        count = sum(flag == _VISIBLE for flag in flags)
        rows.append({**row, "keypoints": keypoints, "num_keypoints": count} if flags else row)
    return {**ground_truth, "annotations": rows}


def _reasons_of_coco(numbers: CocoNumbers, comparison: Comparison) -> dict[str, str]:
    kind = numbers.kind
    missing = [name for name, value in asdict(numbers).items() if value is None]
    if kind in comparison.lacking:
        return dict.fromkeys(missing, comparison.lacking[kind])
    return {name: _reason_of_coco(name, kind, comparison.settings) for name in missing}


def _reason_of_coco(name: str, kind: Kind, settings: ComparisonSettings) -> str:
    if kind == "keypoints" and name in ("ap_small", "ar_small", "ar_1", "ar_10"):
        return "COCO does not define it for poses"
    if name in ("ar_1", "ar_10"):
        return f"at most {settings.limit(kind)} results of an image are measured"
    size = name.partition("_")[2]
    if size:
        return f"nobody labelled is {size}, as COCO divides people by area"
    return "everybody labelled has an area beyond those of COCO, which end at 1e10 square pixels"


def _reasons_of_overlap(
    place: str, overlap: Overlap, kind: Kind, entry: Round, comparison: Comparison
) -> dict[str, str]:
    found: dict[str, str] = {}
    if overlap.recall is None:
        found[f"{place}.recall"] = comparison.lacking[kind]
    if overlap.precision is None:
        found[f"{place}.precision"] = _no_precision(entry)
    if overlap.mean_iou is None:
        found[f"{place}.mean_iou"] = f"no result after round {entry.number} shows anybody labelled"
    return found


def _no_precision(entry: Round) -> str:
    where = "outside crowd regions " if entry.people else ""
    return f"nobody was found {where}after round {entry.number}"


def _reasons_of_equal_precision(comparison: Comparison) -> dict[str, str]:
    equal, first = comparison.box_recall, comparison.rounds[0]
    nobody = comparison.lacking.get("bbox") or _no_precision(first)
    found = {
        "precision": _no_precision(first),
        "first": nobody,
        "second": nobody,
        "min_score": f"no choice of the results is as precise as round {first.number}"
        if equal.second is not None
        else nobody,
    }
    return {
        f"box_recall_at_equal_precision.{name}": reason
        for name, reason in found.items()
        if getattr(equal, name) is None
    }


def _overlap(matches: Sequence[Matches]) -> Overlap:
    """Return the overlap after the last of these rounds."""
    now = matches[-1]
    if len(matches) == 1:
        found, lost = len(now.found()), 0
    else:
        found, lost = map(len, found_and_lost(matches[-2], now))
    return Overlap(recall(now), precision(now), mean_iou(now), found, lost)
