"""What every benchmark shares: honest timing, the machine it ran on, and the JSON it leaves."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("bmp-pose", "torch", "torchvision", "numpy", "ai-edge-litert", "mmcv-lite", "mmdet", "mmpose", "sam2")


@dataclass(frozen=True)
class Timing:
    """Seconds: the median of the repeats and their spread (half the distance between the quartiles)."""

    median: float
    spread: float

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        if len(seconds) < 2:
            return cls(seconds[0], 0.0)
        low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(statistics.median(seconds), (high - low) / 2)

    def __str__(self) -> str:
        return f"{self.median:8.3f} s ± {self.spread:.3f}"


class Stopwatch:
    """Adds up the time spent in named pieces; waits for the GPU wherever a piece begins or ends."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
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

        def timed(*arguments: Any) -> Any:
            with self._stopwatch.time(self._names[attribute]):
                return value(*arguments)

        return timed


def repeat(
    functions: Mapping[str, Callable[[Stopwatch], object]], warmup: int, repeats: int
) -> dict[str, dict[str, Timing]]:
    """Call each function in turn, ``repeats`` times; timings by function and name, ``total`` among the names.

    In turn, so that whatever else the machine does meets all of them alike.
    """
    for _ in range(warmup):
        for function in functions.values():
            function(Stopwatch())
    runs: dict[str, list[dict[str, float]]] = {key: [] for key in functions}
    for _ in range(repeats):
        for key, function in functions.items():
            stopwatch, whole = Stopwatch(), Stopwatch()
            with whole.time("total"):
                function(stopwatch)
            runs[key].append({**stopwatch.seconds, **whole.seconds})
    names = {key: dict.fromkeys(name for run in rows for name in run) for key, rows in runs.items()}
    return {
        key: {name: Timing.of([run.get(name, 0.0) for run in rows]) for name in names[key]}
        for key, rows in runs.items()
    }


def machine(device: str) -> dict[str, Any]:
    """Say what ran this: processor, cores and threads in use, memory, GPU, versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, default=_plain) + "\n")
    print(f"written to {path}")


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Timing) else str(value)


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
