"""Finds and reads config files, and overrides their values; does not know what a pipeline is made of."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from mmengine.config import Config

from bmp.errors import UserError, choices

_HERE = Path(__file__).resolve().parent
CONFIG_FOLDERS = (_HERE / "configs", _HERE.parents[1] / "configs")  # in an installed wheel; in a checkout


def load_config(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a config: an existing path, else a file of the package's ``configs`` folder, with or without ``.py``."""
    config = read_config_file(_find_config(name))
    for key, value in (overrides or {}).items():
        _override(config, key, value)
    return config


def parse_overrides(settings: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` strings; a value is a Python literal, true, false or none in any case, else a string."""
    words = {"true": True, "false": False, "none": None}
    overrides = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: expected key=value, for example --set pipeline.rounds=1")
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = words.get(text.lower(), text)
        overrides[key.strip()] = value
    return overrides


def config_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = next((folder for folder in CONFIG_FOLDERS if folder.is_dir()), None)
    if folder is None:
        return []
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.py") if p.parent == folder)


def presets() -> dict[str, str]:
    """Return the presets that come with the package: for each name the first sentence of what it says of itself.

    Example:
        >>> presets()["lite.py"]
        'Small models (9 MB) that run anywhere in about half a second an image and need no model hub.'
    """
    found = {}
    for name in config_names():
        path = packaged(name)
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path else None
        found[name] = " ".join((text or "").split("\n\n")[0].split())
    return found


def read_config_file(path: Path) -> Config:
    """Read a config and its bases; ``UserError`` where that fails."""
    try:
        # mmengine looks for a base only beside the file that names it; there is no other place to tell it more.
        with mock.patch.object(Config, "_get_cfg_path", staticmethod(_base_path)):
            return Config.fromfile(path)
    except Exception as error:  # a config is a program of the user's: anything can happen in it
        reason = " ".join(str(error).split())
        raise UserError(f"config {path} cannot be read: {type(error).__name__}: {reason}") from error


def _find_config(name: str | Path) -> Path:
    found = packaged(name)
    if found is None:
        raise UserError(f"config {str(name)!r} does not exist; {choices(str(name), config_names())}, or give a path")
    return found


def packaged(name: str | Path) -> Path | None:
    """Find a file by its path, or by its path within the ``configs`` of this package; None if there is none."""
    return existing_config(name, *CONFIG_FOLDERS)


def existing_config(name: str | Path, *folders: Path) -> Path | None:
    """Return the file that ``name`` means, with or without ``.py``: a path, else one within ``folders``."""
    bases = [Path(name), *(folder / name for folder in folders)]
    candidates = (path for base in bases if base.name for path in (base, base.with_name(f"{base.name}.py")))
    return next((path for path in candidates if path.is_file()), None)


_mmengine_base_path = Config._get_cfg_path


def _base_path(base: str, filename: str) -> tuple[str, str | None]:
    """Find a base beside the config that names it, else among the configs of the package."""
    if "::" not in base and not (Path(filename).parent / base).is_file():
        for folder in CONFIG_FOLDERS:
            if (folder / base).is_file():
                return str(folder / base), None
    return _mmengine_base_path(base, filename)  # type: ignore[no-any-return]


def _override(config: Config, key: str, value: Any) -> None:
    """Replace one value; everything on the way to it has to exist, so that a misspelt key is not a silent no-op."""
    *parents, last = key.split(".")
    if parents == ["evaluation"]:
        config.setdefault("evaluation", {})  # all of its settings have defaults, and evaluating checks their names
    node: Any = config
    for depth, name in enumerate([*parents, last]):
        options = list(node.keys()) if isinstance(node, Mapping | Config) else None
        where = ".".join(key.split(".")[:depth])
        if options is None:
            raise UserError(f"--set {key}: {where} is a plain value, {node!r}; there is nothing to set inside it")
        # Inside a stage a new key may be one of its arguments that has a default: building it checks that.
        is_open = depth == len(parents) and (where in ("pipeline", "evaluation") or "type" in options)
        if name not in options and not is_open:
            raise UserError(f"--set {key}: {where or 'the config'} has no {name!r}; {choices(name, options)}")
        if depth < len(parents):
            node = node[name]
    node[last] = value
