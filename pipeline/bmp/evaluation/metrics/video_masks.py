"""Masks through a video: region and contour quality as DAVIS has them, and AP of space-time masks.

It knows arrays only: no file, no data set, and nothing of who gave a mask its identity.

Per object and frame, J is the intersection over union of the masks, and F the harmonic mean of the precision and recall
of their boundaries, which may lie some pixels apart (Perazzi et al., "A benchmark dataset and evaluation methodology
for video object segmentation", 2016). Over a data set both are averaged over objects, not over videos or frames. The
definitions are those of the public evaluation davis2017-evaluation, but for the decay of more than 256 frames, where
its indices of 8 bits overflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment

from bmp.errors import UserError
from bmp.evaluation.metrics.coco import CocoResult, compare, summarize
from bmp.io.annotations import CATEGORY_ID, Annotation, CocoDataset, ImageRow
from bmp.io.segmentations import mask_area, mask_box
from bmp.ops.masks import RunLengths, to_rle

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]

MOST_PROPOSALS = 20
"""How many masks an unsupervised method may offer for a video of DAVIS."""

_TOLERANCE = 0.008  # of the diagonal of the frame


@dataclass(frozen=True)
class FrameSummary:
    """J or F of an object over its frames.

    mean: in [0, 1]. recall: the share of frames above 0.5. decay: the mean of the first quarter minus that of the last.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, eq=False)
class ObjectQuality:
    """How well objects of one video were segmented, frame by frame.

    region: J, float64 (O, T) in [0, 1]. contour: F, the same. Frames are those that count.
    """

    region: Floats
    contour: Floats


@dataclass(frozen=True)
class VideoMaskNumbers:
    """J and F of a data set, averaged over its objects.

    region, contour: summaries of J and F, each number a mean over objects. objects: how many there are.
    """

    region: FrameSummary
    contour: FrameSummary
    objects: int

    @property
    def region_and_contour(self) -> float:
        """J&F, the mean of mean J and mean F."""
        return (self.region.mean + self.contour.mean) / 2


@dataclass(frozen=True, eq=False)
class SpaceTimeMasks:
    """Objects of one video and what was found of them.

    ground_truth: bool (G, T, H, W). found: bool (D, T, H, W). scores: float (D,), how sure each found object is.
    """

    ground_truth: Bools
    found: Bools
    scores: Floats

    def __post_init__(self) -> None:
        check_masks(self.ground_truth, self.found, objects_align=False)
        if self.scores.shape != self.found.shape[:1] or not np.isfinite(self.scores).all():
            raise UserError(
                f"expected a finite score for each of {len(self.found)} found objects, got an array "
                f"{self.scores.shape} with {int((~np.isfinite(self.scores)).sum())} that are not finite"
            )


@dataclass(frozen=True)
class SpaceTimeAP:
    """Average precision and recall over IoU of whole tracks, in [0, 1]; None where no object is labelled.

    ap, ar: mean over IoU 0.5, 0.55, ..., 0.95, with the best 100 found objects of each video. ap50, ap75: at that IoU.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ar: float | None


def region_similarity(ground_truth: Bools, found: Bools, void: Bools | None = None) -> Floats:
    """Return J, the intersection over union of masks; 1 where both are empty.

    Args:
        ground_truth: bool (..., H, W).
        found: the same shape.
        void: bool, of a shape that broadcasts to theirs: pixels that do not count.

    Returns:
        float64 (...) in [0, 1].

    Raises:
        UserError: the shapes or types differ.

    Examples:
        >>> square, half = np.zeros((2, 8, 8), bool)
        >>> square[2:6, 2:6] = half[2:6, 2:4] = True
        >>> float(region_similarity(square, half))
        0.5
    """
    check_masks(ground_truth, found)
    counted = np.True_ if void is None else ~void
    intersection = (ground_truth & found & counted).sum(axis=(-2, -1))
    union = ((ground_truth | found) & counted).sum(axis=(-2, -1))
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def contour_accuracy(ground_truth: Bools, found: Bools, void: Bools | None = None) -> Floats:
    """Return F, the harmonic mean of precision and recall of the boundary, see ``boundary`` and ``tolerance``.

    It is 1 where neither mask has a boundary and 0 where only one has. Arguments, result and errors are those of
    ``region_similarity``; void pixels belong to neither mask.

    Examples:
        >>> square, half = np.zeros((2, 8, 8), bool)
        >>> square[2:6, 2:6] = half[2:6, 2:4] = True
        >>> round(float(contour_accuracy(square, half)), 4)
        0.7857
    """
    check_masks(ground_truth, found)
    if void is not None:
        ground_truth, found = ground_truth & ~void, found & ~void
    height, width = ground_truth.shape[-2:]
    disk = _disk(tolerance(height, width))
    result = np.empty(ground_truth.shape[:-2])
    for index in np.ndindex(result.shape):
        result[index] = _boundary_f(boundary(ground_truth[index]), boundary(found[index]), disk)
    return result


def boundary(mask: Bools) -> Bools:
    """Return which pixels differ from their right, lower or lower right neighbour, bool (..., H, W) as ``mask``.

    The line lies half a pixel towards the origin, and where a mask touches the border of the frame there is none.
    """
    edge = np.zeros_like(mask)
    edge[..., :, :-1] |= mask[..., :, :-1] ^ mask[..., :, 1:]
    edge[..., :-1, :] |= mask[..., :-1, :] ^ mask[..., 1:, :]
    edge[..., :-1, :-1] |= mask[..., :-1, :-1] ^ mask[..., 1:, 1:]
    return edge


def tolerance(height: int, width: int) -> int:
    """Return how many pixels apart boundaries may lie in frames of that size."""
    return math.ceil(_TOLERANCE * math.hypot(height, width))


def object_quality(
    ground_truth: Bools, found: Bools, void: Bools | None = None, *, every_frame: bool = False
) -> ObjectQuality:
    """Compare the objects of a video with the answers for them, row by row.

    Args:
        ground_truth: bool (O, T, H, W).
        found: the same shape; an object that was not answered has empty masks.
        void: bool (T, H, W), pixels that do not count.
        every_frame: count the first frame, which is given in semi-supervised segmentation, and the last, too.

    Raises:
        UserError: the shapes or types differ, or no frame is left.
    """
    check_masks(ground_truth, found)
    if ground_truth.ndim != 4:
        raise UserError(f"expected masks (objects, frames, height, width), got {ground_truth.shape}")
    counted = slice(None) if every_frame else slice(1, -1)
    ground_truth, found, void = ground_truth[:, counted], found[:, counted], None if void is None else void[counted]
    if not ground_truth.shape[1]:
        raise UserError("no frame is left to be compared: the first and the last do not count; give at least 3")
    return ObjectQuality(region_similarity(ground_truth, found, void), contour_accuracy(ground_truth, found, void))


def match_proposals(ground_truth: Bools, proposals: Bools, void: Bools | None = None) -> Bools:
    """Return for each object the proposal that is its own, for unsupervised segmentation.

    Pairs are those with the largest sum of mean J and mean F over all frames; who has none gets empty masks.

    Args:
        ground_truth: bool (O, T, H, W).
        proposals: bool (P, T, H, W), at most ``MOST_PROPOSALS``.
        void: bool (T, H, W), pixels that do not count.

    Returns:
        bool (O, T, H, W), rows as in ``ground_truth``; compare them with ``object_quality(..., every_frame=True)``.

    Raises:
        UserError: the shapes or types do not fit, or there are too many proposals.
    """
    check_masks(ground_truth, proposals, objects_align=False)
    if len(proposals) > MOST_PROPOSALS:
        raise UserError(f"expected at most {MOST_PROPOSALS} proposals, got {len(proposals)}; give the best ones")
    quality = np.zeros((len(ground_truth), len(proposals)))
    for row, column in np.ndindex(quality.shape):
        pair = ground_truth[row], proposals[column], void
        quality[row, column] = region_similarity(*pair).mean() + contour_accuracy(*pair).mean()
    own = np.zeros_like(ground_truth)
    rows, columns = linear_sum_assignment(quality, maximize=True)
    own[rows] = proposals[columns]
    return own


def summarize_frames(values: Floats) -> FrameSummary:
    """Return mean, recall and decay of J or F of one object, float (T,) with at least one frame.

    Quarters are bounded by the frames round(linspace(1, T, 5)) - 1, bounds included on both sides.
    """
    if values.ndim != 1 or not values.size:
        raise UserError(f"expected one number a frame, of at least one frame, got an array {values.shape}")
    bounds = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[bounds[0] : bounds[1] + 1], values[bounds[3] : bounds[4] + 1]
    return FrameSummary(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()))


def summarize_objects(videos: Sequence[ObjectQuality]) -> VideoMaskNumbers | None:
    """Return the numbers of a data set: means over all objects of all videos; None where there is no object."""
    region = [summarize_frames(values) for video in videos for values in video.region]
    contour = [summarize_frames(values) for video in videos for values in video.contour]
    if not region:
        return None
    return VideoMaskNumbers(_mean(region), _mean(contour), len(region))


def space_time_iou(ground_truth: Bools, found: Bools) -> Floats:
    """Return the IoU of whole tracks: intersections of all frames over unions of all frames.

    ground_truth: bool (G, T, H, W). found: bool (D, T, H, W). Returns float64 (G, D) in [0, 1], 0 for two empty ones.
    """
    check_masks(ground_truth, found, objects_align=False)
    result = np.zeros((len(ground_truth), len(found)))
    for row, column in np.ndindex(result.shape):
        union = int(np.count_nonzero(ground_truth[row] | found[column]))
        result[row, column] = int(np.count_nonzero(ground_truth[row] & found[column])) / max(union, 1)
    return result


def space_time_ap(videos: Sequence[SpaceTimeMasks]) -> SpaceTimeAP:
    """Return the AP of masks through time over a data set, as YouTube-VIS defines it, for one class.

    A track is right where its space-time IoU with a free labelled track reaches the threshold. The engine is
    pycocotools, which is given each video as one tall image. Numbers by size are left out.
    """
    ground_truth = CocoDataset(info={}, images=[], annotations=[], categories=[{"id": CATEGORY_ID, "name": "object"}])
    results: list[CocoResult] = []
    for number, video in enumerate(videos):
        height, width = math.prod(video.found.shape[1:3]), video.found.shape[3]
        ground_truth["images"].append(ImageRow(id=number, file_name="", height=height, width=width))
        for runs in _encode(video.ground_truth):
            box, area = mask_box(runs, height, width), mask_area(runs, height, width)
            ground_truth["annotations"].append(
                Annotation(
                    id=0,  # compare() numbers them
                    image_id=number,
                    category_id=CATEGORY_ID,
                    bbox=box,
                    area=area,
                    iscrowd=0,
                    segmentation=runs,
                )
            )
        for runs, score in zip(_encode(video.found), video.scores.tolist(), strict=True):
            results.append(CocoResult(image_id=number, category_id=CATEGORY_ID, score=score, segmentation=runs))
    numbers = summarize(compare(ground_truth, results, "segm"))
    return SpaceTimeAP(numbers.ap, numbers.ap50, numbers.ap75, numbers.ar)


def check_masks(ground_truth: Bools, found: Bools, *, objects_align: bool = True) -> None:
    """Raise ``UserError`` unless both are masks of one shape, apart from the first dimension if that is free."""
    first = 0 if objects_align else 1
    if ground_truth.dtype != np.bool_ or found.dtype != np.bool_:
        raise UserError(
            f"expected bool masks, got {ground_truth.dtype} and {found.dtype}; compare labels with a number"
        )
    if ground_truth.ndim != found.ndim or ground_truth.ndim < 2 or ground_truth.shape[first:] != found.shape[first:]:
        raise UserError(
            f"expected masks of the same frames and size, got {ground_truth.shape} and {found.shape}; "
            "an object that was not found has empty masks"
        )


def _boundary_f(ground_truth: Bools, found: Bools, disk: npt.NDArray[np.uint8]) -> float:
    labelled, answered = np.count_nonzero(ground_truth), np.count_nonzero(found)
    if not labelled or not answered:
        return float(labelled == answered)
    precision = np.count_nonzero(found & _dilate(ground_truth, disk)) / answered
    recall = np.count_nonzero(ground_truth & _dilate(found, disk)) / labelled
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _disk(radius: int) -> npt.NDArray[np.uint8]:
    steps = np.arange(-radius, radius + 1)
    return (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)


def _dilate(mask: Bools, disk: npt.NDArray[np.uint8]) -> Bools:
    dilated: Bools = cv2.dilate(mask.view(np.uint8), disk).astype(np.bool_)
    return dilated


def _mean(summaries: Sequence[FrameSummary]) -> FrameSummary:
    rows = np.array([(entry.mean, entry.recall, entry.decay) for entry in summaries])
    return FrameSummary(*map(float, rows.mean(axis=0)))


def _encode(tracks: Bools) -> list[RunLengths]:
    """Return the run lengths of each track of (N, T, H, W), as of one image whose frames lie below each other."""
    count, frames, height, width = tracks.shape
    return to_rle(torch.from_numpy(tracks.reshape(count, frames * height, width)))
