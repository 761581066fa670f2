"""Measures what a segmenter makes of prompts that are right, on the splits of SynthCrowd.

    python benchmarks/prompted_masks.py --config nano.py

Everybody labelled is prompted with labelled keypoints, and beside them with no mask, with the ground-truth mask, and
with that mask after a detector's errors. A segmenter that learnt to copy returns a right mask as it was, as far as its
resolution allows, and a wrong one better than it came. People without any labelled keypoint count for AP alone.

The masks from keypoints alone are ranked by predicted IoU, by nothing (all scores alike), and by the actual IoU. The
worth of the ranking is the share of what the last gains over the second that the first gains.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import as_command, write
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bmp.build import build_part
from bmp.config import load_config, parse_overrides
from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage, true_poses
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.evaluation.metrics.coco import CocoResult, evaluate_coco
from bmp.io.annotations import labelled_mask
from bmp.ops.masks import to_rle
from bmp.registry import SEGMENTERS
from bmp.segmenters.detected import DetectedMasks
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.segmenters.prompting import MaxVisibility
from bmp.stages import Segmenter
from bmp.structures import Masks
from bmp.synthcrowd.splits import SPLITS
from bmp.training.segmenter.data import with_errors

LARGE = 160  # pixels: who is at least so tall is reported apart


@dataclass
class Measured:
    """What is known of everybody's masks: float (N,) each, by how they came about; bool who had a keypoint at all."""

    prompted: Tensor
    height: Tensor
    ceiling: Tensor
    copied: Tensor
    with_errors: Tensor
    corrected: Tensor
    from_keypoints: Tensor
    predicted: Tensor


def main() -> None:
    options = _options()
    console = Console(width=160, highlight=False)
    config = load_config(options.config, parse_overrides(options.set))
    segmenter = with_points(build_part(config.pipeline.segmenter, SEGMENTERS))
    numbers = {}
    for split in options.splits:
        numbers[split] = measure(SynthCrowd(split=split, count=options.count), segmenter)
        console.print(table(split, numbers[split]))
    if options.output:
        write(options.output, numbers)


def with_points(segmenter: Any) -> PromptedSegmenter:
    """Return the segmenter that is prompted with points, whatever is wrapped around it."""
    while not isinstance(segmenter, PromptedSegmenter):
        if not hasattr(segmenter, "segmenter"):
            raise SystemExit(f"{type(segmenter).__name__} is not prompted with points; choose another --config")
        segmenter = segmenter.segmenter
    # Labelled visibility is 1 or 0.5, and 0 of keypoints that have no label.
    segmenter.prompter = MaxVisibility(count=3, threshold=0.25)
    return segmenter


def measure(dataset: PeopleDataset, segmenter: PromptedSegmenter) -> dict[str, float]:
    """Return the numbers of a data set with labelled masks and keypoints, IoU as shares and AP in percent."""
    batches: list[Measured] = []
    results: list[CocoResult] = []
    for images in true_poses(dataset):
        ground_truth = [torch.stack([labelled_mask(row, posed.image) for row in posed.annotations]) for posed in images]
        measured, masks = _measure(images, ground_truth, segmenter)
        batches.append(measured)
        for posed, own in zip(images, masks, strict=True):
            results += [
                CocoResult(image_id=row["image_id"], category_id=row["category_id"], score=0.0, segmentation=rle)
                for row, rle in zip(posed.annotations, to_rle(own.bits), strict=True)
            ]
    columns = zip(*(vars(batch).values() for batch in batches), strict=True)
    everybody = Measured(*(torch.cat(column) for column in columns))
    prompted, large = everybody.prompted, everybody.prompted & (everybody.height >= LARGE)
    numbers: dict[str, float] = {"people": int(prompted.sum()), "large people": int(large.sum())}
    for name in ("ceiling", "copied", "with_errors", "corrected", "from_keypoints"):
        values = getattr(everybody, name)
        numbers[f"IoU {name}"] = float(values[prompted].mean())
        numbers[f"IoU {name}, large"] = float(values[large].mean())
    rankings = {
        "predicted IoU": everybody.predicted,
        "nothing": torch.ones_like(everybody.predicted),
        "actual IoU": everybody.from_keypoints,
    }
    for name, scores in rankings.items():
        for result, score in zip(results, scores.tolist(), strict=True):
            result["score"] = score
        numbers[f"AP ranked by {name}"] = 100 * (evaluate_coco(dataset.ground_truth, results, "segm").ap or 0.0)
    gain, most = (numbers[f"AP ranked by {name}"] - numbers["AP ranked by nothing"] for name in list(rankings)[::2])
    numbers["worth of the ranking"] = gain / most if most else 0.0
    return numbers


def _measure(
    images: Sequence[PosedImage], ground_truth: Sequence[Tensor], segmenter: PromptedSegmenter
) -> tuple[Measured, list[Masks]]:
    views = segmenter.open([posed.image for posed in images])
    prompted = MaskPromptedSegmenter(segmenter, DetectedMasks())

    def segment(by: Segmenter, opened: Sequence[Any], masks: Sequence[Tensor]) -> list[Masks]:
        people = [replace(posed.people, masks=own) for posed, own in zip(images, masks, strict=True)]
        poses = [posed.poses for posed in images]
        return by.segment(opened, people, poses, [own[:0] for own in poses])

    both = [(view, posed.image) for view, posed in zip(views, images, strict=True)]
    errors = [_with_errors(posed, masks) for posed, masks in zip(images, ground_truth, strict=True)]
    alone = segment(segmenter, views, ground_truth)
    ceiling = [
        segmenter.bits(view, segmenter.mask_prompts(view, masks))
        for view, masks in zip(views, ground_truth, strict=True)
    ]
    copied, corrected = (segment(prompted, both, masks) for masks in (ground_truth, errors))
    measured = Measured(
        prompted=torch.cat([(posed.poses.visibility > 0).any(dim=1) for posed in images]),
        height=torch.tensor([float(row["bbox"][3]) for posed in images for row in posed.annotations]),
        ceiling=_ious(ceiling, ground_truth),
        copied=_ious([masks.bits for masks in copied], ground_truth),
        with_errors=_ious(errors, ground_truth),
        corrected=_ious([masks.bits for masks in corrected], ground_truth),
        from_keypoints=_ious([masks.bits for masks in alone], ground_truth),
        predicted=torch.cat([masks.scores for masks in alone]),
    )
    return measured, alone


def _with_errors(posed: PosedImage, masks: Tensor) -> Tensor:
    """Give each mask errors that are the same in every run."""
    noisy = []
    for row, annotation in enumerate(posed.annotations):
        np.random.seed(annotation["id"] % 2**32)
        noisy.append(with_errors(masks, row))
    return torch.stack(noisy)


def _ious(bits: Sequence[Tensor], ground_truth: Sequence[Tensor]) -> Tensor:
    """Compare masks bool (N, H, W) of each image row by row: float, a number for everybody in all of them."""
    ious = []
    for own, true in zip(bits, ground_truth, strict=True):
        shared, joined = (own & true).flatten(1).sum(1), (own | true).flatten(1).sum(1)
        ious.append(shared / joined.clamp(min=1))
    return torch.cat(ious)


def table(split: str, numbers: dict[str, float]) -> Table:
    """Lay the numbers of a split out."""
    large = f"{numbers['large people']:.0f} of at least {LARGE} pixels"
    laid_out = Table(
        "mean IoU", f"{numbers['people']:.0f} people", large, title=f"SynthCrowd {split}", title_justify="left"
    )
    for name, label in (
        ("ceiling", "ground truth at the decoder's resolution"),
        ("copied", "prompted with the ground-truth mask"),
        ("with_errors", "ground truth with a detector's errors"),
        ("corrected", "prompted with that"),
        ("from_keypoints", "prompted with keypoints alone"),
    ):
        laid_out.add_row(label, f"{numbers[f'IoU {name}']:.3f}", f"{numbers[f'IoU {name}, large']:.3f}")
    for name in ("predicted IoU", "nothing", "actual IoU"):
        laid_out.add_row(f"AP of these masks, ranked by {name}", f"{numbers[f'AP ranked by {name}']:.1f}", "")
    laid_out.add_row("worth of the ranking", f"{numbers['worth of the ranking']:.2f}", "")
    return laid_out


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--splits", nargs="+", default=["test", "test-hard"], choices=sorted(SPLITS))
    parser.add_argument("--count", type=int, metavar="N", help="only the first N scenes of each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
