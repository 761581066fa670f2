"""Reads the files of reference vectors in shared/reference; what a file lacks skips the test, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Named(dict[str, Any]):
    """What a file holds by name. Asking for a name that it lacks skips the test."""

    def __init__(self, content: dict[str, Any], file: str) -> None:
        super().__init__(content)
        self.file = file

    def __missing__(self, name: str) -> Any:
        pytest.skip(f"shared/reference/{self.file} has no {name!r}; this copy is of another version")

    def beginning_with(self, prefix: str) -> dict[str, Any]:
        """What is named ``prefix`` and more, by the rest of its name; there is at least one."""
        found = {name[len(prefix) :]: value for name, value in self.items() if name.startswith(prefix)}
        return found or self[f"{prefix}..."]


def read_vectors(shared: Path, name: str) -> Any:
    """Read an .npz or .json file: arrays by name, or JSON whose objects are ``Named``."""
    path = shared / "reference" / name
    if not path.is_file():
        pytest.skip(f"shared/reference/ has no {name}; this copy is of another version")
    if path.suffix == ".npz":
        with np.load(path) as file:
            return Named(dict(file), name)
    return json.loads(path.read_text(), object_hook=lambda content: Named(content, name))
