"""Adds up the time that the stages of a loop take; tells the peak of memory, and the machine. Knows no stage."""

from __future__ import annotations

import copy
import os
import platform
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bmp.doctor import installed_version
from bmp.io.json_fields import JsonObject
from bmp.loop import Loop

_PACKAGES = (
    "bmp-pose", "torch", "torchvision", "numpy", "pycocotools", "ai-edge-litert", "mmcv-lite", "mmdet", "mmpose",
    "sam2",
)  # fmt: skip
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Stopwatch:
    """Adds up the time spent in named pieces; waits for the GPU wherever a piece begins or ends.

    seconds: by name; may be cleared at any time. clock: of time by default; ``time.process_time`` counts the seconds
    that processors worked for this process, which hardly depend on what else a machine does.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.clock = clock

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add the time of the block to ``name``."""
        _synchronize()
        started = self.clock()
        yield
        _synchronize()
        self.seconds[name] += self.clock() - started


def timed(model: Loop, stopwatch: Stopwatch) -> Loop:
    """Return a loop of the same stages whose time the stopwatch adds up, under the names in ``bmp.loop.STAGES``."""
    loop = copy.copy(model)
    loop.clock = lambda stage, images: stopwatch.time(stage)
    return loop


def versions() -> dict[str, str]:
    """Return the version of each installed package that results depend on."""
    return {name: version for name in _PACKAGES if (version := installed_version(name))}


def machine(device: str) -> JsonObject:
    """Describe the machine: processor, cores and threads in use, memory, GPU, versions."""
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


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held, since ``forget_peak`` where the system can tell."""
    if _STATUS.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", _STATUS.read_text())[1]) * 1024  # type: ignore[index]
    import resource  # which Windows lacks

    # Other systems than macOS count in kilobytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Let the peak of memory be counted anew, on Linux; elsewhere it stays that of the whole run."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
