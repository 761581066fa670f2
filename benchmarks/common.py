"""What every benchmark shares: honest repeats, and the JSON it leaves."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bmp.console import complain
from bmp.errors import UserError
from bmp.evaluation.timing import Stopwatch
from bmp.models.lite import landmarks


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


def repeat(
    functions: Mapping[str, Callable[[Stopwatch], object]],
    warmup: int,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, Timing]]:
    """Call each function in turn, ``repeats`` times; timings by function and name, ``total`` among the names.

    In turn, forwards and backwards, so that whatever else the machine does meets all of them alike; landmarks that the
    lite networks remember are forgotten before each call.
    """
    for _ in range(warmup):
        for function in functions.values():
            _forget()
            function(Stopwatch())
    runs: dict[str, list[dict[str, float]]] = {key: [] for key in functions}
    for number in range(repeats):
        for key in list(functions)[:: -1 if number % 2 else 1]:
            function = functions[key]
            stopwatch, whole = Stopwatch(clock), Stopwatch(clock)
            _forget()
            with whole.time("total"):
                function(stopwatch)
            runs[key].append({**stopwatch.seconds, **whole.seconds})
    names = {key: dict.fromkeys(name for run in rows for name in run) for key, rows in runs.items()}
    return {
        key: {name: Timing.of([run.get(name, 0.0) for run in rows]) for name in names[key]}
        for key, rows in runs.items()
    }


def as_command(work: Callable[[], object]) -> int:
    """Run a whole benchmark; return 0, or 2 and 130 with one line for what its caller can mend and for Ctrl-C."""
    name = Path(sys.argv[0]).name
    try:
        work()
    except UserError as error:
        complain(name, str(error))
        return 2
    except KeyboardInterrupt:
        complain(name, "interrupted")
        return 130
    return 0


def begun(path: Path, settings: Mapping[str, object]) -> dict[str, Any]:
    """Return the results of arms in a file, with none where there is no file yet.

    Raises:
        UserError: for results of other settings, which would stand beside the new ones as if they were alike.
    """
    if not path.exists():
        return {"arms": {}, "settings": dict(settings)}
    results: dict[str, Any] = json.loads(path.read_text())
    if results["settings"] != settings:
        raise UserError(
            f"{path}: has results of {results['settings']}, not of {dict(settings)}; choose another --output"
        )
    return results


def mean_and_ends(values: Sequence[float]) -> str:
    """Return the mean, and of several values the lowest and the highest."""
    ends = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{ends}"


def train(config: str, weights: Path, settings: Mapping[str, object]) -> float:
    """Train by a config of configs/train into the file ``weights``, or go on with that; return the seconds it took.

    The log, the checkpoints and a record of ``settings`` lie beside the weights, under their name. 0 seconds if there
    are weights already.

    Raises:
        UserError: where the training ends in another way, and for one that was begun or done with other settings.
    """
    record = weights.with_suffix(".json")
    asked = json.loads(json.dumps({"config": config, **settings}))
    if weights.exists() or record.exists():
        done = json.loads(record.read_text()) if record.exists() else "settings that nobody wrote down"
        if done != asked:
            raise UserError(f"{weights}: is from {done}, not from {asked}; choose another folder")
    if weights.exists():
        return 0.0
    write(record, asked, say=False)
    folder = weights.with_suffix("")
    words = [f"--set={key}={value}" for key, value in settings.items()]
    start = time.perf_counter()
    run_training([config, "--resume", "--work-dir", str(folder), "--export", str(weights), *words], weights)
    return time.perf_counter() - start


def run_training(arguments: Sequence[str], weights: Path, log: Path | None = None) -> None:
    """Run ``python -m bmp.training`` until it has written ``weights``; the log lies beside them unless named.

    Raises:
        UserError: where it ends in another way.
    """
    log = log or weights.with_suffix(".log")
    for path in (log, weights):
        path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bmp.training", *arguments]
    with log.open("a", encoding="utf-8") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code or not weights.is_file():
        raise UserError(f"the training of {weights} ended with exit code {code}; see {log}")


def warn_of_load() -> float:
    """Return how much work there is for each core, a mean over a minute, and say so where that matters."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load > 0.3:
        print(
            f"warning: this machine has other work ({load:.0%} of its cores over the last minute): ratios within this "
            "run count, seconds do not",
            file=sys.stderr,
        )
    return load


def _forget() -> None:
    for model in landmarks.loaded():
        model.forget()


def write(path: Path, results: dict[str, Any], say: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, default=_plain) + "\n")
    if say:
        print(f"written to {path}")


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, Timing) else str(value)
