"""What claims.py compares: poses, masks and loops on drawn scenes, each result kept on the disk and computed once.

An arm is one way to do a thing. Its results are rows in COCO's format, a file for every ``CHUNK`` scenes, named by
fingerprints: of the arm's configs, of the contents of every config and weight that these name, and of the scenes. So
whatever changes is computed anew, whatever does not is never computed again, and more scenes only add files. Knows
neither claims nor statistics.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch

from bmp import __version__
from bmp.build import build, build_part
from bmp.checkpoints.sources import resolve, table
from bmp.config import ConfigSection, packaged, read_config_file
from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage, labelled_images, truly_posed, with_detected_masks
from bmp.errors import UserError
from bmp.evaluation.ablations.curves import prompt_curve
from bmp.evaluation.metrics.matching import match
from bmp.evaluation.pose_to_mask import segment_poses
from bmp.io.annotations import Annotation, CocoDataset, keypoint_flags, labelled_mask, labelled_people, to_annotations
from bmp.io.annotations import to_numbers as plain_numbers
from bmp.io.atomic import replacing
from bmp.io.checksums import sha256_of
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.loop import Result
from bmp.ops.masks import exclusive
from bmp.registry import DETECTORS, POSES, PROMPTERS, SEGMENTERS
from bmp.segmenters.cropped import CroppedSegmenter
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.stages import Detector, PoseEstimator
from bmp.structures import Image, Poses

CHUNK = 20
_FORMAT = 1  # of the files; another one, and nothing that was stored counts any more
_IMAGE_BATCH = 4

Rows = list[Annotation]
Shown = Literal["round 1", "round 2", "detector's masks"]
Conditions = Literal["nothing", "detected", "labelled"]


@dataclass(frozen=True)
class PosesArm:
    """One pose for each labelled person, in the labelled box. Configs are JSON, so that arms can be looked up.

    conditions: the masks that the estimator is conditioned on: none at all, those that ``detector`` makes of these
    people, or the labelled ones.
    """

    pose: str
    detector: str
    conditions: Conditions = "detected"

    @property
    def words(self) -> str:
        """The name of its folder."""
        return f"poses, masks {self.conditions}"


@dataclass(frozen=True)
class MasksArm:
    """A mask for each labelled person, from the prompts that ``prompter`` makes of a pose.

    segmenter: config of one that is prompted with points, with its weights. poses: None for the labelled ones. crop:
    side of the crop that each person is segmented in, as a multiple of the box; None for the whole image. placed: put
    each labelled keypoint where it is labelled, and leave what the estimator says of it.
    """

    segmenter: str
    prompter: str
    poses: PosesArm | None
    crop: float | None = None
    placed: bool = False

    @property
    def words(self) -> str:
        """The name of its folder."""
        weights, prompter = Path(json.loads(self.segmenter)["checkpoint"]).stem, json.loads(self.prompter)
        kind = f"{prompter['type']}{prompter.get('count', '')}"
        keypoints = " placed" if self.placed else "" if self.poses else " labelled"
        return f"masks {weights} {kind}{keypoints}{'' if self.crop is None else ' crop'}"


@dataclass(frozen=True)
class LoopArm:
    """Everybody whom the loop of a pipeline finds.

    shown: the people known after round 1 or 2, or those of round 2 with the masks that the detector made of them.
    """

    pipeline: str
    shown: Shown

    @property
    def words(self) -> str:
        """The name of its folder."""
        return f"loop, {self.shown}"


@dataclass(frozen=True)
class TruePosesArm:
    """The people of another arm, whose poses are the labelled ones where their boxes are somebody's (IoU from 0.5)."""

    people: LoopArm


Arm = PosesArm | MasksArm | LoopArm | TruePosesArm
ComputedArm = PosesArm | MasksArm | LoopArm


class Scenes:
    """The first ``count`` scenes of a split; drawn when they are first needed.

    Args:
        split: its name.
        count: how many scenes.
        make: makes the data set of a split and a count.
    """

    def __init__(self, split: str, count: int, make: Callable[[str, int], PeopleDataset]) -> None:
        self.split = split
        self.count = count
        self._make = make

    @functools.cached_property
    def dataset(self) -> PeopleDataset:
        """All of them, with their ground truth."""
        return self._make(self.split, self.count)

    @property
    def chunks(self) -> list[range]:
        """The scenes of each file of results; the last may have fewer, and then it is another file than a full one."""
        return [range(start, min(start + CHUNK, self.count)) for start in range(0, self.count, CHUNK)]

    def part(self, chunk: range) -> PeopleDataset:
        """Return the scenes of a chunk as a data set of their own."""
        return _Part(self.dataset, chunk)

    @functools.cache  # noqa: B019  # there are two such objects in a run, which live as long as it does
    def fingerprint(self, chunk: range) -> str:
        """Return a digest of the ground truth and the pixels of a chunk."""
        part = self.part(chunk)
        digest = hashlib.sha256(json.dumps(part.ground_truth, sort_keys=True).encode())
        for index in range(len(chunk)):
            digest.update(part.load(index).pixels.numpy().tobytes())
        return digest.hexdigest()


class _Part(PeopleDataset):
    """Some images of a data set."""

    def __init__(self, whole: PeopleDataset, chosen: range) -> None:
        images = [whole.ground_truth["images"][index] for index in chosen]
        ids = {image["id"] for image in images}
        rows = [row for row in whole.ground_truth["annotations"] if row["image_id"] in ids]
        self.name = whole.name
        self.ground_truth = cast(CocoDataset, {**whole.ground_truth, "images": images, "annotations": rows})
        self._whole, self._chosen = whole, chosen

    def load(self, index: int) -> Image:
        return self._whole.load(self._chosen[index])


def as_json(section: ConfigSection) -> str:
    """Return a config as text that is the same for equal ones."""
    return json.dumps(section, sort_keys=True)


def fingerprint(described: object) -> str:
    """Return a digest of plain values and of the contents of every config file and weight that texts in them name."""
    contents = {text: digest for text in sorted(set(_texts(described))) if (digest := _contents(text))}
    whole = [_FORMAT, __version__, described, contents]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(value)


@functools.cache
def _contents(text: str) -> str | None:
    """Return a digest of the weight or the config, with its bases, that a text names; None if it names neither."""
    if text in {weight.name for weight in table()} or Path(text).expanduser().is_file():
        return sha256_of(resolve(text))
    path = packaged(text) if text.endswith((".py", ".yaml")) else None
    if path is None:
        return None
    if path.suffix == ".yaml":
        return sha256_of(path)
    whole = read_config_file(path).to_dict()
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def describe(arm: ComputedArm) -> object:
    """Return what an arm's results depend on, but for the scenes, in plain values."""
    if isinstance(arm, PosesArm):
        conditions = [arm.conditions, json.loads(arm.detector) if arm.conditions == "detected" else None]
        return ["poses", json.loads(arm.pose), *conditions]
    if isinstance(arm, MasksArm):
        poses = None if arm.poses is None else describe(arm.poses)
        placed = ["placed"] if arm.placed else []
        return ["masks", json.loads(arm.segmenter), json.loads(arm.prompter), arm.crop, poses, *placed]
    return ["loop", json.loads(arm.pipeline), arm.shown]


def shared_pass(arm: ComputedArm) -> object:
    """Return what arms have in common that are computed together: loops, and ways to prompt one segmenter."""
    if isinstance(arm, MasksArm):
        return (arm.segmenter, arm.poses, arm.placed, arm if arm.crop is not None else None)
    return arm.pipeline if isinstance(arm, LoopArm) else arm


class Results:
    """Rows of arms on scenes, in a folder.

    Args:
        folder: of the files; made when something is written.
        device: where networks run.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder = folder
        self._device = device
        self._built: dict[str, Any] = {}
        self._folders: dict[ComputedArm, str] = {}

    def path(self, arm: ComputedArm, scenes: Scenes, chunk: range) -> Path:
        """Return the file of an arm's rows for a chunk, there or not."""
        if arm not in self._folders:
            words = "".join(letter if letter.isalnum() else "-" for letter in arm.words)
            self._folders[arm] = f"{words}-{fingerprint(describe(arm))[:16]}"
        name = f"{scenes.split}-{chunk.start:05d}-{scenes.fingerprint(chunk)[:16]}.json"
        return self.folder / self._folders[arm] / name

    def missing(self, arms: Sequence[ComputedArm], scenes: Scenes) -> dict[range, list[ComputedArm]]:
        """Return which arms have no results yet, by chunk; those that others start from are not listed."""
        found = {chunk: [arm for arm in arms if not self.path(arm, scenes, chunk).is_file()] for chunk in scenes.chunks}
        return {chunk: own for chunk, own in found.items() if own}

    def compute(self, arms: Sequence[ComputedArm], scenes: Scenes, chunk: range) -> float:
        """Compute and store the rows of arms that share a pass, and the poses that they start from; return seconds."""
        poses = {arm.poses for arm in arms if isinstance(arm, MasksArm) and arm.poses is not None}
        seconds = 0.0
        for needed in poses:
            if not self.path(needed, scenes, chunk).is_file():
                seconds += self.compute([needed], scenes, chunk)
        self._build(arms[0])  # so that it is not timed
        start = time.process_time()  # of one core, whatever else the machine does
        part = scenes.part(chunk)
        rows = self._rows(list(arms), scenes, chunk, part)
        own = time.process_time() - start
        for arm in arms:
            path = self.path(arm, scenes, chunk)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, shared=True) as file:
                json.dump({"seconds": own / len(arms), "rows": rows[arm]}, file)
        return seconds + own

    def rows(self, arm: Arm, scenes: Scenes) -> Rows | None:
        """Return an arm's rows on all scenes, None if some are not computed yet."""
        if isinstance(arm, TruePosesArm):
            found = self.rows(arm.people, scenes)
            return None if found is None else with_true_poses(found, scenes.dataset.ground_truth)
        paths = [self.path(arm, scenes, chunk) for chunk in scenes.chunks]
        if not all(path.is_file() for path in paths):
            return None
        return [row for path in paths for row in json.loads(path.read_text())["rows"]]

    def seconds(self, arm: ComputedArm, scenes: Scenes) -> float:
        """Return how long the results that there are took."""
        paths = (self.path(arm, scenes, chunk) for chunk in scenes.chunks)
        return sum(float(json.loads(path.read_text())["seconds"]) for path in paths if path.is_file())

    def _rows(
        self, arms: list[ComputedArm], scenes: Scenes, chunk: range, part: PeopleDataset
    ) -> dict[ComputedArm, Rows]:
        first = arms[0]
        if isinstance(first, PosesArm):
            return {first: list(self._poses(first, part))}
        if isinstance(first, LoopArm):
            model = self._build(first)
            found: dict[ComputedArm, Rows] = {arm: [] for arm in arms}
            for index in range(len(chunk)):
                (result,) = model.run([part.load(index)], trace=True)
                image_id = part.ground_truth["images"][index]["id"]
                for arm in arms:
                    found[arm] += _shown(result, cast(LoopArm, arm).shown, image_id, model.pose.keypoints)
            return found
        masks = [cast(MasksArm, arm) for arm in arms]
        batches = self._posed(masks[0], scenes, chunk, part)
        segmenter = self._build(masks[0])
        prompters = {arm: build_part(json.loads(arm.prompter), PROMPTERS) for arm in masks}
        rows: dict[ComputedArm, Rows] = {arm: [] for arm in masks}
        if masks[0].crop is not None:
            prompted = copy(segmenter)
            prompted.prompter = prompters[masks[0]]
            cropped = segment_poses(batches, CroppedSegmenter(prompted, masks[0].crop))
            rows[masks[0]] = [_mask_row(row) for row in cropped]
            return rows
        for arm, row in prompt_curve(batches, segmenter, prompters):
            rows[arm].append(_mask_row(row))
        return rows

    def _poses(self, arm: PosesArm, part: PeopleDataset) -> Iterator[Annotation]:
        estimator, detector = self._build(arm)
        for batch in labelled_images(part, _IMAGE_BATCH):
            images = [image for image, _ in batch]
            people = [labelled_people(rows) for _, rows in batch]
            if arm.conditions == "detected":
                people = with_detected_masks(images, people, detector)
            elif arm.conditions == "labelled":
                people = [
                    replace(own, masks=torch.stack([labelled_mask(row, image) for row in rows]))
                    for own, (image, rows) in zip(people, batch, strict=True)
                ]
            for (image, rows), poses in zip(batch, estimator.estimate(images, people), strict=True):
                yield from _pose_rows(poses.to("cpu"), image, rows)

    def _posed(self, arm: MasksArm, scenes: Scenes, chunk: range, part: PeopleDataset) -> Iterator[list[PosedImage]]:
        known: dict[int, Annotation] = {}
        if arm.poses is not None:
            stored = json.loads(self.path(arm.poses, scenes, chunk).read_text())["rows"]
            known = {row["id"]: row for row in stored}
        for batch in labelled_images(part, _IMAGE_BATCH):
            if arm.poses is None:
                yield [truly_posed(image, rows, 0.5, part.keypoints) for image, rows in batch]
            else:
                posed = []
                for image, rows in batch:
                    poses = _stored_poses([known[row["id"]] for row in rows])
                    poses = _placed(poses, rows) if arm.placed else poses
                    posed.append(PosedImage(image, rows, labelled_people(rows), poses))
                yield posed

    def _build(self, arm: ComputedArm) -> Any:
        """Build what an arm runs, once: an estimator with its detector, a loop, or a segmenter."""
        if isinstance(arm, LoopArm):
            return self._once(arm.pipeline, lambda: build({"pipeline": json.loads(arm.pipeline)}, self._device))
        if isinstance(arm, MasksArm):
            config = {**json.loads(arm.segmenter), "prompter": {"type": "MaxVisibility"}}  # each arm has its own
            return self._once(arm.segmenter, lambda: _prompted(build_part(config, SEGMENTERS, self._device)))
        estimator: PoseEstimator = self._once(arm.pose, lambda: build_part(json.loads(arm.pose), POSES, self._device))
        detector: Detector | None = None
        if arm.conditions == "detected":
            detector = self._once(arm.detector, lambda: build_part(json.loads(arm.detector), DETECTORS, self._device))
        return estimator, detector

    def _once(self, config: str, make: Callable[[], Any]) -> Any:
        if config not in self._built:
            self._built[config] = make()
        return self._built[config]


def _prompted(segmenter: Any) -> PromptedSegmenter:
    if not isinstance(segmenter, PromptedSegmenter):
        raise UserError(f"expected a segmenter that is prompted with points, got {type(segmenter).__name__}")
    return segmenter


def _mask_row(row: Annotation) -> Annotation:
    """Return what of a row is the mask's."""
    fields = ("id", "image_id", "category_id", "score", "mask_score", "segmentation")
    return cast(Annotation, {name: row[name] for name in fields})  # type: ignore[literal-required]


def _pose_rows(poses: Poses, image: Image, people: Sequence[Annotation]) -> Iterator[Annotation]:
    flags = keypoint_flags(poses, image.height, image.width)
    for row, (person, places, own) in enumerate(zip(people, plain_numbers(poses.keypoints, None), flags, strict=True)):
        found = {
            "id": person["id"],
            "image_id": person["image_id"],
            "category_id": person["category_id"],
            "bbox": person["bbox"],
            "score": 1.0,
            "keypoints": [value for (x, y), flag in zip(places, own, strict=True) for value in (x, y, flag)],
            "keypoint_scores": poses.scores[row].tolist(),
            "keypoint_visibility": poses.visibility[row].tolist(),
            "keypoint_presence": poses.presence[row].tolist(),
        }
        if poses.expected_oks is not None:
            found["keypoint_expected_oks"] = poses.expected_oks[row].tolist()
        yield cast(Annotation, found)


def _stored_poses(rows: Sequence[Any]) -> Poses:
    """Turn rows of ``_pose_rows`` back into the record, to the last digit."""

    def column(name: str) -> torch.Tensor:
        return torch.tensor([row[name] for row in rows])

    return Poses(
        column("keypoints").reshape(len(rows), -1, 3)[:, :, :2].contiguous(),
        column("keypoint_scores"),
        column("keypoint_visibility"),
        column("keypoint_presence"),
        column("keypoint_expected_oks") if "keypoint_expected_oks" in rows[0] else None,
    )


def _placed(poses: Poses, people: Sequence[Annotation]) -> Poses:
    """Put the labelled keypoints of people where they are labelled."""
    labelled = torch.tensor([row["keypoints"] for row in people]).float().reshape(len(people), -1, 3)
    return replace(poses, keypoints=labelled[:, :, :2].where(labelled[:, :, 2:] > 0, poses.keypoints))


def _shown(result: Result, shown: Shown, image_id: int | str, keypoints: KeypointSet) -> Rows:
    if not result.trace:
        return []
    people = result.trace[0 if shown == "round 1" else -1].people
    if shown == "detector's masks":
        # With the pixels that several claim shared out as the loop does, by the detection's score.
        masks = people.detections.masks
        if masks is None:
            raise UserError("the detector gives boxes only; choose a config whose detector makes masks")
        scores = people.detections.scores
        people = people.replaced(masks=people.masks.replaced(bits=exclusive(masks, scores), scores=scores))
    return to_annotations(people, image_id, keypoints, exact=True)


def with_true_poses(rows: Rows, ground_truth: CocoDataset) -> Rows:
    """Return the rows with the labelled keypoints in those whose boxes are somebody's; others stay as they are."""
    matches = match(ground_truth, rows)
    person = dict(zip(matches.rows.tolist(), matches.person.tolist(), strict=True))
    corrected = []
    for number, row in enumerate(rows):
        if (index := person.get(number, -1)) >= 0:
            labelled = ground_truth["annotations"][index]
            scores = [1.0] * len(COCO_KEYPOINTS)
            row = cast(Annotation, {**row, "keypoints": labelled["keypoints"], "keypoint_scores": scores})
        corrected.append(row)
    return corrected
