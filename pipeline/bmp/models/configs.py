"""Finds and reads the configs of networks: those of this package, of a file, and of the OpenMMLab packages."""

from __future__ import annotations

import copy
import difflib
import importlib.util
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.config import Config

from bmp.config import CONFIG_FOLDERS, ConfigSection, existing_config, read_config_file
from bmp.errors import MissingExtraError, UserError


def load_model_config(config: str | Path | ConfigSection | Config, library: str) -> dict[str, Any]:
    """Read the config of a network of an OpenMMLab library ("mmdet", "mmpose").

    config: a dict with an entry "model", or that section itself; else a path, a path within the ``configs`` of this
    package ("models/pmpose_b.py") or of the library, or the bare name of one of the library's, all with or without
    ".py". Returns a dict with the entry "model"; ``UserError`` for what cannot be found or read, or has no model.
    """
    if isinstance(config, Config):
        config = config.to_dict()
    if isinstance(config, Mapping):
        found: dict[str, Any] = copy.deepcopy(dict(config) if "model" in config else {"model": dict(config)})
    else:
        specification = importlib.util.find_spec(library)
        if specification is None or specification.origin is None:
            raise MissingExtraError(f"the config {config}", library, "openmmlab")
        bundled = Path(specification.origin).parent / ".mim" / "configs"
        found = read_config_file(_find_model_config(str(config), library, bundled)).to_dict()
    if not isinstance(found.get("model"), Mapping) or "type" not in found["model"]:
        raise UserError(f"config {config}: expected model=dict(type=...), found none; give the config of a model")
    return found


def _find_model_config(name: str, library: str, bundled: Path) -> Path:
    if found := existing_config(name, *CONFIG_FOLDERS, bundled):
        return found
    known = [
        path.relative_to(bundled).as_posix() for path in sorted(bundled.rglob("*.py")) if "_base_" not in path.parts
    ]
    namesakes = [path for path in known if PurePosixPath(path).stem == name.removesuffix(".py")]
    if len(namesakes) == 1:
        return bundled / namesakes[0]
    if namesakes:
        raise UserError(f"config {name!r}: {library} has several of that name; give one of {', '.join(namesakes)}")
    near = difflib.get_close_matches(name, known, n=3) or known[:1]
    raise UserError(
        f"config {name!r}: found neither a file of that name nor one of {library}'s, such as {', '.join(near)}"
    )
