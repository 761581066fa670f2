"""From a config to a pipeline or a data set; the only module that knows configs. It knows no stage by name.

A config is an mmengine ``Config`` file in plain Python whose ``pipeline`` is a dict of constructor arguments of
``bmp.BMP``, and whose ``dataset``, if there is one, says what to evaluate on. A dict with a ``type`` is built first:
the type is a name from the registry of the argument's role, or the full dotted path of a class anywhere.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import Registry

from bmp.api import BMP
from bmp.config import load_config
from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError, choices
from bmp.registry import (
    BOX_PROMPTS,
    DATASETS,
    DETECTORS,
    NEGATIVES,
    POINT_SAMPLERS,
    POSES,
    PROMPTERS,
    SEGMENTERS,
    SUPPRESSORS,
)

_ROLES: dict[str, Registry] = {
    "detector": DETECTORS,
    "redetector": DETECTORS,
    "pose": POSES,
    "segmenter": SEGMENTERS,
    "start": SEGMENTERS,
    "suppressor": SUPPRESSORS,
    "prompter": PROMPTERS,
    "negative": NEGATIVES,
    "box": BOX_PROMPTS,
    "dataset": DATASETS,
    "sampler": POINT_SAMPLERS,
}


def load(config: str | Path = "lite.py", *, device: str = "auto", overrides: Mapping[str, Any] | None = None) -> BMP:
    """Build the model that a config describes.

    Args:
        config: path of a config file, or the name of one that comes with the package.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:N", "N" or "mps"; stages whose config names
            a device keep theirs.
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


def build_dataset(config: Mapping[str, Any]) -> PeopleDataset:
    """Build the data set of a loaded config; ``UserError`` for any mistake in it or in the files it names."""
    if not isinstance(config.get("dataset"), Mapping):
        raise UserError("this config has no dataset = dict(type=...); take one that has, such as ochuman.py")
    return build_part(config["dataset"], "dataset")  # type: ignore[no-any-return]


def resolve_device(name: str) -> str:
    """Turn "auto" into the best device there is and check any other name against this machine; "0" means "cuda:0"."""
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if name.isdecimal():
        name = f"cuda:{name}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N, N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; try --device auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps': this machine has none; try --device auto")
    return name


def _call(factory: Callable[..., Any], arguments: Mapping[str, Any], where: str, device: str) -> Any:
    """Build the nested parts of ``arguments``, check the rest against the signature, and call."""
    parameters = inspect.signature(factory).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in arguments:
        if name not in parameters and not open_ended:
            raise UserError(f"{where}: {factory.__name__} has no argument {name!r}; {choices(name, parameters)}")
    for name in (name for name in arguments if name in _ROLES):
        if isinstance(arguments[name], str):
            raise UserError(
                f"{where}.{name}: expected a dict with a type, got {arguments[name]!r}; with --set, write it as "
                f"\"{{'type': 'NAME'}}\""
            )
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
        name: build_part(value, name, device, f"{where}.{name}")
        if name in _ROLES and isinstance(value, Mapping)
        else value
        for name, value in arguments.items()
    }
    if "device" in parameters:
        built.setdefault("device", device)
    return factory(**built)


def build_part(config: Mapping[str, Any], role: str, device: str = "cpu", where: str = "") -> Any:
    """Build one stage or policy from its dict; ``role`` is the argument it is for ("detector", "prompter", ...)."""
    where, registry, arguments = where or role, _ROLES[role], dict(config)
    if "type" not in arguments:
        raise UserError(f"{where}: expected a type; {choices('', _registered(registry))}")
    kind = arguments.pop("type")
    return _call(_class_of(kind, registry, where), arguments, where, device)


def _class_of(kind: Any, registry: Registry, where: str) -> Callable[..., Any]:
    if not isinstance(kind, str):
        return kind  # type: ignore[no-any-return]
    if "." not in kind:
        found = registry.get(kind)
        if found is None:
            raise UserError(
                f"{where}: there is no {registry.name} {kind!r}; {choices(kind, _registered(registry))}, "
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
