"""JSON records that survive a kill at any moment, and files that change in one step; knows nothing of people."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TextIO

from bmp.errors import UserError

Record = dict[str, Any]


class JournalReader:
    """The records of a journal, which another process may be writing at this moment; it is not changed.

    A journal is a file of JSON lines: first the settings that the records were made with, then a line a record. A last
    line that a kill left unfinished, or that is on its way, is not looked at.

    Raises:
        UserError: the file is no journal or was made with other settings; it stays as it was.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], mode: Literal["rb", "r+b"] = "rb") -> None:
        self._file: IO[bytes] = path.open(mode)
        try:
            first = next((line for _, line in self._whole_lines()), b"")
            check_settings(path, _parsed(first).get("settings"), settings)
        except BaseException:
            self._file.close()
            raise

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yield each record with the offset to ``read`` it at; lines that a crash of the machine spoilt are left out.

        No other method may be called until the iterator ends.
        """
        for offset, line in self._whole_lines():
            if offset and (record := _parsed(line)):
                yield offset, record

    def read(self, offset: int) -> Record:
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
        self, path: Path, settings: Mapping[str, Any], *, resume: bool = False, records: Iterable[Record] = ()
    ) -> None:
        if not (resume and path.exists()):
            with replacing(path) as file:
                file.writelines(map(_line, [{"settings": settings}, *records]))
        super().__init__(path, settings, "r+b")
        end = 0
        for offset, line in self._whole_lines():
            end = offset + len(line)
        self._file.truncate(end)

    def append(self, record: Record) -> int:
        """Write a record behind the others and return its offset."""
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(_line(record).encode())
        self._file.flush()
        return offset


def check_settings(path: Path, old: Any, new: Mapping[str, Any]) -> None:
    """Raise ``UserError`` unless what ``path`` holds was made with the settings ``new``; ``old`` are those found."""
    if not isinstance(old, dict):
        raise UserError(f"{path}: not a journal of this program; move it away or do not resume")
    wanted = json.loads(json.dumps(new))
    changed = [key for key in {**old, **wanted} if key not in old or key not in wanted or old[key] != wanted[key]]
    if changed:
        raise UserError(
            f"{path}: made with other settings ({', '.join(changed)}); "
            "resume with the same ones, choose another output folder, or do not resume"
        )


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a file that takes the place of ``path`` in one step, once it is complete and on the disk."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing ``path`` into one line for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written, {error.strerror or error}; make room or choose another output folder"
        ) from None


def _parsed(line: bytes) -> Record:
    """Return a line's record; an empty one where a crash of the machine spoilt the line, which is to be done again."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
