"""Exported networks on the disk, one folder each; knows no network and no engine.

Several processes may look for the same one: the first exports it while the others wait. A folder appears when it is
complete, and one whose files are not as they were written is made anew.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from bmp.checkpoints.sources import cache_folder
from bmp.errors import UserError
from bmp.io.checksums import sha256_of

MODEL = "model.onnx"
_CONTENTS = "contents.json"
_LOGGER = logging.getLogger(__name__)


def exported(name: str, fingerprint: str, export: Callable[[Path], None]) -> Path:
    """Return the ONNX file of a network, exporting it if it is not there.

    Args:
        name: of the network, for whoever looks into the folder.
        fingerprint: of everything that the file depends on.
        export: writes the file to a path, and nothing outside of its folder.

    Raises:
        UserError: for a cache that cannot be written.
    """
    place = cache_folder() / "engines" / f"{name}-{fingerprint[:32]}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place) as alone:
            for left in place.parent.glob(f"{place.name}.*") if alone else ():
                if left.is_dir():  # of a process that was killed
                    shutil.rmtree(left)
            if place.exists():
                if _is_whole(place):
                    return place / MODEL
                _LOGGER.warning("%s: its files are not as they were written; exported anew", place)
                shutil.rmtree(place)
            _make(place, export)
    except OSError as error:
        raise UserError(
            f"{error.filename or place}: cannot be written, {error.strerror or error}; make room, or choose another "
            "folder in the environment variable BMP_CACHE"
        ) from error
    return place / MODEL


def _make(place: Path, export: Callable[[Path], None]) -> None:
    unfinished = place.with_name(f"{place.name}.{os.getpid()}")
    unfinished.mkdir()
    try:
        export(unfinished / MODEL)
        contents = {file.name: sha256_of(file) for file in sorted(unfinished.iterdir())}
        (unfinished / _CONTENTS).write_text(json.dumps(contents), encoding="utf-8")
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_whole(place: Path) -> bool:
    try:
        contents = json.loads((place / _CONTENTS).read_text(encoding="utf-8"))
        return MODEL in contents and all(sha256_of(place / name) == digest for name, digest in contents.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return False


@contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Wait until no other process makes this folder, and yield whether that can be told."""
    lock = FileLock(place.with_name(f"{place.name}.lock"))
    try:
        lock.acquire()
    except NotImplementedError:  # a file system without locks, as some networks have
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
