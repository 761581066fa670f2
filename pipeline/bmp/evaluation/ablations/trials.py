"""Ways to ask a segmenter for people's masks, and how they are answered on a data set, each image encoded once.

It knows neither the paper's tables, which are lists of such questions, nor what becomes of the answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeVar
from typing import Protocol as Interface

import numpy as np

from bmp.build import build_part
from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage, true_poses
from bmp.evaluation.ablations.curves import correction_curve, prompt_curve
from bmp.evaluation.metrics.coco import CocoNumbers, evaluate, to_results
from bmp.evaluation.pose_to_mask import detected_poses, segment_poses
from bmp.evaluation.published import Protocol
from bmp.segmenters.cropped import CroppedSegmenter
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.stages import PoseEstimator

Step = TypeVar("Step")

CORRECTIONS = 7
"""How many corrections SAM is trained with, and Figure 2 shows."""

_IMAGE_BATCH = 4


class Track(Interface):
    """Shows how far something is: passes ``steps`` on, ``total`` of them, under a line that says what it is."""

    def __call__(self, steps: Iterable[Step], total: int, what: str) -> Iterable[Step]:
        """Return the steps."""
        ...


@dataclass(frozen=True)
class Trial:
    """A way to ask a segmenter for the masks of people.

    segmenter: its name in the family. prompter: config as JSON, so that a trial can be looked up. protocol: whether it
    is asked with estimated or with labelled poses. crop: side of the crop that it is shown of each person, as a
    multiple of the box; None for whole images.
    """

    segmenter: str
    prompter: str
    protocol: Protocol = "detected_poses"
    crop: float | None = None


@dataclass(frozen=True)
class Corrections:
    """How good the masks of a segmenter get by seven corrections (Figure 2).

    segmenter: its name in the family. sampler: type of what chooses the points, as in training. protocol: the poses
    that it may choose from.
    """

    segmenter: str
    sampler: str = "MaskRefine"
    protocol: Protocol = "detected_poses"


Question = Trial | Corrections
Answer = CocoNumbers | list[float | None]
"""Of a trial its numbers, of corrections the mean IoU after 0, 1, ... 7 of them, in [0, 1]; None if nobody is there."""


class EstimatedPoses:
    """The people of a data set with the poses that an estimator gave them once, to be gone through again and again.

    Each pass loads the images anew: what is remembered are a few numbers a person.

    Args:
        dataset: whose people they are.
        pose: the estimator.
        track: shows how far the estimation is.
    """

    def __init__(self, dataset: PeopleDataset, pose: PoseEstimator, track: Track) -> None:
        self._dataset = dataset
        self._places = {image["id"]: place for place, image in enumerate(dataset.ground_truth["images"])}
        batches = track(detected_poses(dataset, pose, _IMAGE_BATCH), _batches(dataset), f"{dataset.name}: poses")
        self._known = [[(posed.annotations, posed.people, posed.poses) for posed in batch] for batch in batches]

    def __iter__(self) -> Iterator[list[PosedImage]]:
        for batch in self._known:
            yield [
                PosedImage(self._dataset.load(self._places[annotations[0]["image_id"]]), annotations, people, poses)
                for annotations, people, poses in batch
            ]


def answer(
    dataset: PeopleDataset,
    poses: Iterable[Sequence[PosedImage]],
    segmenter: PromptedSegmenter,
    questions: Iterable[Question],
    track: Track,
) -> dict[Question, Answer]:
    """Measure a segmenter on a data set; masks are ranked by predicted IoU.

    All trials with whole images and estimated poses share one pass, in which each image is encoded once; so do those
    with labelled poses. Crops and corrections take a pass each.

    Args:
        dataset: with a mask for everybody, and with labelled keypoints if a question is about these.
        poses: estimated ones, such as ``EstimatedPoses``; not gone through if no question needs them.
        segmenter: its own prompter is not asked.
        questions: which; for whom they are does not matter here.
        track: shows how far it is.

    Raises:
        UserError: for a question that the segmenter, the poses or the data set cannot answer.
        ImageError: an image is broken.
    """
    questions = list(dict.fromkeys(questions))
    trials = [question for question in questions if isinstance(question, Trial)]
    results: dict[Trial, list[dict[str, Any]]] = {trial: [] for trial in trials}
    prompters = {trial: build_part(json.loads(trial.prompter), "prompter") for trial in trials}
    protocols: dict[Protocol, Iterable[Sequence[PosedImage]]] = {
        "detected_poses": poses,
        "ground_truth_poses": true_poses(dataset, image_batch=_IMAGE_BATCH),
    }
    total = _batches(dataset)
    for protocol, batches in protocols.items():
        whole = {trial: prompters[trial] for trial in trials if trial.protocol == protocol and trial.crop is None}
        if whole:
            shown = track(batches, total, f"{dataset.name}: {len(whole)} ways to prompt")
            for trial, row in prompt_curve(shown, segmenter, whole):
                results[trial] += to_results([row], "segm", segm_score="iou")
    for trial in trials:
        if trial.crop is not None:
            prompted = copy(segmenter)
            prompted.prompter = prompters[trial]
            shown = track(protocols[trial.protocol], total, f"{dataset.name}: crops")
            rows = segment_poses(shown, CroppedSegmenter(prompted, trial.crop))
            results[trial] = [result for row in rows for result in to_results([row], "segm", segm_score="iou")]
    answers: dict[Question, Answer] = {}
    for question in questions:
        if isinstance(question, Trial):
            answers[question] = evaluate(dataset.ground_truth, results[question], "segm")
        else:
            # No correction is from the true mask for its own sake.
            sampler = build_part({"type": question.sampler, "truth_probability": 0}, "sampler")
            shown = track(protocols[question.protocol], total, f"{dataset.name}: corrections")
            ious = [curve for _, curve in correction_curve(shown, segmenter, CORRECTIONS, sampler=sampler)]
            answers[question] = np.mean(ious, axis=0).tolist() if ious else [None] * (CORRECTIONS + 1)
    return answers


def _batches(dataset: PeopleDataset) -> int:
    peopled = {row["image_id"] for row in dataset.ground_truth["annotations"] if not row["iscrowd"]}
    return -(-len(peopled) // _IMAGE_BATCH)
