"""Files that change in one step, folders that one process at a time writes; knows nothing of what is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout

from bmp.errors import UserError

LOCK = ".lock"
"""The file that ``alone_in`` leaves in a folder."""


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[TextIO]:
    """Open a text file that takes the place of ``path`` in one step, once it is complete and on the disk.

    Args:
        path: the file, in a folder that exists; there or not.
        shared: other processes may be writing it at this moment; the last one to finish wins.
    """
    with replacing_path(path, shared=shared) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


@contextmanager
def replacing_path(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Like ``replacing``, for whoever writes to a path: give one in the same folder with the same suffix.

    Nothing happens to ``path`` if the body raises or leaves no file.
    """
    # A name that is always the same is used again by the next run, also after a kill.
    temporary = path.with_name(f"{path.stem}.{os.getpid() if shared else 'unfinished'}{path.suffix}")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, remedy: str = "make room or choose another output folder") -> Iterator[None]:
    """Turn what the system says against writing ``path`` into one line for the user, a ``UserError``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written, {error.strerror or error}; {remedy}") from None


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs from writing into ``folder``, which exists, for as long as the context lasts.

    Raises:
        UserError: another run, of this process or of another, writes there; or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: another run writes here; wait for it, or choose another output folder") from None
    except OSError as error:
        with writing(folder):
            raise error from None
    except NotImplementedError:  # a file system without locks, as some networks have
        yield
        return
    try:
        yield
    finally:
        lock.release()
