"""Writes people as COCO JSON while a run goes on; knows no network and no picture.

What is written loads into ``pycocotools.coco.COCO``. Numbers are rounded, coordinates to 0.01 pixels and scores to
0.0001, unless they are asked for exactly.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from typing_extensions import Self

from bmp.errors import UserError
from bmp.io.annotations import category, to_annotations
from bmp.io.atomic import replacing, writing
from bmp.io.journal import Journal, Record, check_settings
from bmp.io.json_fields import read_json
from bmp.label_sets import KeypointSet
from bmp.structures import Instances


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
            raise ValueError("expected every file name once; make them distinct with bmp.io.images.output_names")
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
    data = read_json(path)
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
