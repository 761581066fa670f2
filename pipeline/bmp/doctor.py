"""Examines this machine: versions, device, presets with their weights, and remedies for what is missing.

Loads no network and downloads nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from bmp import __version__
from bmp.build import weights_of
from bmp.checkpoints.sources import cache_folder, can_be_had, is_present
from bmp.config import ConfigSection, load_config, presets
from bmp.errors import UserError, how_to_install

DEFAULT = "lite.py"
_EXTRAS = {"lite": ("ai_edge_litert",), "modern": ("transformers",), "openmmlab": ("mmdet", "mmpose", "sam2")}
_LIBRARIES: dict[str, str | None] = {"TorchvisionDetector": None, "TorchvisionPose": None}
_LIBRARIES |= {"LiteDetector": "lite", "LitePoseEstimator": "lite", "LiteSegmenter": "lite"}
_LIBRARIES |= {f"Transformers{role}": "modern" for role in ("Detector", "Pose", "Segmenter")}
_PACKAGES = (
    "torch",
    "torchvision",
    "mmengine",
    "ai-edge-litert",
    "mmcv-lite",
    "mmdet",
    "mmpose",
    "sam2",
    "transformers",
    "onnxruntime",
    "openvino",
)
_ROOMY = 1 << 30
"""Bytes that should be free where weights are kept."""


@dataclass(frozen=True)
class Preset:
    """A config that comes with the package.

    name: for --config and ``bmp.load``. purpose: its use, in a sentence. missing_weights: names of weights that are not
    on this machine; they are downloaded on first use where they can be. missing_extra: the extra to install before it
    runs, None if none is needed. broken: why a package that is installed cannot be loaded, None where all can.
    untrained: files that a training makes and that are not there.
    """

    name: str
    purpose: str
    missing_weights: list[str] = field(default_factory=list)
    missing_extra: str | None = None
    broken: str | None = None
    untrained: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """In words, whether it can run now."""
        if self.missing_extra is not None:
            return f"needs the extra {self.missing_extra}"
        if self.broken is not None:
            return f"cannot be loaded: {self.broken}"
        if self.untrained:
            return f"needs a training first, which makes {', '.join(self.untrained)}"
        if self.missing_weights:
            return f"weights to be downloaded: {', '.join(self.missing_weights)}"
        return "ready"


def examine_presets() -> list[Preset]:
    """Return the configs that come with the package, by name, with the parts that each lacks on this machine."""
    return [_preset(name, purpose) for name, purpose in presets().items()]


def examine(device: str) -> tuple[list[str], list[str]]:
    """Return findings, and remedies for what is missing, a line each.

    Args:
        device: the one that "auto" means.
    """
    cache = cache_folder()
    versions = [f"{name} {version}" for name in _PACKAGES if (version := installed_version(name))]
    free = _free(cache)
    lines = [
        f"bmp {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ", ".join(versions),
        f"device: {device}, {os.cpu_count()} CPU cores",
        f"weights are kept in {cache}" + ("" if free is None else f", {free / 2**30:.1f} GB free"),
    ]
    found = examine_presets()
    width = max((len(preset.name) for preset in found), default=0)
    lines += [f"{preset.name:{width}}  {preset.state}" for preset in found]
    advice = [
        f"for {', '.join(preset.name for preset in found if preset.missing_extra == extra)}: {how_to_install(extra)}"
        for extra in _EXTRAS
        if any(preset.missing_extra == extra for preset in found)
    ]
    for reason in dict.fromkeys(preset.broken for preset in found if preset.broken):
        names = ", ".join(preset.name for preset in found if preset.broken == reason)
        advice.append(
            f"for {names}: a package does not fit the others ({reason}); install torch and torchvision anew, both from "
            "one index"
        )
    if untrained := [preset.name for preset in found if preset.untrained]:
        advice.append(
            f"for {', '.join(untrained)}: no weights are published; docs/samp.md and docs/parts.md say how to make them"
        )
    if has_two_opencvs():
        advice.append(
            "opencv-python and opencv-python-headless are both installed, and each overwrites the other's cv2: the "
            "first, which mmengine asks for, needs libGL and brings windows nothing here opens. To keep the other: "
            "pip uninstall -y opencv-python opencv-python-headless, then pip install opencv-python-headless, and in a "
            "checkout pip install ./third_party/opencv-python, which stands in for the first"
        )
    weights = dict.fromkeys(name for preset in found for name in preset.missing_weights)
    if weights:
        advice.append(
            f"weights are downloaded when they are first used; without a network, put them below {cache}: "
            f"{', '.join(weights)}"
        )
    if not _can_be_written(cache):
        advice.append(f"{cache} cannot be written: name another folder in the environment variable BMP_CACHE")
    if free is not None and free < _ROOMY:
        advice.append(f"{cache} has less than 1 GB free: make room, or name another folder in BMP_CACHE")
    return lines, advice


def can_run(name: str = DEFAULT) -> bool:
    """Tell whether a preset can run: all is installed, and its weights are here or can be put where they belong."""
    preset = _preset(name)
    return (
        preset.missing_extra is None
        and preset.broken is None
        and not preset.untrained
        and (not preset.missing_weights or _can_be_written(cache_folder()))
    )


def _preset(name: str, purpose: str = "") -> Preset:
    pipeline = load_config(name).get("pipeline") or {}
    parts = list(_parts(pipeline))
    extras = [extra for part in parts if (extra := _extra(part))]
    missing = next((e for e in extras if not all(find_spec(library) for library in _EXTRAS[e])), None)
    try:
        weights = dict.fromkeys(weights_of(pipeline))
    except UserError:
        raise
    except Exception as error:  # compiled parts of another build than torch's show in many ways
        return Preset(name, purpose, [], missing, " ".join(str(error).split()) or type(error).__name__)
    absent = [weight for weight in weights if not is_present(weight)]
    untrained = [weight for weight in absent if not can_be_had(weight)]
    return Preset(name, purpose, [weight for weight in absent if weight not in untrained], missing, None, untrained)


def _parts(node: object) -> Iterator[ConfigSection]:
    if isinstance(node, Mapping):
        if "type" in node:
            yield node
        for value in node.values():
            yield from _parts(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _parts(value)


def _extra(part: ConfigSection) -> str | None:
    """Return the extra that a part needs; those of OpenMMLab and Meta are one, and have a checkpoint."""
    return _LIBRARIES.get(part["type"], "openmmlab" if "checkpoint" in part else None)


def has_two_opencvs() -> bool:
    """Tell whether two packages with files of their own share the folder cv2."""
    owners = 0
    for name in ("opencv-python", "opencv-python-headless"):
        try:
            files = metadata.files(name) or ()
        except metadata.PackageNotFoundError:
            continue
        owners += any(file.parts[0] == "cv2" for file in files)
    return owners > 1


@cache
def installed_version(package: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _existing(folder: Path) -> Path:
    """Return the deepest folder on the way to ``folder`` that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(_existing(folder)).free
    except OSError:
        return None


def _can_be_written(folder: Path) -> bool:
    return os.access(_existing(folder), os.W_OK)
