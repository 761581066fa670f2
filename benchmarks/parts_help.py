"""Measures whether body parts help the rest of the pipeline, three arms on SynthCrowd.

    python benchmarks/parts_help.py --config nano_parts.py --limit 40 --videos 10 --output output/parts_help.json

prompts: points in the middle of torso and legs, as the parser tells them, beside the keypoints or in their place; mean
IoU of masks with the true ones. bodies: masks in which the parser sees two heads are cut to the skeleton, against all
and none; mean IoU. looks: who is who half a second later, by the colours of torso and legs as joints or as parts tell
them; share of people whose nearest look is their own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmp.api import BMP, People
from bmp.build import build
from bmp.config import load_config, parse_overrides
from bmp.console import Parser, run_command, whole
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.datasets.synthcrowd_video import SynthCrowdVideo
from bmp.errors import UserError
from bmp.evaluation.timing import machine
from bmp.io.annotations import to_instances
from bmp.label_sets import COCO_KEYPOINTS
from bmp.label_sets.part_sets import CIHP
from bmp.ops.masks import exclusive, iou
from bmp.ops.skeletons import around_skeleton
from bmp.structures import Detections, Image, Instances, Masks, Poses, Prompts
from bmp.tracking.appearance import alike, looks_of

_TORSO, _LEGS = (2,), (4,)  # groups of ``COARSE_PARTS``
_HEAD = (2, 13)  # hair and face
_LATER = 12  # frames


def group_maps(people: People) -> NDArray[np.uint8]:
    """Return the coarse part of each pixel, (H, W)."""
    assert people.parts is not None  # the model has a parser
    return np.asarray(np.array(CIHP.groups, np.uint8)[people.parts.labels.cpu().numpy()])


def middle(bits: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Return the middle of the pixel that lies deepest inside, None for fewer than 16 pixels."""
    if bits.sum() < 16:
        return None
    depth = cv2.distanceTransform(np.pad(bits, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = divmod(int(depth.argmax()), bits.shape[1])
    return x + 0.5, y + 0.5


def part_prompts(people: People) -> Prompts:
    """Return a point in the torso and one in the legs of each person, padding where there is none."""
    groups, owners = group_maps(people), people.parts.owners.cpu().numpy() if people.parts is not None else None
    points, labels = torch.zeros(len(people), 2, 2), torch.full((len(people), 2), -1, dtype=torch.int8)
    for row in range(len(people)):
        for column, wanted in enumerate((_TORSO, _LEGS)):
            found = middle((owners == row + 1) & np.isin(groups, wanted))
            if found is not None:
                points[row, column], labels[row, column] = torch.tensor(found), 1
    return Prompts(points, labels, torch.full((len(people), 2), -1))


def joined(first: Prompts, second: Prompts) -> Prompts:
    """Put the points of both side by side."""
    return Prompts(
        torch.cat([first.points, second.points], 1),
        torch.cat([first.labels, second.labels], 1),
        torch.cat([first.keypoints, second.keypoints], 1),
    )


def matched_iou(bits: Tensor, scores: Tensor, truth: Tensor) -> list[float]:
    """Return for each true mask its IoU with the mask most like it, overlaps resolved; 0 for who has none."""
    if not len(bits):
        return [0.0] * len(truth)
    return iou(truth, exclusive(bits, scores)).max(dim=1).values.tolist() if len(truth) else []


def prompts_arm(model: BMP, dataset: SynthCrowd) -> dict[str, float]:
    """Segment everybody once more from the loop's masks, with three kinds of points."""
    segmenter: Any = model.segmenter
    while not hasattr(segmenter, "prompter"):
        segmenter = segmenter.segmenter
    found: dict[str, list[float]] = {"the loop": [], "keypoints": [], "keypoints and parts": [], "parts": []}
    for image, truth in labelled(dataset):
        people = model(image)
        found["the loop"] += matched_iou(people.masks, people.mask_scores, truth.masks.bits)
        if not len(people):
            for name in list(found)[1:]:
                found[name] += [0.0] * len(truth)
            continue
        (view,) = segmenter.open([image])
        keypoints = segmenter.prompter.prompts(
            people.instances.detections, people.instances.poses, Poses.empty(len(people.keypoint_set))
        )
        previous = segmenter.mask_prompts(view, people.masks)
        parts = part_prompts(people)
        for name, asked in (
            ("keypoints", keypoints),
            ("keypoints and parts", joined(keypoints, parts)),
            ("parts", parts),
        ):
            ((logits, scores),) = segmenter.logits([view], [asked], [previous])
            found[name] += matched_iou(segmenter.bits(view, logits), scores, truth.masks.bits)
    return {name: float(np.mean(values)) for name, values in found.items()}


def heads(people: People, row: int) -> int:
    """Return how many heads the parser sees in a person: connected parts of hair and face, of 30 pixels at least."""
    assert people.parts is not None  # the model has a parser
    bits = np.isin(people.parts.of(row).cpu().numpy(), _HEAD).astype(np.uint8)
    closed = cv2.morphologyEx(bits, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, _, statistics, _ = cv2.connectedComponentsWithStats(closed)
    return int((statistics[1:, cv2.CC_STAT_AREA] >= 30).sum())


def bodies_arm(model: BMP, dataset: SynthCrowd) -> dict[str, float]:
    """Cut masks to the skeletons: none, all, and those with two heads."""
    found: dict[str, list[float]] = {"none cut": [], "all cut": [], "two heads cut": []}
    doubled = 0
    for image, truth in labelled(dataset):
        people = model(image)
        bits, scores = people.masks, people.mask_scores
        near = torch.zeros_like(bits)
        for row, pose in enumerate(people.keypoints.cpu().numpy()):
            near[row] = torch.from_numpy(around_skeleton(pose, image.height, image.width))
        enough = (bits & near).sum((1, 2)) >= 0.35 * bits.sum((1, 2))
        double = torch.tensor([heads(people, row) > 1 for row in range(len(people))], dtype=torch.bool)
        doubled += int(double.sum())
        for name, chosen in (("none cut", enough & False), ("all cut", enough), ("two heads cut", enough & double)):
            cut = torch.where(chosen[:, None, None], bits & near, bits)
            found[name] += matched_iou(cut, scores, truth.masks.bits)
    return {**{name: float(np.mean(values)) for name, values in found.items()}, "masks with two heads": doubled}


def part_looks(image: Image, people: People) -> Tensor:
    """Return looks as ``looks_of``, with the torso and the legs that the parser tells."""
    groups, owners = group_maps(people), people.parts.owners.cpu().numpy() if people.parts is not None else None
    colours = cv2.cvtColor(image.pixels.numpy(), cv2.COLOR_RGB2HSV).astype(np.int64)
    cells = colours[..., 0] * 8 // 180 * 8 + colours[..., 1] * 8 // 256
    looks = torch.zeros(len(people), 128)
    for row in range(len(people)):
        for part, wanted in enumerate((_TORSO, _LEGS)):
            own = cells[(owners == row + 1) & np.isin(groups, wanted)]
            if len(own) >= 20:
                looks[row, part * 64 : part * 64 + 64] = torch.from_numpy(np.bincount(own, minlength=64) / len(own))
    return looks


def looks_arm(model: BMP, videos: SynthCrowdVideo) -> dict[str, float]:
    """Tell who is who half a second later, from true masks and poses."""
    hits: dict[str, list[bool]] = {"joints": [], "parts": []}
    for number in range(len(videos)):
        pictures: list[tuple[NDArray[np.int64], dict[str, Tensor]]] = []
        for frame in videos.frames(number):
            if frame.frame.index % _LATER or len(pictures) > 2:
                continue
            labels, image = frame.labels, frame.frame.image
            assert labels is not None  # everything is drawn
            assert labels.keypoints is not None
            assert labels.masks is not None
            count = len(labels.ids)
            keypoints = torch.from_numpy(labels.keypoints).float()
            flags = (keypoints[..., 2] > 0).float()
            instances = Instances(
                Detections(torch.from_numpy(labels.boxes).float(), torch.ones(count)),
                Poses(keypoints[..., :2], flags, flags, flags),
                Masks(torch.from_numpy(labels.masks), torch.ones(count)),
                torch.ones(count, dtype=torch.int64),
            )
            people = People(image, instances, COCO_KEYPOINTS, parts=model.parse(image, instances))
            looks = {"joints": looks_of(image, instances, COCO_KEYPOINTS), "parts": part_looks(image, people)}
            pictures.append((labels.ids, looks))
        for (ids, first), (later, second) in itertools.pairwise(pictures):
            known = [row for row, each in enumerate(ids) if each in later]
            if len(later) < 2 or not known:
                continue
            for name in hits:
                nearest = alike(first[name], second[name]).argmax(dim=1)
                hits[name] += [bool(later[int(nearest[row])] == ids[row]) for row in known]
    return {**{name: float(np.mean(values)) for name, values in hits.items()}, "people": len(hits["joints"])}


def labelled(dataset: SynthCrowd) -> list[tuple[Image, Instances]]:
    """Return images with the people labelled in them."""
    images = [dataset.load(index) for index in range(len(dataset))]
    rows = dataset.people()
    entries = dataset.ground_truth["images"]
    return [
        (image, to_instances(rows.get(entry["id"], []), image)) for image, entry in zip(images, entries, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    parser = Parser("python benchmarks/parts_help.py", description="Measure whether body parts help the pipeline.")
    parser.add_argument("-c", "--config", default="nano_parts.py", help="a config with pipeline.parts (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument("--split", default="test-hard", help="of SynthCrowd (default: %(default)s)")
    parser.add_argument("--limit", type=whole(1), default=40, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--videos", type=whole(1), default=10, metavar="N", help="videos (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON to write")
    return run_command(parser, _run, arguments, interrupted="nothing was written")


def _run(options: argparse.Namespace) -> int:
    overrides = parse_overrides(options.set)
    model = build(load_config(options.config, overrides), "cpu")
    if model.parts is None or model.parts.label_set != CIHP:
        raise UserError(f"{options.config}: expected pipeline.parts with CIHP's labels; take nano_parts.py")
    dataset = SynthCrowd(options.split, count=options.limit)
    table = {
        "prompts": prompts_arm(model, dataset),
        "bodies": bodies_arm(model, dataset),
        "looks": looks_arm(model, SynthCrowdVideo("video-hard", count=options.videos)),
    }
    for arm, values in table.items():
        print(f"{arm}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {"config": options.config, "set": options.set, "split": options.split, "images": options.limit}
    options.output.write_text(json.dumps({**settings, "machine": machine("cpu"), "arms": table}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
