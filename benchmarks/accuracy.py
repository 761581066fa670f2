"""Counts whom a config finds among the labelled people of a COCO-format file, and how well it draws them.

    python benchmarks/accuracy.py --config lite.py --annotations test_coco.json --images folder/

A person counts as found where a box overlaps a labelled one with IoU above 0.5; the best score chooses first.
Mask IoU and OKS are means over the found; people without labelled keypoints have no OKS.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, write
from pycocotools.coco import COCO
from torch import Tensor

import bmp
from bmp.config import parse_overrides
from bmp.ops import boxes as box_ops
from bmp.ops import masks as mask_ops
from bmp.ops.oks import oks
from bmp.people import People


@dataclass(frozen=True)
class Comparison:
    """What came out for one image or several: counts, and a value for each person found."""

    labelled: int = 0
    predicted: int = 0
    mask_ious: tuple[float, ...] = ()
    similarities: tuple[float, ...] = ()

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.labelled + other.labelled,
            self.predicted + other.predicted,
            self.mask_ious + other.mask_ious,
            self.similarities + other.similarities,
        )

    def __str__(self) -> str:
        found = len(self.mask_ious)
        return (
            f"found {found:3} of {self.labelled:3}, unmatched {self.predicted - found:3}, "
            f"mask IoU {_mean(self.mask_ious)}, OKS {_mean(self.similarities)} ({len(self.similarities)} people)"
        )


def main() -> None:
    options = _options()
    with contextlib.redirect_stdout(io.StringIO()):  # COCO reports its loading times
        truth = COCO(str(options.annotations))
    model = bmp.load(options.config, device=options.device, overrides=parse_overrides(options.set))
    rows: dict[str, Comparison] = {}
    for image in truth.loadImgs(truth.getImgIds()):
        labels = truth.loadAnns(truth.getAnnIds(image["id"], iscrowd=False))
        masks = torch.from_numpy(np.stack([truth.annToMask(label) for label in labels]).astype(bool))
        rows[image["file_name"]] = compare(model(options.images / image["file_name"]), labels, masks)
    rows["all"] = sum(rows.values(), Comparison())
    for name, row in rows.items():
        print(f"{name:20} {row}")
    if options.output:
        write(options.output, {"config": options.config, "machine": machine(options.device), "images": rows})


def compare(people: People, labels: list[dict[str, Any]], masks: Tensor) -> Comparison:
    """Match greedily, the best score first, each labelled person once."""
    overlaps = box_ops.iou(people.boxes, box_ops.xywh_to_xyxy(torch.tensor([label["bbox"] for label in labels])))
    pairs = []
    for person in people.scores.argsort(descending=True).tolist():
        label = int(overlaps[person].argmax())
        if overlaps[person, label] > 0.5:
            overlaps[:, label] = 0
            pairs.append((person, label))
    return Comparison(
        len(labels),
        len(people),
        tuple(float(mask_ops.iou(people.masks[[person]], masks[[label]])) for person, label in pairs),
        tuple(_oks(people, person, labels[label]) for person, label in pairs if labels[label]["num_keypoints"]),
    )


def _oks(people: People, person: int, label: dict[str, Any]) -> float:
    truth = torch.tensor(label["keypoints"], dtype=torch.float32).reshape(1, -1, 3)
    area, sigmas = torch.tensor([float(label["area"])]), torch.tensor(people.keypoint_set.sigmas)
    return float(oks(truth[..., :2], people.keypoints[[person]], area, sigmas, truth[..., 2] > 0))


def _mean(values: tuple[float, ...]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "  - "


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="lite.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--annotations", type=Path, required=True, metavar="JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
