"""JSON records that survive a kill at any moment; knows nothing of people."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Literal

from bmp.errors import UserError
from bmp.io.atomic import replacing
from bmp.io.json_fields import JsonObject

JournalEntry = JsonObject


class JournalReader:
    """The records of a journal, which another process may be writing at this moment; it is not changed.

    A journal is a file of JSON lines: first the settings that the records were made with, then a line a record, each
    with a checksum, so that a line that anything has changed is no record. A last line that a kill left unfinished, or
    that is on its way, is not looked at.

    spoilt: lines that ``records`` has left out so far, since they are not as they were written.

    Raises:
        UserError: the file is no journal or was made with other settings; it stays as it was.
    """

    def __init__(self, path: Path, settings: Mapping[str, object], mode: Literal["rb", "r+b"] = "rb") -> None:
        self._file: IO[bytes] = path.open(mode)
        self.spoilt = 0
        try:
            first = next((line for _, line in self._whole_lines()), b"")
            check_settings(path, _settings(first), settings)
        except BaseException:
            self._file.close()
            raise

    def records(self) -> Iterator[tuple[int, JournalEntry]]:
        """Yield each record with the offset to ``read`` it at; lines that something has spoilt are left out.

        No other method may be called until the iterator ends.
        """
        self.spoilt = 0
        for offset, line in self._whole_lines():
            if not offset:
                continue
            record = _parsed(line)
            if record and "settings" not in record:  # the first line, moved
                yield offset, record
            else:
                self.spoilt += 1

    def read(self, offset: int) -> JournalEntry:
        """Return the record at ``offset``."""
        self._file.seek(offset)
        return _parsed(self._file.readline())

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._file.closed

    def close(self) -> None:
        """Close the file; more than once does nothing."""
        self._file.close()

    def _whole_lines(self) -> Iterator[tuple[int, bytes]]:
        offset = self._file.seek(0)
        for line in self._file:
            if line.endswith(b"\n"):
                yield offset, line
                offset += len(line)


class Journal(JournalReader):
    """A journal to write to, which survives a kill at any moment.

    A record has left the program when ``append`` returns, so that a kill costs at most the record on its way; the
    unfinished line it leaves is cut off when the journal is opened again. ``OSError`` is the caller's to translate.

    Args:
        path: the file, in a folder that exists.
        settings: plain values.
        resume: go on with the file where it exists, instead of starting anew.
        records: what a new journal starts with.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, object], *, resume: bool = False, records: Iterable[JournalEntry] = ()
    ) -> None:
        if not (resume and path.exists()):
            with replacing(path) as file:
                file.writelines(map(_line, [{"settings": settings}, *records]))
        super().__init__(path, settings, "r+b")
        end = 0
        for offset, line in self._whole_lines():
            end = offset + len(line)
        self._file.truncate(end)

    def append(self, record: JournalEntry) -> int:
        """Write a record behind the others and return its offset."""
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(_line(record).encode())
        self._file.flush()
        return offset


def journal_settings(path: Path) -> JsonObject:
    """Return the settings that the journal at ``path`` was begun with; none if they are not as they were written."""
    with path.open("rb") as file:
        return dict(_parsed(file.readline()).get("settings", {}))


def check_settings(path: Path, old: Mapping[str, object] | None, new: Mapping[str, object]) -> None:
    """Raise ``UserError`` unless what ``path`` holds was made with the settings ``new``; ``old`` are those found."""
    if old is None:
        raise UserError(f"{path}: not a journal of this program; move it away or do not resume")
    wanted = json.loads(json.dumps(new))
    changed = [key for key in {**old, **wanted} if key not in old or key not in wanted or old[key] != wanted[key]]
    if changed:
        raise UserError(
            f"{path}: made with other settings ({', '.join(changed)}); "
            "resume with the same ones, choose another output folder, or do not resume"
        )


_CHECKED = b'{"crc32": "%08x", '
_LENGTH = len(_CHECKED % 0)


def _settings(line: bytes) -> JsonObject | None:
    """Return the settings in a first line, None where there are none; they are compared, so no checksum is needed."""
    try:
        settings = json.loads(line)["settings"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def _parsed(line: bytes) -> JournalEntry:
    """Return a line's record; an empty one where the line is not as it was written."""
    rest = b"{" + line[_LENGTH:].rstrip(b"\n")
    if line[:_LENGTH] != _CHECKED % zlib.crc32(rest):
        return {}
    record: JournalEntry = json.loads(rest)
    return record


def _line(record: Mapping[str, object]) -> str:
    """Return a record, which has fields, as a line that begins with the checksum of the others."""
    text = json.dumps(record, allow_nan=False)
    return (_CHECKED % zlib.crc32(text.encode())).decode() + text[1:] + "\n"
