"""The command that estimates a pose in each labelled box of a data set; knows files, no metric and no training.

    python -m bmp.inference.keypoints --config coco.py --set dataset.root=DIR --output FILE

Its output is for the fine-tuning of a segmenter: keypoints with the noise that they have at test time, of everybody in
the ground truth, small people too. With --masks the detector's masks of these people condition the estimator, as in the
loop, and are written as well, for a segmenter that is prompted with masks, too (``MaskPromptedSegmenter``).
Exit codes: 0 everything done, 1 some images cannot be read, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from mmengine.config import Config
from torch import Tensor

from bmp import __version__
from bmp.build import build_dataset, build_part, resolve_device
from bmp.checkpoints.sources import own_files
from bmp.config import ConfigSection, load_config, parse_overrides
from bmp.console import Parser, add_volume, expect_both, progress, report_failed, run_command, whole
from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import with_detected_masks
from bmp.errors import UserError
from bmp.inference.batches import read_ahead
from bmp.io.annotations import Annotation, PoseRow, keypoint_flags, labelled_people, to_numbers
from bmp.io.atomic import replacing, writing
from bmp.io.journal import Journal, JournalEntry
from bmp.ops.masks import to_rle
from bmp.registry import DETECTORS, POSES
from bmp.stages import Detector, PoseEstimator
from bmp.structures import Image, Poses

_LOGGER = logging.getLogger("bmp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    parser = _parser()

    def work(options: argparse.Namespace) -> int:
        return report_failed(parser.name, _predict(options))

    return run_command(parser, work, arguments, interrupted="go on with --resume")


def _predict(options: argparse.Namespace) -> list[str]:
    config = load_config(options.config, parse_overrides(options.set))
    stages = ("pose", "detector") if options.masks else ("pose",)
    if not isinstance(config.get("pipeline"), dict) or not all(stage in config.pipeline for stage in stages):
        raise UserError(f"config {options.config}: expected pipeline.{' and pipeline.'.join(stages)}; see bmp_v2.py")
    dataset = _dataset(config, options)
    for line in dataset.notices:
        _LOGGER.warning(line)
    return predict(
        dataset,
        config.pipeline.pose.to_dict(),
        options.output,
        detector=config.pipeline.detector.to_dict() if options.masks else None,
        shared=config.pipeline.get("shared"),
        device=options.device,
        batch_size=options.batch_size,
        resume=options.resume,
        quiet=options.quiet,
    )


def _parser() -> Parser:
    parser = Parser(
        "python -m bmp.inference.keypoints",
        description="Estimate a pose in each labelled box of a data set: the config's, or that of --dataset.",
    )
    parser.add_argument(
        "--config", default="probpose.py", help="config whose pipeline.pose it is (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON to write")
    parser.add_argument("--dataset", type=Path, metavar="FILE", help="COCO JSON of people")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder that the file names in it start from")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument(
        "--masks", action="store_true", help="use the masks that pipeline.detector makes of them, and write them"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--batch-size", type=whole(1), default=16, help="images at a time (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    add_volume(parser)
    return parser


def _dataset(config: Config, options: argparse.Namespace) -> PeopleDataset:
    if expect_both(options, "--dataset FILE", "--images DIR", "annotations and the folder of their images"):
        return PeopleDataset(options.dataset, options.images)
    return build_dataset(config)


def predict(
    dataset: PeopleDataset,
    pose: ConfigSection,
    output: Path,
    *,
    detector: ConfigSection | None = None,
    shared: ConfigSection | None = None,
    device: str = "auto",
    batch_size: int = 16,
    resume: bool = False,
    quiet: bool = False,
) -> list[str]:
    """Estimate the poses of everybody labelled, crowd regions left out, and write them to ``output``.

    The file has ``settings`` and ``annotations``: of each person ``id`` and ``image_id`` of the ground truth,
    ``keypoints`` x, y, v, with v as in ``bmp.io.annotations.to_annotations``, and ``keypoint_scores``,
    ``keypoint_visibility``, ``keypoint_presence`` and, from estimators that have it, ``keypoint_expected_oks``.
    Coordinates are rounded to 0.01 pixels, the others to 0.0001. With ``detector``, detected people have
    ``segmentation``, compressed run lengths. Finished images are kept in a journal beside the file until all are.

    Args:
        dataset: the people.
        pose: config of the estimator; it is given boxes, and the masks of ``detector``.
        output: replaced when the new one is complete; its folder is made.
        detector: config of a detector that makes masks, see ``bmp.datasets.posed.with_detected_masks``; None for no
            masks.
        shared: the configs of parts that the two name.
        device: see ``bmp.build.load``.
        batch_size: images at a time.
        resume: go on with the journal that an interrupted run left.
        quiet: show no progress.

    Returns:
        why images failed, a line each; if there are any, their people are not in the file.

    Raises:
        UserError: for mistakes in the config, an ``output`` that exists or cannot be written, and a journal of
            another run.
    """
    if batch_size < 1:
        raise UserError(f"--batch-size: expected at least 1, got {batch_size}")
    journal_file = output.with_name(output.name + ".journal")
    if not resume and (output.exists() or journal_file.exists()):
        raise UserError(f"{output} was begun or made before; go on with --resume, or choose another --output")
    people = dataset.people()
    others = {
        "detector": detector,
        "shared": dict(shared or {}),
        "files": own_files([pose, detector, dict(shared or {})]),
    }
    settings = _settings(dataset, pose) | {key: value for key, value in others.items() if value}
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        journal = Journal(journal_file, settings, resume=True)
    failed: list[str] = []
    with closing(journal):
        done = {record["image"]: offset for offset, record in journal.records()}
        waiting = [
            index
            for index, image in enumerate(dataset.ground_truth["images"])
            if image["id"] in people and image["id"] not in done
        ]
        if waiting:
            device = resolve_device(device)
            estimator: PoseEstimator = build_part(pose, POSES, device, "pipeline.pose", shared)
            masker: Detector | None = None
            if detector is not None:
                masker = build_part(detector, DETECTORS, device, "pipeline.detector", shared)
            for index, outcome in _estimated(dataset, waiting, people, estimator, masker, batch_size, quiet):
                if isinstance(outcome, UserError):
                    failed.append(str(outcome))
                    continue
                image_id = dataset.ground_truth["images"][index]["id"]
                with writing(journal_file):
                    done[image_id] = journal.append({"image": image_id, "people": outcome})
        rows = (
            {"image_id": image["id"], **row}
            for image in dataset.ground_truth["images"]
            if image["id"] in done
            for row in journal.read(done[image["id"]])["people"]
        )
        _write(output, settings, rows)
    if not failed:
        journal_file.unlink()
    return failed


def _write(output: Path, settings: JournalEntry, rows: Iterable[JournalEntry]) -> None:
    """Write the file row by row: the people of a large data set would take gigabytes as one object."""
    with writing(output), replacing(output) as file:
        file.write(f'{{"settings": {json.dumps(settings)}, "annotations": [')
        comma = ""
        for row in rows:
            file.write(f"{comma}\n{json.dumps(row)}")
            comma = ","
        file.write("\n]}\n")


def _settings(dataset: PeopleDataset, pose: ConfigSection) -> JournalEntry:
    boxes = [[row["id"], row["image_id"], row["bbox"]] for row in dataset.ground_truth["annotations"]]
    checksum = hashlib.sha256(json.dumps(boxes).encode()).hexdigest()
    return {"version": __version__, "pose": pose, "dataset": {"name": dataset.name, "sha256": checksum}}


def _estimated(
    dataset: PeopleDataset,
    waiting: Sequence[int],
    people: Mapping[int | str, list[Annotation]],
    estimator: PoseEstimator,
    detector: Detector | None,
    batch_size: int,
    quiet: bool,
) -> Iterator[tuple[int, list[PoseRow] | UserError]]:
    """Yield the index of each image with the people in it, or why it cannot be read."""
    groups = [waiting[start : start + batch_size] for start in range(0, len(waiting), batch_size)]
    with progress(quiet, len(waiting), title="poses", stderr=True) as (_, advance), ThreadPoolExecutor() as pool:
        for batch in read_ahead(groups, dataset.load, pool):
            for _ in batch:
                advance()
            yield from ((index, image) for index, image in batch if isinstance(image, UserError))
            read = [(index, image) for index, image in batch if isinstance(image, Image)]
            rows = [people[dataset.ground_truth["images"][index]["id"]] for index, _ in read]
            images, labelled = [image for _, image in read], [labelled_people(own) for own in rows]
            if detector is not None:
                labelled = with_detected_masks(images, labelled, detector)
            poses = estimator.estimate(images, labelled)
            for (index, image), own, pose, people_seen in zip(read, rows, poses, labelled, strict=True):
                yield index, _described(own, image, pose.to("cpu"), people_seen.masks)


def _described(people: Sequence[Annotation], image: Image, poses: Poses, masks: Tensor | None) -> list[PoseRow]:
    """Return the people of an image as plain values; ``image_id`` is left to the whole."""
    flags = keypoint_flags(poses, image.height, image.width, 2)
    columns = (to_numbers(values, 4) for values in (poses.scores, poses.visibility, poses.presence))
    rows: list[PoseRow] = [
        {
            "id": person["id"],
            "keypoints": [value for (x, y), flag in zip(points, own_flags, strict=True) for value in (x, y, flag)],
            "keypoint_scores": scores,
            "keypoint_visibility": visibility,
            "keypoint_presence": presence,
        }
        for person, points, own_flags, scores, visibility, presence in zip(
            people, to_numbers(poses.keypoints, 2), flags, *columns, strict=True
        )
    ]
    if poses.expected_oks is not None:
        for row, expected in zip(rows, to_numbers(poses.expected_oks, 4), strict=True):
            row["keypoint_expected_oks"] = expected
    if masks is not None:
        for row, mask, shape in zip(rows, masks, to_rle(masks), strict=True):
            if mask.any():
                row["segmentation"] = shape
    return rows


if __name__ == "__main__":
    sys.exit(main())
