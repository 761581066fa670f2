"""Checksums of files, also of large ones and of those that are open; knows no format."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20


def sha256_of(source: Path | IO[bytes]) -> str:
    """Return the sha256 in hexadecimal of a file, or of all of an open one; ``OSError`` for what cannot be read."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return sha256_of(file)
    digest = hashlib.sha256()
    source.seek(0)
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
