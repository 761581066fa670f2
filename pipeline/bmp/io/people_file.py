"""Writes people as COCO JSON while a run goes on; knows no network and no picture.

What is written loads into ``pycocotools.coco.COCO``. Numbers are rounded, coordinates to 0.01 pixels and scores to
0.0001, unless they are asked for exactly.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from typing_extensions import Self

from bmp.errors import UserError
from bmp.io.annotations import Annotation, category, to_annotations
from bmp.io.atomic import replacing, writing
from bmp.io.journal import Journal, JournalEntry, check_settings, journal_settings
from bmp.io.json_fields import JsonObject
from bmp.label_sets import KeypointSet
from bmp.label_sets.part_sets import PartSet
from bmp.structures import Instances, Parts


@dataclass(frozen=True)
class _Entry:
    """Where in the journal an image's line starts, and what of it is needed often.

    ``failed`` is the reason or None; ``review`` is as in ``ImageEntry``.
    """

    offset: int
    height: int
    width: int
    sha256: str | None
    notices: list[str]
    failed: str | None
    review: JsonObject


@dataclass(frozen=True)
class ImageEntry:
    """What the file says of an image that is done.

    rows: its annotations, without ``id`` and ``image_id``, which depend on the images before. sha256: of the image's
    file, None where it is not known. notices: where it was not read as it stands in the file. review: what was put
    down when people were reviewed by hand; empty where nobody has.
    """

    height: int
    width: int
    rows: list[JsonObject]
    sha256: str | None
    notices: list[str]
    review: JsonObject


class PeopleFile:
    """One COCO file for a whole run, valid at every moment, in which a killed run leaves all that was added to it.

    Every image is appended to a journal, ``<path>.partial``, when it is added: what a kill loses are images that were
    not added yet, several where whoever adds them has several in hand. The file itself is written anew from the
    journal, under another name and then moved into place: at the start, every ``interval`` seconds or 20 times as long
    as it last took, whichever is longer, and at the end, when the journal goes. Memory does not grow with the results.

    Image ids are 1, 2, ... in the order of ``file_names`` and annotation ids follow that order, so that a run that was
    interrupted and resumed ends with the same file as one that was not. Inputs that could not be read are listed under
    ``failed``, what was no input under ``skipped``; what else there is to know about the run stands under ``notices``,
    and about an image under ``notices`` of its entry, each only where there is something. What is resumed keeps images
    that are not among ``file_names``, behind those that are. The file ends with a checksum of all that comes before,
    and only what is as it was written is resumed: journal lines that are not are ``spoilt``, and their images are to be
    done again.

    Args:
        path: the file; its folder is made where it does not exist.
        keypoints: what the keypoints mean.
        file_names: every image of the run, as they shall be called in the file.
        resume: go on with what ``path`` and its journal hold, instead of starting anew.
        skipped: what was met while looking for images and left out: file or folder, and why.
        notices: what else was left out or is worth knowing, a line each.
        info: the file's ``info``: the settings of the run, plain values, nothing that differs between two runs with
            the same settings, since results of different settings are never mixed.
        interval: seconds between two writings of the file.
        part_set: what the numbers of parts mean, where people have parts; the file says so under ``part_set``.

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
        skipped: Sequence[tuple[str, str]] = (),
        notices: Sequence[str] = (),
        info: JsonObject | None = None,
        interval: float = 5.0,
        part_set: PartSet | None = None,
    ) -> None:
        self.path = Path(path)
        self._partial = _partial(self.path)
        self._keypoints = keypoints
        self._info = json.loads(json.dumps(info or {}))
        self._settings = {"keypoints": list(keypoints.names), **self._info}
        self._names = dict.fromkeys(file_names)
        if len(self._names) != len(file_names):
            raise ValueError("expected every file name once; make them distinct with bmp.io.images.output_names")
        self._skipped = [{"path": path, "reason": reason} for path, reason in skipped]
        self._notices = list(notices)
        self._interval = interval
        self._part_set = part_set
        self._entries: dict[str, _Entry] = {}
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            finished: list[JournalEntry] = []
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

    @property
    def spoilt(self) -> int:
        """How many lines of the journal that was resumed are not as they were written."""
        return self._journal.spoilt

    def done(self, file_name: str, sha256: str | None = None) -> bool:
        """Tell whether the people of this image are in the file; images that failed are to be tried again.

        With ``sha256``, of the image's file, they have to be those of the file that has this checksum.
        """
        entry = self._entries.get(file_name)
        return entry is not None and entry.failed is None and sha256 in (None, entry.sha256)

    def failure(self, file_name: str) -> str | None:
        """Return why this image could not be done; None for others."""
        entry = self._entries.get(file_name)
        return None if entry is None else entry.failed

    def size(self, file_name: str) -> tuple[int, int]:
        """Return height and width of an image that is ``done``; ``KeyError`` for others."""
        known = self._entries[file_name]
        if known.failed is not None:
            raise KeyError(file_name)
        return known.height, known.width

    def entry(self, file_name: str) -> ImageEntry:
        """Return what the file says of an image that is ``done``; ``KeyError`` for others."""
        known = self._entries[file_name]
        if known.failed is not None:
            raise KeyError(file_name)
        rows: list[JsonObject] = self._journal.read(known.offset)["annotations"]
        return ImageEntry(known.height, known.width, rows, known.sha256, known.notices, known.review)

    def include(self, file_names: Iterable[str]) -> None:
        """Take further images into the run, behind the others."""
        self._names.update(dict.fromkeys(file_names))

    def add(
        self,
        file_name: str,
        height: int,
        width: int,
        instances: Instances,
        sha256: str | None = None,
        notices: Sequence[str] = (),
        parts: Parts | None = None,
    ) -> None:
        """Put down the people of an image, in place of what was known of it.

        sha256: the checksum of its file. notices: where it was not read as it stands in the file, a sentence each.
        parts: of the people's bodies, None where no parser told them.
        """
        self.add_described(file_name, height, width, self.described(instances, parts), sha256, notices)

    def described(self, instances: Instances, parts: Parts | None = None) -> list[Annotation]:
        """Return the rows of people as the file has them; any thread may make them, with several at a time."""
        return to_annotations(instances, 0, self._keypoints, parts=parts)

    def add_described(
        self,
        file_name: str,
        height: int,
        width: int,
        rows: Sequence[Annotation],
        sha256: str | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        """As ``add``, of what ``described`` returned."""
        self.put(file_name, ImageEntry(height, width, _without_ids(rows), sha256, list(notices), {}))

    def put(self, file_name: str, entry: ImageEntry) -> None:
        """Put down an image with annotations that exist already, in place of what was known of it."""
        self._append(_record(file_name, entry))

    def fail(self, file_name: str, reason: str) -> None:
        """Put down that an image could not be done."""
        self._append({"file_name": file_name, "failed": reason})

    def write(self) -> None:
        """Bring the file up to date now, rather than when it is due."""
        with writing(self.path):
            self._write()

    def close(self) -> None:
        """Write the file and remove the journal, which stays where that fails; more than once does nothing."""
        if not self._journal.closed:
            with writing(self.path):
                try:
                    self._write()
                finally:
                    self._journal.close()
                self._partial.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, record: JsonObject) -> None:
        if record["file_name"] not in self._names:
            raise ValueError(f"expected one of the run's file names, got {record['file_name']!r}; pass all up front")
        with writing(self.path):
            self._remember(record, self._journal.append(record))
            if time.monotonic() >= self._due:
                self._write()

    def _remember(self, record: JsonObject, offset: int) -> None:
        name = record["file_name"]
        self._names.setdefault(name)
        self._entries[name] = _Entry(
            offset,
            record.get("height", 0),
            record.get("width", 0),
            record.get("sha256"),
            record.get("notices", []),
            record.get("failed"),
            record.get("review", {}),
        )

    def _write(self) -> None:
        started = time.monotonic()
        with replacing(self.path) as file:
            self._dump(_Checked(file))
        self._due = time.monotonic() + max(self._interval, 20 * (time.monotonic() - started))

    def _dump(self, file: _Checked) -> None:
        """Write the whole file; annotations, the bulk of it, pass one image at a time."""
        known = [
            (number, name, self._entries[name]) for number, name in enumerate(self._names, 1) if name in self._entries
        ]
        head = {
            "info": self._info,
            "categories": [category(self._keypoints)],
            "images": [
                {"id": number, "file_name": name, "height": entry.height, "width": entry.width}
                | ({} if entry.sha256 is None else {"sha256": entry.sha256})
                | ({"notices": entry.notices} if entry.notices else {})
                | ({"review": entry.review} if entry.review else {})
                for number, name, entry in known
                if entry.failed is None
            ],
            "failed": [
                {"file_name": name, "reason": entry.failed} for _, name, entry in known if entry.failed is not None
            ],
            "skipped": self._skipped,
            **({"notices": self._notices} if self._notices else {}),
        }
        if (labels := self._part_set) is not None:
            head["part_set"] = {"name": labels.name, "labels": list(labels.names), "coarse": labels.coarse}
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        annotation_id = 0
        for number, _, entry in known:
            if entry.failed is not None:
                continue
            for row in self._journal.read(entry.offset)["annotations"]:
                annotation_id += 1
                file.write(",\n" if annotation_id > 1 else "\n")
                file.write(json.dumps({"id": annotation_id, "image_id": number, **row}))
        file.write("\n]")
        file.finish()


class _Checked:
    """Writes text and, as its last field, the checksum of what came before: of JSON that lacks its last brace."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def write(self, text: str) -> None:
        self._digest.update(text.encode())
        self._file.write(text)

    def finish(self) -> None:
        self._file.write(_CHECKSUM.format(self._digest.hexdigest()))


_CHECKSUM = ', "sha256": "{}"}}\n'
_CHECKSUM_LENGTH = len(_CHECKSUM.format("0" * 64))


def recorded_settings(path: str | Path) -> JsonObject | None:
    """Return the ``info`` that a run which can be resumed has left at ``path``; None where there is none.

    Raises:
        UserError: what is there is not as this program has written it.
    """
    path = Path(path)
    partial = _partial(path)
    with writing(path):
        if partial.exists():
            return {key: value for key, value in journal_settings(partial).items() if key != "keypoints"}
        if path.exists():
            info: JsonObject = _read(path)["info"]
            return info
    return None


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _without_ids(rows: Iterable[Mapping[str, object]]) -> list[JsonObject]:
    """Return annotations without the ids, which depend on the images before."""
    return [{key: value for key, value in row.items() if key not in ("id", "image_id")} for row in rows]


def _record(file_name: str, entry: ImageEntry) -> JsonObject:
    """A line of the journal."""
    said = {"notices": entry.notices} if entry.notices else {}
    reviewed = {"review": entry.review} if entry.review else {}
    head = {"file_name": file_name, "height": entry.height, "width": entry.width, "sha256": entry.sha256}
    return {**head, **said, **reviewed, "annotations": entry.rows}


def _read(path: Path) -> JsonObject:
    """Return a finished file, which has to be as it was written."""
    content = path.read_bytes()
    body, end = content[:-_CHECKSUM_LENGTH], content[-_CHECKSUM_LENGTH:]
    if end != _CHECKSUM.format(hashlib.sha256(body).hexdigest()).encode():
        raise UserError(
            f"{path}: not written by this program, or changed since; move it away, replace it with --overwrite, or do "
            "not resume"
        )
    data: JsonObject = json.loads(content)
    return data


def _journal_of(path: Path) -> tuple[JsonObject, list[JournalEntry]]:
    """Turn a finished file back into the settings and records of its journal."""
    data = _read(path)
    rows: dict[int, list[JsonObject]] = defaultdict(list)
    for row in data["annotations"]:
        rows[row["image_id"]].append(row)
    return {"keypoints": data["categories"][0]["keypoints"], **data["info"]}, [
        *(
            _record(
                image["file_name"],
                ImageEntry(
                    image["height"],
                    image["width"],
                    _without_ids(rows[image["id"]]),
                    image.get("sha256"),
                    image.get("notices", []),
                    image.get("review", {}),
                ),
            )
            for image in data["images"]
        ),
        *({"file_name": failed["file_name"], "failed": failed["reason"]} for failed in data["failed"]),
    ]
