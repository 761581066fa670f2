"""From a config to a pipeline; the only module that knows configs. It knows no stage by name.

A config is an mmengine ``Config`` file in plain Python whose ``pipeline`` is a dict of constructor arguments of
``bmp.BMP``. A dict with a ``type`` is built first: the type is a name from the registry of the argument's role, or
the full dotted path of a class anywhere.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.registry import Registry

from bmp.errors import UserError
from bmp.people import BMP
from bmp.registry import BOX_PROMPTS, DETECTORS, NEGATIVES, POSES, PROMPTERS, SEGMENTERS, SUPPRESSORS

_ROLES: dict[str, Registry] = {
    "detector": DETECTORS,
    "redetector": DETECTORS,
    "pose": POSES,
    "segmenter": SEGMENTERS,
    "suppressor": SUPPRESSORS,
    "prompter": PROMPTERS,
    "negative": NEGATIVES,
    "box": BOX_PROMPTS,
}
_HERE = Path(__file__).resolve().parent
_CONFIG_FOLDERS = (_HERE / "configs", _HERE.parents[1] / "configs")  # in an installed wheel; in a checkout


def load(config: str | Path = "lite.py", *, device: str = "auto", overrides: Mapping[str, Any] | None = None) -> BMP:
    """Build the model that a config describes.

    Args:
        config: path of a config file, or the name of one that comes with the package.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps"; stages whose config names a device keep theirs.
        overrides: config values to replace, by dotted key: ``{"pipeline.rounds": 1}``.

    Raises:
        UserError: for any mistake in the config, with what exists instead.
        ImportError: where a stage needs an extra that is not installed, with the command that installs it.
    """
    return build(load_config(config, overrides or {}), device)


def build(config: Mapping[str, Any], device: str = "auto") -> BMP:
    """Build the pipeline of a loaded config; arguments and errors as for ``load``."""
    if not isinstance(config.get("pipeline"), Mapping):
        raise UserError("this config has no pipeline = dict(...); start it with _base_ = ['_base_/bmp.py']")
    return _call(BMP, config["pipeline"], "pipeline", resolve_device(device))  # type: ignore[no-any-return]


def resolve_device(name: str) -> str:
    """Turn "auto" into the best device there is and check any other name against this machine."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; try --device auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps': this machine has none; try --device auto")
    return name


def load_config(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a config: an existing path, else a file of the package's ``configs`` folder, with or without ``.py``."""
    path = _find_config(name)
    try:
        # mmengine looks for a base only beside the file that names it; there is no other place to tell it more.
        with mock.patch.object(Config, "_get_cfg_path", staticmethod(_base_path)):
            config = Config.fromfile(path)
    except Exception as error:  # a config is a program of the user's: anything can happen in it
        raise UserError(
            f"config {path} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
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
    """Names of the configs that come with the package."""
    folder = next((folder for folder in _CONFIG_FOLDERS if folder.is_dir()), None)
    if folder is None:
        return []
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.py") if "_base_" not in p.parts)


def _find_config(name: str | Path) -> Path:
    candidates = [Path(name), *(folder / name for folder in _CONFIG_FOLDERS)]
    for candidate in (path for base in candidates for path in (base, Path(f"{base}.py"))):
        if candidate.is_file():
            return candidate
    raise UserError(f"config {str(name)!r} does not exist; {_choices(str(name), config_names())}, or give a path")


_mmengine_base_path = Config._get_cfg_path


def _base_path(base: str, filename: str) -> tuple[str, str | None]:
    """Find a base beside the config that names it, else among the configs of the package."""
    if "::" not in base and not (Path(filename).parent / base).is_file():
        for folder in _CONFIG_FOLDERS:
            if (folder / base).is_file():
                return str(folder / base), None
    return _mmengine_base_path(base, filename)  # type: ignore[no-any-return]


def _override(config: Config, key: str, value: Any) -> None:
    """Replace one value; everything on the way to it has to exist, so that a misspelt key is not a silent no-op."""
    *parents, last = key.split(".")
    node: Any = config
    for depth, name in enumerate([*parents, last]):
        options = list(node.keys()) if isinstance(node, Mapping | Config) else None
        where = ".".join(key.split(".")[:depth])
        if options is None:
            raise UserError(f"--set {key}: {where} is a plain value, {node!r}; there is nothing to set inside it")
        # Inside a stage a new key may be one of its arguments that has a default: building it checks that.
        if name not in options and not (depth == len(parents) and (where == "pipeline" or "type" in options)):
            raise UserError(f"--set {key}: {where or 'the config'} has no {name!r}; {_choices(name, options)}")
        if depth < len(parents):
            node = node[name]
    node[last] = value


def _call(factory: Callable[..., Any], arguments: Mapping[str, Any], where: str, device: str) -> Any:
    """Build the nested parts of ``arguments``, check the rest against the signature, and call."""
    parameters = inspect.signature(factory).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in arguments:
        if name not in parameters and not open_ended:
            raise UserError(f"{where}: {factory.__name__} has no argument {name!r}; {_choices(name, parameters)}")
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and name not in arguments
        and name != "device"
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if missing:
        raise UserError(f"{where}: {factory.__name__} needs {', '.join(missing)}; give a value in the config")
    built = {
        name: _build_part(value, _ROLES[name], f"{where}.{name}", device)
        if name in _ROLES and isinstance(value, Mapping)
        else value
        for name, value in arguments.items()
    }
    if "device" in parameters:
        built.setdefault("device", device)
    return factory(**built)


def _build_part(config: Mapping[str, Any], registry: Registry, where: str, device: str) -> Any:
    arguments = dict(config)
    if "type" not in arguments:
        raise UserError(f"{where}: expected a type; {_choices('', _registered(registry))}")
    kind = arguments.pop("type")
    return _call(_class_of(kind, registry, where), arguments, where, device)


def _class_of(kind: Any, registry: Registry, where: str) -> Callable[..., Any]:
    if not isinstance(kind, str):
        return kind  # type: ignore[no-any-return]
    if "." not in kind:
        found = registry.get(kind)
        if found is None:
            raise UserError(
                f"{where}: there is no {registry.name} {kind!r}; {_choices(kind, _registered(registry))}, "
                "or the dotted path of a class of your own"
            )
        return found  # type: ignore[no-any-return]
    module, _, name = kind.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise UserError(f"{where}: {kind!r} cannot be imported: {error}; is its folder on PYTHONPATH?") from error
    except AttributeError as error:
        raise UserError(f"{where}: {kind!r} cannot be imported: {error}") from error
    return found  # type: ignore[no-any-return]


def _registered(registry: Registry) -> list[str]:
    registry.import_from_location()
    return sorted(registry.module_dict)


def _choices(name: str, options: Iterable[str]) -> str:
    options = list(options)
    close = difflib.get_close_matches(name, options, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}there is: {', '.join(options) or 'nothing'}"
