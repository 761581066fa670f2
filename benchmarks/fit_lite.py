"""Fits the scores of the lite detector: two logistic models, of boxes that the landmark network looked at or did not.

    python benchmarks/fit_lite.py --dataset people.json --images DIR

The data set is in COCO's format. Only every second image, in the order of their numbers, is fitted to; the others stay
untouched, so that accuracy on them can be told. What it prints belongs into pipeline/bmp/detectors/lite.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bmp.datasets.people import PeopleDataset
from bmp.detectors.lite import Candidates, LiteDetector
from bmp.models.lite.regions import ImagePyramid
from bmp.ops.boxes import iou, xywh_to_xyxy

LOOKED = ("found", "flags", "heat", "agreement", "size", "aspect", "edge", "repeated")
UNLOOKED = ("found", "size", "aspect", "edge", "repeated")
RIDGE = 10.0  # for signals of variance 1: strong, since a hundred people have to do for eight signals
CROWDED = 0.5  # share of a box within an unlabelled crowd from which nothing is known of it


def main() -> None:
    options = _options()
    dataset = PeopleDataset(options.dataset, options.images)
    detector = LiteDetector(landmark_weights=options.landmark_weights)
    rows: dict[bool, list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {True: [], False: []}
    for index in _half(dataset, options.other_half):
        found = detector.candidates(ImagePyramid.of(dataset.load(index)))
        right, known = _judged(found, dataset, index)
        for looked, names in ((True, LOOKED), (False, UNLOOKED)):
            chosen = known & (found.looked == looked)
            signals = np.stack([found.signals[name][chosen] for name in names], axis=1)
            rows[looked].append((signals.astype(np.float64), right[chosen]))
    for looked, names, title in ((True, LOOKED, "LOOKED"), (False, UNLOOKED, "UNLOOKED")):
        signals, right = (np.concatenate(parts) for parts in zip(*rows[looked], strict=True))
        weights, bias = fit(signals, right.astype(np.float64), RIDGE)
        print(f"# {len(right)} boxes, {right.sum()} of them people")
        named = ", ".join(f'"{name}": {weight:.3f}' for name, weight in zip(names, weights, strict=True))
        print(f"{title} = Logistic({{{named}}}, {bias:.3f})")


def fit(signals: NDArray[np.float64], right: NDArray[np.float64], ridge: float) -> tuple[NDArray[np.float64], float]:
    """Return weights (S,) and bias of the logistic model of ``right`` (N,), 0 or 1, given ``signals`` (N, S).

    Newton's method; ``ridge`` times half the squares of the weights of standardised signals is added to the loss.
    """
    mean, spread = signals.mean(axis=0), signals.std(axis=0) + 1e-6
    table = np.column_stack([(signals - mean) / spread, np.ones(len(signals))])
    penalty = np.append(np.full(signals.shape[1], ridge), 1e-6)
    weights = np.zeros(table.shape[1])
    for _ in range(50):
        sure = 1 / (1 + np.exp(-table @ weights))
        slope = table.T @ (right - sure) - penalty * weights
        curvature = (table.T * (sure * (1 - sure))) @ table + np.diag(penalty)
        weights = weights + np.linalg.solve(curvature, slope)
    scaled = weights[:-1] / spread
    return scaled, float(weights[-1] - mean @ scaled)


def _half(dataset: PeopleDataset, other: bool) -> list[int]:
    images = dataset.ground_truth["images"]
    return sorted(range(len(images)), key=lambda index: str(images[index]["id"]).zfill(20))[int(other) :: 2]


def _judged(found: Candidates, dataset: PeopleDataset, index: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which boxes (N,) are right, by IoU above one half with a labelled person, and of which that is known."""
    number = dataset.ground_truth["images"][index]["id"]
    labels = [row for row in dataset.ground_truth["annotations"] if row["image_id"] == number]
    boxes = torch.from_numpy(found.boxes)

    def labelled(crowd: bool) -> torch.Tensor:
        return xywh_to_xyxy(
            torch.tensor([row["bbox"] for row in labels if bool(row["iscrowd"]) == crowd]).reshape(-1, 4)
        )

    people, crowds = labelled(False), labelled(True)
    # As average precision is counted: of several boxes of one person the surest is right, the others are false alarms.
    overlaps, right = iou(boxes, people), torch.zeros(len(boxes), dtype=torch.bool)
    for row in range(len(boxes) if len(people) else 0):
        best = overlaps[row].max(dim=0)
        if right_now := bool(best.values > 0.5):
            overlaps[:, best.indices] = 0
        right[row] = right_now
    corner = torch.minimum(boxes[:, None, 2:], crowds[:, 2:])
    shared = (corner - torch.maximum(boxes[:, None, :2], crowds[:, :2])).clamp(min=0).prod(dim=2)
    crowded = (shared / (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None] > CROWDED).any(dim=1)
    return right.numpy(), ~crowded.numpy()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, metavar="JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--landmark-weights", default="mediapipe/pose_landmark_full.tflite")
    parser.add_argument("--other-half", action="store_true", help="fit to the half that is left untouched otherwise")
    return parser.parse_args()


if __name__ == "__main__":
    main()
