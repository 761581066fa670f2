"""Trials of a segmenter on a data set: ways to prompt it, each image encoded once for all of them.

It knows neither the paper's tables, which are lists of trials, nor what becomes of the measurements.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from bmp.build import build_part
from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage, true_poses
from bmp.evaluation.ablations.curves import correction_curve, prompt_curve
from bmp.evaluation.metrics.coco import CocoNumbers, CocoResult, evaluate_coco, to_results
from bmp.evaluation.pose_to_mask import detected_poses, segment_poses
from bmp.evaluation.published import EvaluationProtocol
from bmp.io.annotations import Annotation
from bmp.registry import POINT_SAMPLERS, PROMPTERS
from bmp.segmenters.cropped import CroppedSegmenter
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.stages import Detector, PoseEstimator

Step = TypeVar("Step")

CORRECTIONS = 7
"""How many corrections SAM is trained with, and Figure 2 shows."""

_IMAGE_BATCH = 4


class Track(Protocol):
    """Shows progress: passes ``steps`` on, ``total`` of them, under the line ``what``."""

    def __call__(self, steps: Iterable[Step], total: int, what: str) -> Iterable[Step]:
        """Return the steps."""
        ...


@dataclass(frozen=True)
class PromptTrial:
    """A way to prompt a segmenter for the masks of people.

    segmenter: its name in the family. prompter: config as JSON, so that a trial can be looked up. protocol: whether
    the poses are estimated or labelled. crop: side of the crop that the segmenter gets of each person, as a multiple
    of the box; None for whole images.
    """

    segmenter: str
    prompter: str
    protocol: EvaluationProtocol = "detected_poses"
    crop: float | None = None


@dataclass(frozen=True)
class CorrectionTrial:
    """How good the masks of a segmenter get by seven corrections (Figure 2).

    segmenter: its name in the family. sampler: type of what chooses the points, as in training. protocol: the poses
    that it may choose from.
    """

    segmenter: str
    sampler: str = "MaskRefine"
    protocol: EvaluationProtocol = "detected_poses"


Trial = PromptTrial | CorrectionTrial
Measurement = dict[str, CocoNumbers] | list[float | None]
"""COCO's numbers of a ``PromptTrial`` by ``RANKINGS``; of a ``CorrectionTrial`` the mean IoU in [0, 1] after 0, 1, ...
7 corrections, None if nobody is there."""


class EstimatedPoses:
    """The people of a data set with the poses that an estimator gave them once, to be gone through again and again.

    Each pass loads the images anew; only a few numbers a person stay in memory.

    Args:
        dataset: the people.
        pose: the estimator.
        track: shows how far the estimation is.
        detector: makes masks for an estimator that is conditioned on them, see ``detected_poses``.
    """

    def __init__(
        self, dataset: PeopleDataset, pose: PoseEstimator, track: Track, detector: Detector | None = None
    ) -> None:
        self._dataset = dataset
        self._indices = {image["id"]: index for index, image in enumerate(dataset.ground_truth["images"])}
        estimated = detected_poses(dataset, pose, _IMAGE_BATCH, detector)
        batches = track(estimated, _batches(dataset), f"{dataset.name}: poses")
        self._known = [[(posed.annotations, posed.people, posed.poses) for posed in batch] for batch in batches]

    def __iter__(self) -> Iterator[list[PosedImage]]:
        for batch in self._known:
            yield [
                PosedImage(self._dataset.load(self._indices[annotations[0]["image_id"]]), annotations, people, poses)
                for annotations, people, poses in batch
            ]


def measure(
    dataset: PeopleDataset,
    poses: Iterable[Sequence[PosedImage]],
    segmenter: PromptedSegmenter,
    trials: Iterable[Trial],
    track: Track,
) -> dict[Trial, Measurement]:
    """Measure a segmenter on a data set, by all rankings of its masks.

    All trials with whole images and estimated poses share one pass, in which each image is encoded once; so do those
    with labelled poses. Crops and corrections take a pass each.

    Args:
        dataset: with a mask for everybody, and with labelled keypoints if a trial needs these.
        poses: estimated ones, such as ``EstimatedPoses``; not gone through if no trial needs them.
        segmenter: its own prompter is not used.
        trials: which; the names of segmenters in them do not matter here.
        track: shows progress.

    Raises:
        UserError: for a trial that the segmenter, the poses or the data set cannot serve.
        ImageError: an image is broken.
    """
    trials = list(dict.fromkeys(trials))
    passes = _Passes(dataset, poses, track)
    measured: dict[Trial, Measurement] = {}
    for protocol in passes.protocols:
        own = [trial for trial in trials if trial.protocol == protocol]
        whole = [trial for trial in own if isinstance(trial, PromptTrial) and trial.crop is None]
        measured.update(_whole_images(passes, segmenter, protocol, whole))
        for trial in own:
            if isinstance(trial, CorrectionTrial):
                measured[trial] = _corrections(passes, segmenter, trial)
            elif trial.crop is not None:
                measured[trial] = _crops(passes, segmenter, trial, trial.crop)
    return {trial: measured[trial] for trial in trials}


class _Passes:
    """Goes through the images of a data set with poses of either protocol, showing progress."""

    def __init__(self, dataset: PeopleDataset, poses: Iterable[Sequence[PosedImage]], track: Track) -> None:
        self.dataset = dataset
        self.protocols: dict[EvaluationProtocol, Iterable[Sequence[PosedImage]]] = {
            "detected_poses": poses,
            "ground_truth_poses": true_poses(dataset, image_batch=_IMAGE_BATCH),
        }
        self._track = track

    def over(self, protocol: EvaluationProtocol, what: str) -> Iterable[Sequence[PosedImage]]:
        return self._track(self.protocols[protocol], _batches(self.dataset), f"{self.dataset.name}: {what}")

    def numbers(self, results: Sequence[CocoResult]) -> dict[str, CocoNumbers]:
        """Compare results, whose scores are predicted IoU, by all rankings."""
        alike = [CocoResult(**{**result, "score": 1.0}) for result in results]
        return {
            "iou": evaluate_coco(self.dataset.ground_truth, results, "segm"),
            "constant": evaluate_coco(self.dataset.ground_truth, alike, "segm"),
        }


def _whole_images(
    passes: _Passes, segmenter: PromptedSegmenter, protocol: EvaluationProtocol, trials: Sequence[PromptTrial]
) -> dict[Trial, Measurement]:
    if not trials:
        return {}
    prompters = {trial: build_part(json.loads(trial.prompter), PROMPTERS) for trial in trials}
    results: dict[PromptTrial, list[CocoResult]] = {trial: [] for trial in trials}
    for trial, row in prompt_curve(passes.over(protocol, f"{len(trials)} ways to prompt"), segmenter, prompters):
        results[trial] += _results(row)  # a fraction of what the row takes in memory
    return {trial: passes.numbers(own) for trial, own in results.items()}


def _crops(passes: _Passes, segmenter: PromptedSegmenter, trial: PromptTrial, crop: float) -> dict[str, CocoNumbers]:
    prompted = copy(segmenter)
    prompted.prompter = build_part(json.loads(trial.prompter), PROMPTERS)
    rows = segment_poses(passes.over(trial.protocol, "crops"), CroppedSegmenter(prompted, crop))
    return passes.numbers([result for row in rows for result in _results(row)])


def _corrections(passes: _Passes, segmenter: PromptedSegmenter, trial: CorrectionTrial) -> list[float | None]:
    # No correction is from the true mask for its own sake.
    sampler = build_part({"type": trial.sampler, "ground_truth_probability": 0}, POINT_SAMPLERS)
    batches = passes.over(trial.protocol, "corrections")
    ious = [curve for _, curve in correction_curve(batches, segmenter, CORRECTIONS, sampler=sampler)]
    return np.mean(ious, axis=0).tolist() if ious else [None] * (CORRECTIONS + 1)


def _results(row: Annotation) -> list[CocoResult]:
    return to_results([row], "segm", segm_score="iou")


def _batches(dataset: PeopleDataset) -> int:
    peopled = {row["image_id"] for row in dataset.ground_truth["annotations"] if not row["iscrowd"]}
    return -(-len(peopled) // _IMAGE_BATCH)
