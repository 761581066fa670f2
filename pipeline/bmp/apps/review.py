"""The photos of a folder and their people, as somebody goes through them: what is kept in people.json, in versions.

It knows no model and no HTTP. Everything it says and does may be called from any thread.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from bmp.apps.edits import checked_person, share_pixels, with_edit
from bmp.errors import UserError
from bmp.io.json_fields import JsonObject
from bmp.io.people_file import ImageEntry, PeopleFile
from bmp.io.segmentations import mask_area
from bmp.label_sets import KeypointSet

_LOGGER = logging.getLogger("bmp")
_SECONDS = 1.0  # at least, between two writings of people.json

State = Literal["waiting", "found", "failed"]


class QueueRow(TypedDict):
    """A photo in the queue.

    sure: the least ``agreement`` among its people whom nobody has edited, the least score where there is none; None
    where all are edited or nobody is there. reason: why it failed.
    """

    key: str
    name: str
    state: State
    people: int
    edited: int
    sure: float | None
    reviewed: bool
    reason: NotRequired[str]


class Document(TypedDict):
    """A photo with its people: rows as in people.json, each with ``person``, which stays the person's own.

    Masks are whole, as they were drawn, also where others lie over them. revision: rises by one with each saving.
    """

    key: str
    name: str
    state: State
    height: int
    width: int
    revision: int
    reviewed: bool
    people: list[JsonObject]
    notices: list[str]


class ConflictError(Exception):
    """Somebody else has changed the same people since; nothing was saved.

    document: the photo as it is now. people: who was changed.
    """

    def __init__(self, document: Document, people: list[str]) -> None:
        super().__init__(
            f"{len(people)} of these people were changed elsewhere since revision was read; nothing was saved"
        )
        self.document, self.people = document, people


class NotFoundError(UserError):
    """There is no such photo."""


@dataclass(frozen=True)
class Photo:
    """A file of the queue: where it is, and its name in people.json."""

    path: Path
    name: str

    @property
    def key(self) -> str:
        """What it is called in addresses: nothing that could lead anywhere else."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]


class Review:
    """Photos in a queue, and what is known of their people, kept in a ``PeopleFile``.

    Each saving is in the file's journal before it is confirmed; people.json itself follows within about a second.
    A person has a name that is never given again, ``person`` in its row: the number of the row as it was found, or what
    whoever added it has chosen. Rows have the ``revision`` in which they were last saved.

    Args:
        file: kept open, and closed by ``close``.
        photos: the queue.
        keypoints: the meaning of the keypoints.
    """

    def __init__(self, file: PeopleFile, photos: Iterable[Photo], keypoints: KeypointSet) -> None:
        self._file, self._keypoints = file, keypoints
        self._photos: dict[str, Photo] = {}
        self._rows: dict[str, QueueRow] = {}  # what the queue says of a photo, until that changes
        self._lock = threading.RLock()
        self._dirty, self._closing = threading.Event(), threading.Event()
        self.include(photos)
        self._writer = threading.Thread(target=self._keep_written, name="bmp-people.json", daemon=True)
        self._writer.start()

    @property
    def name(self) -> str:
        """What tells this people.json from others that a browser sees at the same address."""
        return hashlib.sha256(os.fsencode(self._file.path.resolve())).hexdigest()[:16]

    def include(self, photos: Iterable[Photo]) -> None:
        """Take further photos into the queue; those that are in it stay as they are."""
        with self._lock:
            new = [photo for photo in photos if photo.key not in self._photos]
            self._file.include(photo.name for photo in new)
            self._photos.update({photo.key: photo for photo in new})

    def photo(self, key: str) -> Photo:
        """Return the photo of this key; ``NotFoundError`` for one that is not in the queue."""
        photo = self._photos.get(key)  # without the lock, which the writer of people.json may hold for long
        if photo is None:
            raise NotFoundError("there is no such photo in the queue; load the page anew")
        return photo

    def size(self, key: str) -> tuple[int, int]:
        """Return height and width of a photo whose people were found; ``UserError`` for others.

        Masks are asked for all the time, so this waits for nobody and reads nothing.
        """
        name = self.photo(key).name
        if not self._file.done(name):
            raise UserError(f"{name}: its people were not found yet; open it first")
        return self._file.size(name)

    def queue(self) -> list[QueueRow]:
        """Return all photos: those to look at, the least sure first, then those that wait, are done, failed."""
        with self._lock:
            rows = [self._rows.get(key) or self._summarised(photo) for key, photo in self._photos.items()]

        def order(row: QueueRow) -> tuple[int, float]:
            place = {"found": 2 if row["reviewed"] else 0, "waiting": 1, "failed": 3}[row["state"]]
            return place, 1.0 if row["sure"] is None else row["sure"]

        return sorted(rows, key=order)

    def waiting(self) -> Photo | None:
        """Return a photo whose people nobody has looked for; None where there is none."""
        with self._lock:
            for key, photo in self._photos.items():
                row = self._rows.get(key)
                if (row or self._summarised(photo))["state"] == "waiting":
                    return photo
        return None

    def state(self, key: str) -> State:
        """Return what has become of a photo."""
        name = self.photo(key).name
        with self._lock:
            if self._file.done(name):
                return "found"
            return "waiting" if self._file.failure(name) is None else "failed"

    def found(self, key: str, entry: ImageEntry) -> None:
        """Put down the people that a model has found in a photo; nothing where that was done before."""
        with self._lock:
            if not self._file.done(self.photo(key).name):
                self._put(self.photo(key), entry)

    def fail(self, key: str, reason: str) -> None:
        """Put down that a photo could not be done."""
        with self._lock:
            photo = self.photo(key)
            self._file.fail(photo.name, " ".join(reason.split()))
            self._rows.pop(key, None)
            self._dirty.set()

    def document(self, key: str) -> Document:
        """Return a photo with its people; nobody where they were not looked for or that failed."""
        with self._lock:
            photo = self.photo(key)
            state = self.state(key)
            entry = self._file.entry(photo.name) if state == "found" else ImageEntry(0, 0, [], None, [], {})
            reason = self._file.failure(photo.name)
            return {
                "key": key,
                "name": photo.name,
                "state": state,
                "height": entry.height,
                "width": entry.width,
                "revision": entry.review.get("revision", 0),
                "reviewed": entry.review.get("reviewed", False),
                "people": [_as_drawn(row) for row in _named(entry.rows)],
                "notices": entry.notices if reason is None else [reason],
            }

    def save(
        self, key: str, revision: int, changes: Mapping[str, JsonObject | None], reviewed: bool | None = None
    ) -> Document:
        """Change some of a photo's people, all of them or none, and return the photo as it is then.

        Changes to other people that were saved since ``revision`` stay: it is people that are merged, not files.

        Args:
            key: of the photo, whose people were found.
            revision: that the changes were made to.
            changes: for each ``person`` the row, see ``checked_person``, or None to delete it; a new person has a name
                that no person of this photo had before.
            reviewed: whether somebody has looked through the photo; None to leave that as it is.

        Raises:
            ConflictError: somebody has changed one of these people since.
            UserError: a row is not as it should be.
        """
        with self._lock:
            photo = self.photo(key)
            self.size(key)
            entry = self._file.entry(photo.name)
            stored = {str(row["person"]): row for row in _named(entry.rows)}
            deleted: dict[str, JsonObject] = dict(entry.review.get("deleted", {}))
            before = {**deleted, **stored}
            edits: dict[str, JsonObject | None] = {}
            for person, values in changes.items():
                with _about(person):
                    edits[person] = values and checked_person(values, entry.height, entry.width, self._keypoints)
                    if edits[person] is not None and "edited" in (values or {}):
                        edits[person].setdefault("edited", [])  # type: ignore[union-attr]
            current = entry.review.get("revision", 0)
            after = {
                person: None if edit is None else with_edit(_drawn(before.get(person)), edit)
                for person, edit in edits.items()
            }
            # What was saved already, and the answer was lost on the way, is no conflict.
            new = {person: row for person, row in after.items() if not _same(_drawn(stored.get(person)), row)}
            conflicts = [person for person in new if revision > current or _version(before.get(person)) > revision]
            if conflicts:
                raise ConflictError(self.document(key), conflicts)
            looked = entry.review.get("reviewed", False) if reviewed is None else reviewed
            if not new and looked == entry.review.get("reviewed", False):
                return self.document(key)
            for person, row in new.items():
                if row is None:  # kept, so that whoever takes that back loses nothing
                    deleted[person] = {**stored.pop(person), "revision": current + 1}
                else:
                    stored[person] = {**row, "person": person, "revision": current + 1}
                    deleted.pop(person, None)
            review: JsonObject = {"revision": current + 1, "reviewed": looked, "deleted": deleted}
            rows = share_pixels(list(stored.values()), entry.height, entry.width)
            self._put(photo, replace(entry, rows=rows, review=review))
            return self.document(key)

    def close(self) -> None:
        """Write people.json for the last time and give it back."""
        self._closing.set()
        self._dirty.set()
        self._writer.join()
        with self._lock:
            self._file.close()

    def _put(self, photo: Photo, entry: ImageEntry) -> None:
        self._file.put(photo.name, entry)
        self._rows.pop(photo.key, None)
        self._dirty.set()

    def _summarised(self, photo: Photo) -> QueueRow:
        state, key = self.state(photo.key), photo.key
        entry = self._file.entry(photo.name) if state == "found" else None
        rows = entry.rows if entry else []
        edited = [bool(row.get("edited")) for row in rows]
        doubts = [
            row.get("agreement", row.get("score")) for row, by_hand in zip(rows, edited, strict=True) if not by_hand
        ]
        summary: QueueRow = {
            "key": key,
            "name": photo.name,
            "state": state,
            "people": len(rows),
            "edited": sum(edited),
            "sure": min((doubt for doubt in doubts if doubt is not None), default=None),
            "reviewed": bool(entry and entry.review.get("reviewed", False)),
        }
        reason = self._file.failure(photo.name)
        if reason is not None:
            summary["reason"] = reason
        self._rows[key] = summary
        return summary

    def _keep_written(self) -> None:
        pause = _SECONDS
        while not self._closing.is_set():
            self._dirty.wait()
            if self._closing.wait(pause):
                return
            self._dirty.clear()
            started = time.monotonic()
            try:
                with self._lock:
                    self._file.write()
            except UserError as error:
                _LOGGER.error("%s; edits are kept in its journal", error)
            # A file that takes long to write is written less often.
            pause = max(_SECONDS, 20 * (time.monotonic() - started))


@contextmanager
def _about(person: str) -> Iterator[None]:
    """Say in errors which person they are about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"person {person}: {error}") from None


def _named(rows: Iterable[JsonObject]) -> list[JsonObject]:
    """Return rows with names of their people; those that nobody has edited are called by their numbers."""
    return [{"person": str(number), **row} for number, row in enumerate(rows)]


def _as_drawn(row: JsonObject) -> JsonObject:
    """Return a row with its whole mask, also where that of others lies over it."""
    plain = {key: value for key, value in row.items() if key != "drawn"}
    if "drawn" not in row:
        return plain
    return {**plain, "segmentation": row["drawn"], "area": mask_area(row["drawn"], *row["drawn"]["size"])}


def _drawn(row: JsonObject | None) -> JsonObject | None:
    return None if row is None else _as_drawn(row)


def _version(row: JsonObject | None) -> int:
    """Return the revision in which a person was last changed, 0 for never."""
    revision: int = 0 if row is None else row.get("revision", 0)
    return revision


def _same(stored: JsonObject | None, row: JsonObject | None) -> bool:
    """Tell whether a row says of a person what is stored of it."""
    if stored is None or row is None:
        return stored is row
    beside = ("person", "revision", "area")
    return {key: value for key, value in stored.items() if key not in beside} == {
        key: value for key, value in row.items() if key not in beside
    }
