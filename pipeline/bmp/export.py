"""Writes people as COCO JSON while a run goes on, and reads boxes from COCO JSON; knows no network and no picture.

What is written loads into ``pycocotools.coco.COCO``. Numbers are rounded, coordinates to 0.01 pixels and scores to
0.0001, unless they are asked for exactly.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, TextIO

import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from typing_extensions import Self

from bmp.errors import UserError
from bmp.journal import Journal, Record, check_settings, replacing, writing
from bmp.ops.boxes import xywh_to_xyxy, xyxy_to_xywh
from bmp.ops.masks import to_rle
from bmp.structures import Detections, Instances, KeypointSet

CATEGORY_ID = 1
_LARGEST = 1e9  # far beyond any picture, far below where float32 sums overflow


def category(keypoints: KeypointSet) -> dict[str, Any]:
    """Return COCO's entry for persons; its skeleton counts keypoints from 1, as COCO does."""
    return {
        "id": CATEGORY_ID,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(keypoints.names),
        "skeleton": [[start + 1, end + 1] for start, end in keypoints.skeleton],
    }


def to_annotations(
    instances: Instances, image_id: int, keypoints: KeypointSet, first_id: int = 1, *, exact: bool = False
) -> list[dict[str, Any]]:
    """Return one COCO annotation a person, in order, with ids from ``first_id``; plain values, ready for ``json``.

    The standard fields: ``bbox`` [x, y, width, height], ``segmentation`` compressed RLE, ``area`` of the mask,
    ``keypoints`` x, y, v for each, ``num_keypoints`` with v > 0, ``iscrowd`` 0, ``score`` of the detection. v is 0 for
    a keypoint that is absent (presence below 0.5), else 2 for a visible one (visibility from 0.5), else 1. x and y are
    the estimate whatever v is: evaluation scores the places of all keypoints.

    Ours: ``mask_score`` (predicted IoU), ``keypoint_scores``, ``keypoint_visibility``, ``keypoint_presence``, and the
    ``round`` in which the person was found. Numbers are rounded for short files, or with ``exact`` left as they are
    for evaluation, where rounded scores would tie and change the order.
    """
    places, shares = (None, None) if exact else (2, 4)
    detections, poses, masks = instances.detections, instances.poses, instances.masks
    if poses.scores.shape[1] != len(keypoints):
        raise ValueError(
            f"expected poses of {len(keypoints)} keypoints, got {poses.scores.shape[1]}; "
            "pass the KeypointSet of the estimator that made them"
        )
    flags = torch.where(poses.presence < 0.5, 0, torch.where(poses.visibility >= 0.5, 2, 1)).tolist()
    rows = zip(
        _plain(xyxy_to_xywh(detections.boxes), places),
        _plain(detections.scores, shares),
        to_rle(masks.bits),
        _plain(masks.scores, shares),
        _plain(poses.keypoints, places),
        flags,
        _plain(poses.scores, shares),
        _plain(poses.visibility, shares),
        _plain(poses.presence, shares),
        instances.round.tolist(),
        strict=True,
    )
    return [
        {
            "id": number,
            "image_id": image_id,
            "category_id": CATEGORY_ID,
            "bbox": box,
            "area": int(coco_mask.area(rle)),
            "segmentation": rle,
            "iscrowd": 0,
            "score": score,
            "mask_score": mask_score,
            "keypoints": [value for (x, y), flag in zip(points, row, strict=True) for value in (x, y, flag)],
            "num_keypoints": sum(flag > 0 for flag in row),
            "keypoint_scores": point_scores,
            "keypoint_visibility": visibility,
            "keypoint_presence": presence,
            "round": found,
        }
        for number, (box, score, rle, mask_score, points, row, point_scores, visibility, presence, found) in enumerate(
            rows, first_id
        )
    ]


def _plain(values: Tensor, decimals: int | None) -> list[Any]:
    """Round in double precision, where 0.3 prints as 0.3; adding zero turns -0.0 into 0.0."""
    precise = values.cpu().double()
    numbers: list[Any] = ((precise if decimals is None else precise.round(decimals=decimals)) + 0.0).tolist()
    return numbers


@dataclass(frozen=True)
class _Entry:
    """Where in the journal an image's line starts, and what of it is needed often. ``failed`` is the reason or None."""

    offset: int
    height: int
    width: int
    failed: str | None


class PeopleFile:
    """One COCO file for a whole run, valid at every moment, which a killed run loses at most the current image of.

    Every image is appended to a journal, ``<path>.partial``, at once. The file itself is written anew from the journal,
    under another name and then moved into place: at the start, every ``interval`` seconds or 20 times as long as it
    last took, whichever is longer, and at the end, when the journal goes. Memory does not grow with the results.

    Image ids are 1, 2, ... in the order of ``file_names`` and annotation ids follow that order, so that a run that was
    interrupted and resumed ends with the same file as one that was not. Inputs that could not be read are listed under
    ``failed``. What is resumed keeps images that are not among ``file_names``, behind those that are.

    Args:
        path: the file; its folder is made where it does not exist.
        keypoints: what the keypoints mean.
        file_names: every image of the run, as they shall be called in the file.
        resume: go on with what ``path`` and its journal hold, instead of starting anew.
        info: the file's ``info``: the settings of the run, plain values, nothing that differs between two runs with
            the same settings, since results of different settings are never mixed.
        interval: seconds between two writings of the file.

    Raises:
        UserError: the folder cannot be written, the disk is full, or what is to be resumed is no such file or was
            made with other settings.
    """

    def __init__(
        self,
        path: str | Path,
        keypoints: KeypointSet,
        file_names: Sequence[str],
        *,
        resume: bool = False,
        info: dict[str, Any] | None = None,
        interval: float = 5.0,
    ) -> None:
        self.path = Path(path)
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._keypoints = keypoints
        self._info = json.loads(json.dumps(info or {}))
        self._settings = {"keypoints": list(keypoints.names), **self._info}
        self._names = dict.fromkeys(file_names)
        if len(self._names) != len(file_names):
            raise ValueError("expected every file name once; make them distinct with bmp.images.output_names")
        self._interval = interval
        self._entries: dict[str, _Entry] = {}
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            finished: list[Record] = []
            if resume and self.path.exists() and not self._partial.exists():
                settings, finished = _journal_of(self.path)
                check_settings(self.path, settings, self._settings)
            self._journal = Journal(self._partial, self._settings, resume=resume, records=finished)
            try:
                for offset, record in self._journal.records():
                    self._remember(record, offset)
                self._write()
            except BaseException:
                self._journal.close()
                raise

    def done(self, file_name: str) -> bool:
        """Tell whether the people of this image are in the file; images that failed are to be tried again."""
        entry = self._entries.get(file_name)
        return entry is not None and entry.failed is None

    def add(self, file_name: str, height: int, width: int, instances: Instances) -> None:
        """Put down the people of an image, in place of what was known of it."""
        rows = to_annotations(instances, 0, self._keypoints)
        self._append(_record(file_name, height, width, rows))

    def fail(self, file_name: str, reason: str) -> None:
        """Put down that an image could not be done."""
        self._append({"file_name": file_name, "failed": reason})

    def close(self) -> None:
        """Write the file and remove the journal; more than once does nothing."""
        if not self._journal.closed:
            with writing(self.path):
                self._write()
                self._journal.close()
                self._partial.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, record: dict[str, Any]) -> None:
        if record["file_name"] not in self._names:
            raise ValueError(f"expected one of the run's file names, got {record['file_name']!r}; pass all up front")
        with writing(self.path):
            self._remember(record, self._journal.append(record))
            if time.monotonic() >= self._due:
                self._write()

    def _remember(self, record: dict[str, Any], offset: int) -> None:
        name = record["file_name"]
        self._names.setdefault(name)
        self._entries[name] = _Entry(offset, record.get("height", 0), record.get("width", 0), record.get("failed"))

    def _write(self) -> None:
        started = time.monotonic()
        with replacing(self.path) as file:
            self._dump(file)
        self._due = time.monotonic() + max(self._interval, 20 * (time.monotonic() - started))

    def _dump(self, file: TextIO) -> None:
        """Write the whole file; annotations, the bulk of it, pass one image at a time."""
        known = [
            (number, name, self._entries[name]) for number, name in enumerate(self._names, 1) if name in self._entries
        ]
        head = {
            "info": self._info,
            "categories": [category(self._keypoints)],
            "images": [
                {"id": number, "file_name": name, "height": entry.height, "width": entry.width}
                for number, name, entry in known
                if entry.failed is None
            ],
            "failed": [
                {"file_name": name, "reason": entry.failed} for _, name, entry in known if entry.failed is not None
            ],
        }
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        annotation_id = 0
        for number, _, entry in known:
            if entry.failed is not None:
                continue
            for row in self._journal.read(entry.offset)["annotations"]:
                annotation_id += 1
                file.write(",\n" if annotation_id > 1 else "\n")
                file.write(json.dumps({"id": annotation_id, "image_id": number, **row}))
        file.write("\n]}\n")


def _record(file_name: str, height: int, width: int, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A line of the journal: annotations lose the ids, which depend on the images before."""
    kept = [{key: value for key, value in row.items() if key not in ("id", "image_id")} for row in rows]
    return {"file_name": file_name, "height": height, "width": width, "annotations": kept}


def _journal_of(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """Turn a finished file back into the settings and records of its journal."""
    data = _read_json(path)
    try:
        rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in data["annotations"]:
            rows[row["image_id"]].append(row)
        return {"keypoints": data["categories"][0]["keypoints"], **data["info"]}, [
            *(
                _record(image["file_name"], image["height"], image["width"], rows[image["id"]])
                for image in data["images"]
            ),
            *({"file_name": failed["file_name"], "failed": failed["reason"]} for failed in data["failed"]),
        ]
    except (KeyError, IndexError, TypeError, ValueError):
        raise UserError(f"{path}: not written by this program; move it away or do not resume") from None


def load_boxes(path: str | Path, file_names: Sequence[str]) -> dict[str, Detections]:
    """Read the boxes of persons from COCO JSON for the images of a run.

    path: a dataset (``images`` and ``annotations``, such as ``instances_val2017.json`` or our own people.json) or a
    list of results ``{"image_id": ..., "bbox": [x, y, width, height], "score": ...}``. A result's ``image_id`` is a
    file name, with or without extension, or the number in it, as COCO has 785 for ``000000000785.jpg``. Crowd regions
    and other categories than person (in results: than 1) are left out. Without a score, a box counts as certain.

    file_names: the names to look for. The first of these that fits counts: the same path, the same name without
    folders, also without extension, the same number.

    Returns the boxes in file order for each of ``file_names`` that the file speaks of; an image of a dataset without
    persons has zero rows. Raises ``UserError`` for a file that cannot be read or used, and if no name fits at all.
    """
    path = Path(path)
    data = _read_json(path)
    if isinstance(data, dict):
        boxes = _boxes_of_dataset(path, data)
    elif isinstance(data, list):
        boxes = _boxes_of_results(path, data)
    else:
        raise UserError(f"{path}: expected a COCO dataset or a list of results, got {type(data).__name__}")
    owners: dict[str | int, str] = {}
    aliases: dict[str | int, list[str | int]] = defaultdict(list)
    for key in boxes:
        for alias in _aliases(key):
            aliases[alias].append(key)
    found: dict[str, Detections] = {}
    for name in file_names:
        keys = next((aliases[alias] for alias in _aliases(name) if alias in aliases), [])
        if len(keys) > 1:
            raise UserError(f"{path}: {keys[0]!r} and {keys[1]!r} both fit the input {name}; use full paths in it")
        for key in keys:
            if key in owners:
                raise UserError(f"{path}: {key!r} fits the inputs {owners[key]} and {name}; use full paths in it")
            owners[key] = name
            found[name] = boxes[key]
    if not found and file_names:
        example = next(iter(boxes), "no images")
        raise UserError(f"{path}: speaks of none of the inputs; it has {example!r}, the inputs have {file_names[0]!r}")
    return found


def _aliases(key: str | int) -> list[str | int]:
    """List what an image may be called, the most telling first."""
    if isinstance(key, int):
        return [key]
    base = PurePosixPath(key.replace("\\", "/"))
    names: list[str | int] = [key, base.name, base.stem]
    if base.stem.isdecimal():
        names.append(int(base.stem))
    return list(dict.fromkeys(names))


def _boxes_of_dataset(path: Path, data: dict[str, Any]) -> dict[str | int, Detections]:
    names = {_field(image, "id", str | int): _field(image, "file_name", str) for image in _rows(path, data, "images")}
    persons = _person_categories(path, data)
    rows: dict[str | int, list[list[float]]] = {name: [] for name in names.values()}
    for row in _rows(path, data, "annotations"):
        image_id = _field(row, "image_id", str | int)
        if image_id not in names:
            raise UserError(f"{row.place}: image_id {image_id!r} is not the id of any of its images")
        if row.get("iscrowd") or (persons is not None and row.get("category_id") not in persons):
            continue
        rows[names[image_id]].append(_box_and_score(row))
    return {name: _detections(boxes) for name, boxes in rows.items()}


def _person_categories(path: Path, data: dict[str, Any]) -> list[Any] | None:
    """Return the ids of the category "person", or None if there is no choice to make."""
    categories = list(_rows(path, data, "categories")) if "categories" in data else []
    persons = [row.get("id") for row in categories if row.get("name") == "person"]
    if not persons and len(categories) > 1:
        raise UserError(
            f"{path}: none of its {len(categories)} categories is called person; rename the one that means it"
        )
    return persons or None


def _boxes_of_results(path: Path, data: list[Any]) -> dict[str | int, Detections]:
    rows: dict[str | int, list[list[float]]] = defaultdict(list)
    for row in _rows(path, {"results": data}, "results"):
        if row.get("category_id", CATEGORY_ID) == CATEGORY_ID:
            rows[_field(row, "image_id", str | int)].append(_box_and_score(row))
    return {key: _detections(boxes) for key, boxes in rows.items()}


def _detections(rows: list[list[float]]) -> Detections:
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Detections(xywh_to_xyxy(values[:, :4]), values[:, 4].contiguous())


def _box_and_score(row: _Row) -> list[float]:
    box, score = _field(row, "bbox", list), row.get("score", 1.0)
    if len(box) != 4 or not all(map(_is_number, box)) or min(box[2:]) < 0:
        raise UserError(f"{row.place}: expected bbox [x, y, width, height], finite, sizes at least 0, got {box!r}")
    if not _is_number(score) or not 0 <= score <= 1:
        raise UserError(f"{row.place}: expected score to be a number in [0, 1], got {score!r}")
    return [*box, score]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


class _Row(dict[str, Any]):
    """An object of a JSON table that knows, for messages, where it stands."""

    place: str


def _rows(path: Path, data: dict[str, Any], table: str) -> Iterator[_Row]:
    rows = data.get(table)
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a COCO dataset with a list {table!r}, got {', '.join(data) or 'nothing'}")
    for index, values in enumerate(rows):
        place = f"{path}: {table}[{index}]"
        if not isinstance(values, dict):
            raise UserError(f"{place}: expected an object with named fields, got {values!r}")
        row = _Row(values)
        row.place = place
        yield row


def _field(row: _Row, name: str, kind: Any) -> Any:
    value = row.get(name)
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "a name" if kind is str else "a name or number"
        came = f"{name} is {value!r}" if name in row else f"only {', '.join(row) or 'nothing'}"
        raise UserError(f"{row.place}: expected a field {name!r} with {wanted}, got {came}")
    return value


def _read_json(path: Path) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read, {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON, {error}") from None
