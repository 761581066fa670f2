"""Trains the arms of SAMP's ablation and measures each on scenes that nothing was trained or chosen on.

    python benchmarks/samp_arms.py --arms full no_adapter --seeds 0 1 2 --output benchmarks/results/samp_arms.json
    python benchmarks/samp_arms.py --arms full no_adapter --steps 200 --measure OKS --folder output/samp_probe
    python benchmarks/samp_arms.py --arms --splits train test --output output/samp_arms/trained_on.json

An arm is a config of configs/train/samp_arms: 1000 steps on the levels of SAM nano's frozen encoder. Finished trainings
are kept in --folder and not done again; one that was stopped goes on. Poses are of labelled people in their boxes, with
true masks, so that nothing but the arm decides, and with those that nano.py's detector makes of them. The third command
asks how well the package's networks fit the scenes that they were trained on. Runs whatever is missing and prints the
table of all that is there.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from common import as_command, begun, mean_and_ends, train, write
from torch import Tensor

from bmp.build import build_part
from bmp.config import load_config
from bmp.datasets.posed import labelled_images, with_detected_masks
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.evaluation.timing import machine
from bmp.io.annotations import (
    Annotation,
    CocoDataset,
    labelled_mask,
    labelled_people,
    labelled_poses,
    to_annotations,
)
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.ops.oks import oks
from bmp.poses.samp import SAMPose
from bmp.registry import DETECTORS, POSES
from bmp.stages import PoseEstimator
from bmp.structures import Detections, Image, Instances, Masks
from bmp.training.settings import read_config

ARMS = (
    "full",
    "no_adapter",
    "no_auxiliary",
    "no_stem",
    "no_fusion",
    "stride16",
    "stride16_8",
    "alpha_0",
    "alpha_1",
    "no_mask_channel",
    "random_encoder",
    "heatmaps",
)
SPLITS = ("test", "test-hard", "test-clear")
MASKS = ("true", "detected")
MEASURES = {
    "AP": "of poses, COCO's",
    "AP50": "at OKS .5",
    "AP75": "at OKS .75",
    "AR": "of poses, COCO's",
    "OKS": "mean of the people with labelled keypoints",
    "half": "share of them above OKS .5",
    "visibility": "share of labelled keypoints that are told seen from hidden",
}
_Batch = tuple[list[list[Annotation]], list[Image], Mapping[str, list[Detections]]]
_BATCH = 8


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    settings = {"scenes": options.scenes, "steps": options.steps}
    if tuple(options.splits) != SPLITS:
        settings["splits"] = options.splits
    results = begun(options.output, settings) | {"machine": machine("cpu")}
    for name, make in PACKAGED.items():
        if name not in results["arms"]:
            results["arms"][name] = {"package": _measured(make(), options)}
    for seed in options.seeds:
        for arm in options.arms:
            known = results["arms"].setdefault(arm, {})
            if str(seed) in known:
                continue
            settings = _settings(seed, options)
            seconds = train(f"train/samp_arms/{arm}.py", _weights(arm, seed, options), settings)
            known[str(seed)] = {"training_seconds": seconds} | _measured(_estimator(arm, seed, options), options)
            write(options.output, results)
    write(options.output, results)
    print(_table(results["arms"], options.measure, options.splits))


def _weights(arm: str, seed: int, options: argparse.Namespace) -> Path:
    return Path(options.folder) / f"{arm}-seed{seed}.safetensors"


def _settings(seed: int, options: argparse.Namespace) -> dict[str, object]:
    settings: dict[str, object] = {
        "data_root": str(options.data),
        "model.cache": str(options.levels),
        "randomness.seed": seed,
        "train_dataloader.dataset.seed": seed,
    }
    if options.steps is not None:
        # The average over a few hundred steps would be that of the weights at their beginning, mostly.
        settings |= {"train_cfg.max_iters": options.steps, "custom_hooks": []}
    # Measured here, on other scenes.
    return settings | {"train_cfg.val_begin": 10**9}


def _estimator(arm: str, seed: int, options: argparse.Namespace) -> PoseEstimator:
    config = read_config(f"train/samp_arms/{arm}.py", _settings(seed, options))
    encoder = _encoder(**config.model.encoder)
    return SAMPose(encoder, checkpoint=str(_weights(arm, seed, options)), model=config.model.network.to_dict())


@functools.cache
def _encoder(**settings: Any) -> SAM2Encoder:
    """Return the encoder of these arguments; one for all arms, so that an image is encoded once."""
    return SAM2Encoder(**settings)


def _packaged_samp() -> PoseEstimator:
    pipeline = load_config("nano_samp.py").pipeline.to_dict()
    encoder = _encoder(**{key: value for key, value in pipeline["shared"]["sam"].items() if key != "type"})
    return cast(PoseEstimator, build_part({**pipeline["pose"], "encoder": encoder}, POSES))


def _packaged_pmpose() -> PoseEstimator:
    return cast(PoseEstimator, build_part(load_config("nano.py").pipeline.to_dict()["pose"], POSES))


PACKAGED = {"PMPose nano of the package": _packaged_pmpose, "SAMP nano of the package": _packaged_samp}


@functools.cache
def _scenes(split: str, count: int) -> tuple[CocoDataset, list[_Batch]]:
    """Return the ground truth of a split's first scenes and, in batches, labels, images, and these people by masks."""
    dataset = SynthCrowd(split, count)
    detector = build_part(load_config("nano.py").pipeline.to_dict()["detector"], DETECTORS)
    batches: list[_Batch] = []
    for batch in labelled_images(dataset, _BATCH):
        images = [image for image, _ in batch]
        labelled = [
            replace(labelled_people(rows), masks=torch.stack([labelled_mask(row, image) for row in rows]))
            for image, rows in batch
        ]
        people = {"true": labelled, "detected": with_detected_masks(images, labelled, detector)}
        batches.append(([rows for _, rows in batch], images, people))
    return dataset.ground_truth, batches


def _measured(estimator: PoseEstimator, options: argparse.Namespace) -> dict[str, Any]:
    """Return the measures of labelled people's poses on each split's first scenes, with true and detected masks."""
    found: dict[str, Any] = {}
    for split in options.splits:
        ground_truth, batches = _scenes(split, options.scenes)
        for kind in MASKS:
            rows: list[Annotation] = []
            similar: list[Tensor] = []
            told: list[Tensor] = []
            for labels, images, people in batches:
                poses = estimator.estimate(images, people[kind])
                for labelled, own, estimated in zip(labels, people[kind], poses, strict=True):
                    assert own.masks is not None
                    masks = Masks(own.masks, torch.ones(len(own)))
                    whole = Instances(own, estimated.to("cpu"), masks, torch.ones(len(own), dtype=torch.int64))
                    rows += to_annotations(whole, labelled[0]["image_id"], estimator.keypoints, exact=True)
                    expected = labelled_poses(labelled, hidden=0)
                    areas = torch.tensor([float(row["area"]) for row in labelled])
                    there = expected.presence > 0
                    sigmas = torch.tensor(estimator.keypoints.sigmas)
                    similarity = oks(expected.keypoints, estimated.keypoints, areas, sigmas, there).diagonal()
                    similar.append(similarity[there.any(1)])
                    told.append(((estimated.visibility > 0.5) == (expected.visibility > 0.5))[there])
            scored = evaluate_coco(ground_truth, to_results(rows, "keypoints"), "keypoints")
            by_person = torch.cat(similar)
            found[f"{split}, {kind}"] = {
                "AP": scored.ap,
                "AP50": scored.ap50,
                "AP75": scored.ap75,
                "AR": scored.ar,
                "OKS": by_person.mean().item(),
                "half": (by_person > 0.5).float().mean().item(),
                "visibility": torch.cat(told).float().mean().item(),
            }
    return found


def _table(arms: dict[str, dict[str, Any]], measure: str, splits: Sequence[str] = SPLITS) -> str:
    """Return a table of a measure, in per cent, in Markdown: the mean of the seeds, their lowest and their highest."""
    columns = [f"{split}, {kind}" for split in splits for kind in MASKS]
    lines = ["| arm | seeds | " + " | ".join(columns) + " |", "| --- | ---: |" + " ---: |" * len(columns)]
    for arm, seeds in arms.items():
        cells = [_cell([own[column] for own in seeds.values()], measure) for column in columns]
        lines.append(f"| {arm} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(seeds: list[dict[str, float]], measure: str) -> str:
    values = [100 * own[measure] for own in seeds if measure in own]  # older results have fewer
    return mean_and_ends(values) if values else "-"


def _each(measures: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {what}" for name, what in measures.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--arms", nargs="*", default=list(ARMS), help="which, none for the networks of the package alone (default: all)"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of each arm (default: 0)")
    parser.add_argument("--measure", choices=MEASURES, default="AP", help=f"that the table has: {_each(MEASURES)}")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), help="of SynthCrowd (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=100, help="the first so many of each split (default: 100)")
    parser.add_argument("--steps", type=int, help="fewer than the configs say, to see whether everything is in place")
    parser.add_argument("--data", type=Path, default=Path("output/synthcrowd"), help="SynthCrowd's training scenes")
    parser.add_argument("--levels", type=Path, default=Path("output/train/samp_nano_levels"), help="cache of levels")
    parser.add_argument("--folder", type=Path, default=Path("output/samp_arms"), help="for trainings and weights")
    parser.add_argument("--output", type=Path, default=Path("output/samp_arms/results.json"), help="JSON file")
    options = parser.parse_args()
    if unknown := [arm for arm in options.arms if arm not in ARMS]:
        parser.error(f"there is no arm {unknown[0]}; there are {', '.join(ARMS)}")
    return options


if __name__ == "__main__":
    sys.exit(as_command(main))
