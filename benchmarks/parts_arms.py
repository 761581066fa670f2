"""Trains the arms of the parsers' ablation on SynthCrowd and measures each on scenes that nothing was trained on.

    python benchmarks/parts_arms.py --arms linear head ftm srm both --seeds 0 1 2

The semantic encoder is trained once, and once for each other text; then each arm on it and on the frozen levels of an
image encoder: --encoder names another one than SAM nano's, which has learnt from part maps itself. Finished trainings
are kept in --folder and not done again; one that was stopped goes on. Parts are those of labelled people within their
masks, by image.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from common import as_command, begun, mean_and_ends, train, write

from bmp.datasets.synthcrowd import SynthCrowd
from bmp.evaluation.parsing import compare_parts
from bmp.evaluation.timing import machine
from bmp.io.annotations import Annotation, to_annotations, to_instances
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.parsers.schnet import SAMCLIPParser
from bmp.structures import Image, Instances

_SAM = "models/sam2_nano.yaml"
_NANO = {"base": "nano"}
ARMS: Mapping[str, tuple[dict[str, Any], dict[str, object]]] = {
    "linear": ({"base": "nano_linear"}, {}),
    "head": ({**_NANO, "tokens": 0, "semantics": ""}, {}),
    "ftm": ({**_NANO, "semantics": ""}, {}),
    "srm": ({**_NANO, "tokens": 0}, {}),
    "both": (_NANO, {}),
    "tokens_20": ({**_NANO, "tokens": 20}, {}),
    "tokens_100": ({**_NANO, "tokens": 100}, {}),
    "rank_4": ({**_NANO, "rank": 4}, {}),
    "rank_16": ({**_NANO, "rank": 16}, {}),
    "own_tokens": ({**_NANO, "shared": False}, {}),
    "last_tap": ({**_NANO, "taps": "last"}, {}),
    "mixed_taps": ({**_NANO, "taps": "mixed"}, {}),
    "sum": ({**_NANO, "mixing": "sum"}, {}),
    "concatenate": ({**_NANO, "mixing": "concatenate"}, {}),
    "similarity": ({**_NANO, "source": "similarity"}, {}),
    "visual_and_similarity": ({**_NANO, "source": "both"}, {}),
    "noise": ({**_NANO, "source": "noise"}, {}),
    "cosine": ({**_NANO, "cosine": True}, {}),
    "no_lovasz": (_NANO, {"model.lovasz": 0}),
    "no_edge": (_NANO, {"model.edge": 0}),
    "no_person": (_NANO, {"model.person": 0}),
    "shuffled_text": (_NANO, {}),
    "one_hot_text": (_NANO, {}),
}
TEXTS = {"shuffled_text": "shuffled", "one_hot_text": "one_hot"}
"""Arms whose semantic encoder has learned other embeddings of the labels' names, each with one of its own."""
SPLITS = ("test", "test-hard")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    settings = {name: getattr(options, name) for name in ("scenes", "steps", "batch", "encoder")}
    results = begun(options.output, settings) | {"machine": machine("cpu")}
    data = {"data_root": str(options.data)}
    for seed in options.seeds:
        for arm in options.arms:
            known = results["arms"].setdefault(arm, {})
            if str(seed) in known:
                continue
            weights = options.folder / f"{arm}-seed{seed}.safetensors"
            model, changes = ARMS[arm]
            whole = data | {
                "model.model": model,
                "model.encoder": options.encoder,
                "model.semantics": str(_semantics(TEXTS.get(arm, "words"), options)),
                "model.cache": str(options.folder / "levels"),
                "randomness.seed": seed,
                "train_dataloader.dataset.seed": seed,
                "train_dataloader.batch_size": options.batch,
                "train_cfg.max_iters": options.steps,
            }
            seconds = train("train/parts_nano.py", weights, whole | changes)
            known[str(seed)] = {"training_seconds": seconds} | _measured(weights, model, options)
            write(options.output, results)
    print(_table(results["arms"]))


def _semantics(text: str, options: argparse.Namespace) -> Path:
    """Return the weights of the semantic encoder that has learned this text, trained where there are none yet."""
    weights = Path(options.folder) / ("semantics.safetensors" if text == "words" else f"semantics-{text}.safetensors")
    settings: dict[str, object] = {"data_root": str(options.data), "model.text": text}
    if options.semantics_steps is not None:
        settings["train_cfg.max_iters"] = options.semantics_steps
    train("train/semantics_nano.py", weights, settings)
    return weights


@functools.cache
def _encoder(checkpoint: str) -> SAM2Encoder:
    """Return the encoder; one for all arms, so that an image is encoded once."""
    return SAM2Encoder(model=_SAM, checkpoint=checkpoint)


@functools.cache
def _scenes(split: str, count: int) -> tuple[SynthCrowd, list[tuple[int | str, Image, Instances]]]:
    """Return a split's first scenes: their data set, and the id, the image and the labelled people of each."""
    dataset = SynthCrowd(split, count)
    scenes = []
    for index, entry in enumerate(dataset.ground_truth["images"]):
        image = dataset.load(index)
        scenes.append((entry["id"], image, to_instances(dataset.people().get(entry["id"], []), image)))
    return dataset, scenes


def _measured(weights: Path, model: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the numbers on the first scenes of each split, and how many parameters the network has."""
    parser = SAMCLIPParser(str(weights), _encoder(options.encoder), model, way="image")
    found: dict[str, Any] = {"parameters": sum(each.numel() for each in parser.network.parameters())}
    for split in SPLITS:
        dataset, scenes = _scenes(split, options.scenes)
        rows: list[Annotation] = []
        for image_id, image, people in scenes:
            (parts,) = parser.parse([image], [people])
            rows += to_annotations(people, image_id, COCO_KEYPOINTS, exact=True, parts=parts)
        numbers = compare_parts(dataset, options.scenes, rows, parser.label_set).numbers()
        assert numbers["people"] is not None
        found[split] = {"miou": numbers["maps"]["miou"], "ap_vol": numbers["people"]["ap_vol"]}
    return found


def _table(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table in Markdown: the mean of the seeds, and the lowest and the highest of several."""
    columns = [(split, number) for split in SPLITS for number in ("miou", "ap_vol")]
    names = {"miou": "mIoU", "ap_vol": "AP^p"}
    lines = [
        "| arm | seeds | parameters | " + " | ".join(f"{split} {names[number]}" for split, number in columns) + " |",
        "| --- |" + " ---: |" * (2 + len(columns)),
    ]
    for arm, seeds in arms.items():
        cells = []
        for split, number in columns:
            cells.append(mean_and_ends([100 * own[split][number] for own in seeds.values()]))
        parameters = next(iter(seeds.values()))["parameters"]
        lines.append(f"| {arm} | {len(seeds)} | {parameters} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="which (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of each arm (default: 0)")
    parser.add_argument("--scenes", type=int, default=100, help="the first so many of each split (default: 100)")
    parser.add_argument("--steps", type=int, default=1000, help="of each arm (default: 1000)")
    parser.add_argument("--batch", type=int, default=4, help="images a step (default: 4)")
    parser.add_argument("--semantics-steps", type=int, help="of the semantic encoder (default: its config's)")
    parser.add_argument("--encoder", default="nano/sam2-nano.safetensors", help="a checkpoint, or random")
    parser.add_argument("--data", type=Path, default=Path("output/synthcrowd"), help="SynthCrowd's training scenes")
    parser.add_argument("--folder", type=Path, default=Path("output/parts_arms"), help="for trainings and weights")
    parser.add_argument("--output", type=Path, default=Path("output/parts_arms/results.json"), help="JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
