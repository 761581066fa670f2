"""Fits everything that the lite preset has learnt from photos: scores of boxes, cells of masks, and thresholds.

    python benchmarks/fit_lite.py --dataset people.json --images DIR [--thresholds]

The data set is in COCO's format. Only every second image, in the order of their numbers, is used; the others stay
untouched, so that accuracy on them can be told. What is printed belongs into pipeline/bmp/detectors/lite.py and
pipeline/bmp/segmenters/lite.py. With ``--thresholds`` the half is divided once more, four times: scores are fitted to
three quarters, and what a threshold or a signal is worth is told from the rest.

Scores of boxes are fitted to textures without people as well: photos do not show that the networks see somebody in
noise that fills the image.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import as_command
from numpy.typing import NDArray

from bmp.checkpoints.sources import resolve
from bmp.datasets.people import PeopleDataset
from bmp.detectors import lite as detectors
from bmp.detectors.lite import Candidates, LiteDetector
from bmp.evaluation.metrics.coco import Kind, evaluate_coco, to_results
from bmp.evaluation.metrics.matching import match, precision, recall
from bmp.io.annotations import Annotation, CocoDataset, labelled_mask, to_annotations
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.lite import landmarks
from bmp.models.lite.logistic import Logistic
from bmp.models.lite.regions import ImagePyramid
from bmp.ops.boxes import iou, xywh_to_xyxy
from bmp.poses.lite import LitePoseEstimator
from bmp.segmenters import lite as segmenters
from bmp.segmenters.lite import LiteSegmenter
from bmp.structures import Detections, Image, Instances, Masks, Poses

LOOKED = ("found", "flags", "heat", "agreement", "size", "repeated", "inside", "holds")
UNLOOKED = ("found", "size", "fills", "repeated", "inside", "holds")
RIDGE = 10.0  # for signals of variance 1: strong, since a hundred people have to do for nine signals
TEXTURE = 0.1  # as how many boxes in photos a box in a texture counts
TEXTURES = ((480, 640), (640, 427))  # heights and widths
GRAINS = (1, 2, 4, 8, 16, 32, 64)  # pixels from one random value to the next
CELL_RIDGE = 1.0
CELLS_OF_A_PERSON = 10.0  # as how many independent ones they count
STEP = 4  # of the cells of a box every fourth is fitted to; neighbours say the same
THREADS = 2  # the default of the stages
CROWDED = 0.5  # share of a box within an unlabelled crowd from which nothing is known of it
FOLDS = 4
PRECISION = 0.77  # that `min_score` is chosen for: a little over the three quarters that it is to have elsewhere
BOX_THRESHOLDS = {"SAME": (0.5, 0.55, 0.6, 0.65, 0.7), "TRUSTED": (0.55, 0.6, 0.65, 0.7, 0.75)}
OWN = (0.3, 0.35, 0.375, 0.4, 0.45, 0.5)
RANK = (0.0, 0.1, 0.25, 0.5, 1.0)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Example:
    """An image of the half, its labelled people, and the regions that are labelled as crowds."""

    image: Image
    number: int | str
    people: list[Annotation]
    crowds: list[Annotation]


@dataclass(frozen=True)
class Models:
    """What is fitted to boxes."""

    looked: Logistic
    unlooked: Logistic


@dataclass(frozen=True, eq=False)
class Stages:
    """The stages of the preset, for one image at a time."""

    detector: LiteDetector
    pose: LitePoseEstimator
    segmenter: LiteSegmenter

    def look(self, image: Image) -> tuple[Detections, Poses]:
        """Return the people of an image and their poses."""
        found = self.detector.detect([image])
        return found[0], self.pose.estimate([image], found)[0]

    def signals(self, image: Image, found: Detections, poses: Poses) -> list[dict[str, NDArray[np.float32]]]:
        """Return what masks are made of, a person each."""
        columns = found.boxes.numpy(), poses.keypoints.numpy(), poses.scores.numpy()
        return self.segmenter.signals(ImagePyramid.of(image), *columns)

    def claims(self, image: Image, found: Detections, poses: Poses) -> NDArray[np.float32]:
        """Return what the segmenter thinks of the cells of each box."""
        return segmenters.claims(self.signals(image, found, poses))


def main() -> None:
    options = _options()
    dataset = PeopleDataset(options.dataset, options.images)
    examples = [_example(dataset, index) for index in _half(dataset, options.other_half)]
    numbers = {example.number for example in examples}
    ground_truth: CocoDataset = {
        **dataset.ground_truth,
        "images": [row for row in dataset.ground_truth["images"] if row["id"] in numbers],
        "annotations": [row for row in dataset.ground_truth["annotations"] if row["image_id"] in numbers],
    }
    # Every look is remembered, so that only the first pass over the images takes time.
    landmarks.load(resolve(options.landmark_weights), THREADS).remember = 100_000
    weights = options.landmark_weights
    stages = Stages(LiteDetector(landmark_weights=weights), LitePoseEstimator(weights), LiteSegmenter(weights))
    stages.detector.boxes = _remembering(stages.detector.boxes)
    models = fit_boxes(stages.detector, examples)
    print(f"LOOKED = {_python(models.looked)}\nUNLOOKED = {_python(models.unlooked)}")
    print(f"CELLS = {_python(fit_cells(stages, examples, models))}", flush=True)
    if options.thresholds:
        tell_boxes(stages.detector, examples, ground_truth)
        tell_masks(stages, examples, ground_truth)


def fit_boxes(detector: LiteDetector, examples: Sequence[Example], without: str | None = None) -> Models:
    """Fit the scores of boxes that the landmark network looked at, and of those that it did not look at."""
    rows: dict[bool, list[tuple[Floats, Floats, Floats]]] = {True: [], False: []}
    names = {True: [n for n in LOOKED if n != without], False: [n for n in UNLOOKED if n != without]}
    for example, weight in [*((each, 1.0) for each in examples), *((each, TEXTURE) for each in textures())]:
        found = detector.candidates(ImagePyramid.of(example.image))
        right, known = _judged(found, example)
        for looked in (True, False):
            chosen = known & (found.looked == looked)
            signals = np.stack([found.signals[name][chosen] for name in names[looked]], axis=1)
            correct = right[chosen].astype(np.float64)
            rows[looked].append((signals.astype(np.float64), correct, np.full(len(correct), weight)))
    fitted = {}
    for looked in (True, False):
        signals, right, weights = (np.concatenate(parts) for parts in zip(*rows[looked], strict=True))
        fitted[looked] = fit(names[looked], signals, right, RIDGE, weights)
    return Models(fitted[True], fitted[False])


@functools.cache
def textures() -> list[Example]:
    """Return images of random values, grey or coloured, from noise to soft clouds."""
    random = np.random.default_rng(0)
    found: list[Example] = []
    for (height, width), channels, grain in itertools.product(TEXTURES, (1, 3), GRAINS):
        rows, columns = (-(-edge // grain) for edge in (height, width))
        values = random.integers(0, 256, (rows, columns, channels), dtype=np.uint8)
        pixels = cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
        image = Image(torch.from_numpy(np.repeat(pixels, 3 // channels, axis=2)))
        found.append(Example(image, f"texture {len(found)}", [], []))
    return found


def fit_cells(stages: Stages, examples: Sequence[Example], models: Models) -> Logistic:
    """Fit which cells of a right box are the person's; every person counts the same."""
    table, right = [], []
    names: list[str] = []
    for example in examples:
        with _use(models):
            found, poses = stages.look(example.image)
        boxes = found.boxes.numpy()
        for row, person in _persons(found.boxes, example):
            signals = stages.signals(example.image, found[row : row + 1], poses[row : row + 1])[0]
            bits = labelled_mask(example.people[person], example.image).numpy()
            right.append(_over_box(bits, boxes[row], segmenters.GRID).ravel()[::STEP])
            table.append(np.stack([values.ravel()[::STEP] for values in signals.values()], axis=1))
            names = list(signals)
    weight = CELLS_OF_A_PERSON / (segmenters.GRID**2 / STEP)
    return fit(names, np.concatenate(table), np.concatenate(right), CELL_RIDGE, weight)


def fit(
    names: Sequence[str], signals: NDArray[Any], right: NDArray[Any], ridge: float, weight: float | Floats = 1.0
) -> Logistic:
    """Return the logistic model of ``right`` (N,), from 0 to 1, given ``signals`` (N, S) of those names.

    Newton's method; ``ridge`` times half the squares of the weights of standardised signals is added to the loss, in
    which rows count ``weight``, all the same or (N,).
    """
    signals = signals.astype(np.float64)
    worth = np.broadcast_to(np.asarray(weight, dtype=np.float64), len(signals))
    mean = np.average(signals, axis=0, weights=worth)
    spread = np.sqrt(np.average((signals - mean) ** 2, axis=0, weights=worth)) + 1e-6
    table = np.column_stack([(signals - mean) / spread, np.ones(len(signals))])
    penalty = np.append(np.full(signals.shape[1], ridge), 1e-6)
    weights = np.zeros(table.shape[1])
    for _ in range(30):
        sure = 1 / (1 + np.exp(-table @ weights))
        slope = table.T @ (worth * (right - sure)) - penalty * weights
        curvature = (table.T * (worth * sure * (1 - sure))) @ table + np.diag(penalty)
        weights = weights + np.linalg.solve(curvature, slope)
    scaled = weights[:-1] / spread
    named = {name: round(float(value), 3) for name, value in zip(names, scaled, strict=True)}
    return Logistic(named, round(float(weights[-1] - mean @ scaled), 3))


def tell_boxes(detector: LiteDetector, examples: Sequence[Example], ground_truth: CocoDataset) -> None:
    """Print what box AP becomes without each signal and with other thresholds, and from which score on to draw."""

    def numbers(without: str | None = None) -> tuple[list[Annotation], str]:
        rows: list[Annotation] = []
        for fitted, rest in _folds(examples):
            with _use(fit_boxes(detector, fitted, without)):
                for each in rest:
                    found = detector.detect([each.image])[0]
                    people = Instances(found, _no_poses(len(found)), _no_masks(found, each.image), _first(len(found)))
                    rows += to_annotations(people, each.number, COCO_KEYPOINTS, exact=True)
        return rows, _average_precision(ground_truth, rows, "bbox")

    rows, words = numbers()
    print(f"as it is: {words}", flush=True)
    for name in LOOKED:
        print(f"without {name}: {numbers(name)[1]}", flush=True)
    for name, values in BOX_THRESHOLDS.items():
        for value in values:
            with _replaced(detectors, **{name: value}):
                print(f"{name} {value}: {numbers()[1]}", flush=True)
    matches = match(ground_truth, rows)
    for score in np.arange(0.2, 0.7, 0.01):
        exact = precision(matches, score)
        if exact is not None and exact >= PRECISION:
            print(f"min_score {score:.2f}: precision {exact:.3f}, recall {recall(matches, score):.3f}")
            break


def tell_masks(stages: Stages, examples: Sequence[Example], ground_truth: CocoDataset) -> None:
    """Print what mask AP becomes with other thresholds."""
    claimed: list[tuple[Example, Detections, Poses, NDArray[np.float32]]] = []
    for fitted, rest in _folds(examples):
        models = fit_boxes(stages.detector, fitted)
        cells = fit_cells(stages, fitted, models)
        with _use(models), _replaced(segmenters, CELLS=cells):
            for each in rest:
                found, poses = stages.look(each.image)
                claimed.append((each, found, poses, stages.claims(each.image, found, poses)))
    for own, rank in itertools.product(OWN, RANK):
        rows: list[Annotation] = []
        with _replaced(segmenters, OWN=own, RANK=rank):
            for each, found, poses, claims in claimed:
                masks = segmenters.to_masks(claims, found, each.image.width, each.image.height)
                people = Instances(found, poses, masks, _first(len(found)))
                rows += to_annotations(people, each.number, COCO_KEYPOINTS, exact=True)
        print(f"OWN {own} RANK {rank}: {_average_precision(ground_truth, rows, 'segm')}", flush=True)


def _average_precision(ground_truth: CocoDataset, rows: Sequence[Annotation], kind: Kind) -> str:
    numbers = evaluate_coco(ground_truth, to_results(rows, kind), kind)
    return f"AP {100 * (numbers.ap or 0):.1f}, AP50 {100 * (numbers.ap50 or 0):.1f}"


def _remembering(network: Any) -> Any:
    """Return the box network with a memory of what it found in each picture."""
    known: dict[tuple[bytes, float], Any] = {}

    def look(picture: ImagePyramid, threshold: float) -> Any:
        key = picture.key, threshold
        if key not in known:
            known[key] = network(picture, threshold)
        return known[key]

    return look


@contextmanager
def _replaced(module: Any, **values: Any) -> Iterator[None]:
    """Give constants of a module other values for a while."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _use(models: Models) -> AbstractContextManager[None]:
    return _replaced(detectors, LOOKED=models.looked, UNLOOKED=models.unlooked)


def _folds(examples: Sequence[Example]) -> Iterator[tuple[list[Example], list[Example]]]:
    for fold in range(FOLDS):
        rest = list(examples[fold::FOLDS])
        yield [each for each in examples if each not in rest], rest


def _half(dataset: PeopleDataset, other: bool) -> list[int]:
    images = dataset.ground_truth["images"]
    return sorted(range(len(images)), key=lambda index: str(images[index]["id"]).zfill(20))[int(other) :: 2]


def _example(dataset: PeopleDataset, index: int) -> Example:
    number = dataset.ground_truth["images"][index]["id"]
    labels = [row for row in dataset.ground_truth["annotations"] if row["image_id"] == number]
    people, crowds = ([row for row in labels if bool(row["iscrowd"]) == crowd] for crowd in (False, True))
    return Example(dataset.load(index), number, people, crowds)


def _boxes(labels: Sequence[Annotation]) -> torch.Tensor:
    return xywh_to_xyxy(torch.tensor([row["bbox"] for row in labels]).reshape(-1, 4))


def _persons(boxes: torch.Tensor, example: Example) -> Iterator[tuple[int, int]]:
    """Yield the boxes that are right, the first ones before others, by IoU above one half, and whose they are.

    As average precision is counted: of several boxes of one person the first is right, the others are false positives.
    """
    overlaps = iou(boxes, _boxes(example.people))
    for row in range(len(boxes) if len(example.people) else 0):
        best = overlaps[row].max(dim=0)
        if best.values > 0.5:
            overlaps[:, best.indices] = 0
            yield row, int(best.indices)


def _judged(found: Candidates, example: Example) -> tuple[Bools, Bools]:
    """Return which boxes (N,) are right, and of which that is known: not of those in crowds."""
    boxes, crowds = torch.from_numpy(found.boxes), _boxes(example.crowds)
    right = np.zeros(len(boxes), dtype=np.bool_)
    right[[row for row, _ in _persons(boxes, example)]] = True
    corner = torch.minimum(boxes[:, None, 2:], crowds[:, 2:])
    shared = (corner - torch.maximum(boxes[:, None, :2], crowds[:, :2])).clamp(min=0).prod(dim=2)
    crowded = (shared / (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None] > CROWDED).any(dim=1)
    return right, ~crowded.numpy()


def _over_box(mask: Bools, box: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return ``mask`` (H, W) as (size, size) cells of ``box`` (4,)."""
    step = (box[2:] - box[:2]) / size
    matrix = np.column_stack([np.diag(step), box[:2] + 0.5 * step - 0.5])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(mask.astype(np.float32), matrix, (size, size), flags=flags))


def _no_poses(count: int) -> Poses:
    points = torch.zeros(count, len(COCO_KEYPOINTS), 2)
    return Poses(points, points[..., 0], points[..., 0], points[..., 0])


def _no_masks(found: Detections, image: Image) -> Masks:
    return Masks(torch.zeros(len(found), image.height, image.width, dtype=torch.bool), torch.zeros(len(found)))


def _first(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.int64)


def _python(model: Logistic) -> str:
    rows = "".join(f'        "{name}": {weight},\n' for name, weight in model.weights.items())
    return f"Logistic(\n    {{\n{rows}    }},\n    {model.bias},\n)"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, metavar="JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--landmark-weights", default=landmarks.WEIGHTS)
    parser.add_argument("--other-half", action="store_true", help="fit to the half that is left untouched otherwise")
    parser.add_argument("--thresholds", action="store_true", help="also tell what signals and thresholds are worth")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
