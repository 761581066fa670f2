"""Times the stages of a loop, and says what machine it was; knows the names of the stages, not what they are."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bmp.loop import Loop

STAGES = {
    "detector": {"detect": "detector"},
    "redetector": {"detect": "detector"},
    "pose": {"estimate": "pose"},
    "segmenter": {"open": "segmenter: encode", "segment": "segmenter: decode"},
    "suppressor": {"keep": "suppressor"},
}
"""For each part of a loop its methods that are timed, and the names of their times."""

_PACKAGES = (
    "bmp-pose", "torch", "torchvision", "numpy", "pycocotools", "ai-edge-litert", "mmcv-lite", "mmdet", "mmpose",
    "sam2",
)  # fmt: skip


class Stopwatch:
    """Adds up the time spent in named pieces; waits for the GPU wherever a piece begins or ends.

    seconds: by name; may be cleared at any time.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add what happens inside to ``name``."""
        _synchronize()
        started = time.perf_counter()
        yield
        _synchronize()
        self.seconds[name] += time.perf_counter() - started


class TimedStage:
    """Stands before a stage and times the calls of the given methods; everything else passes through."""

    def __init__(self, stage: Any, stopwatch: Stopwatch, names: dict[str, str]) -> None:
        self._stage, self._stopwatch, self._names = stage, stopwatch, names

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._stage, attribute)
        if attribute not in self._names:
            return value
        return self._timed(value, self._names[attribute])

    def _timed(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            with self._stopwatch.time(name):
                return method(*arguments)

        return timed


def timed(model: Loop, stopwatch: Stopwatch) -> Loop:
    """Return a loop of the same stages whose time the stopwatch adds up under the names in ``STAGES``."""
    parts: dict[str, Any] = {
        name: TimedStage(getattr(model, name), stopwatch, methods) for name, methods in STAGES.items()
    }
    return Loop(**parts, rounds=model.rounds, repose=model.repose, device=model.device)


def versions() -> dict[str, str]:
    """Return the version of each installed package that results depend on."""
    return {name: version for name in _PACKAGES if (version := _version(name))}


def machine(device: str) -> dict[str, Any]:
    """Say what ran this: processor, cores and threads in use, memory, GPU, versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions(),
    }


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
