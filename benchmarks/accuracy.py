"""Measures a config on the splits of SynthCrowd: who is found after each round, and what the later rounds add.

    python benchmarks/accuracy.py --config nano.py

Reports go to output/accuracy/CONFIG/SPLIT; a run that was stopped goes on where it was. For other data sets there is
``run_bmp.py --config X --dataset ANNOTATIONS.json --images FOLDER``, whose tables these are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from common import write
from rich.console import Console

from bmp.config import load_config, parse_overrides
from bmp.distributed import Processes
from bmp.evaluation.benchmark import evaluate
from bmp.evaluation.report import Outcome
from bmp.synthcrowd.splits import SPLITS


def main() -> None:
    options = _options()
    console = Console(width=200, highlight=False)
    numbers = {}
    for split in options.splits:
        folder = options.folder / Path(options.config).stem / split
        outcome = measure(options, split, folder)
        for table in outcome.tables:
            console.print(table.rich())
        for sentence in outcome.sentences:
            console.print(sentence)
        numbers[split] = json.loads((folder / "metrics.json").read_text())
    if options.output:
        write(options.output, numbers)


def measure(options: argparse.Namespace, split: str, folder: Path) -> Outcome:
    """Evaluate one split; only a folder of the same settings is gone on with, any other is an error."""
    config = load_config(options.config, parse_overrides(options.set))
    config.dataset = dict(type="SynthCrowd", split=split, count=options.count)
    outcome = evaluate(
        config,
        folder,
        Processes(),
        _silent,
        device=options.device,
        batch_size=8,
        resume=not options.overwrite,
        overwrite=options.overwrite,
    )
    assert outcome is not None  # this is the first process, the only one
    return outcome


def _silent(total: int) -> AbstractContextManager[tuple[Callable[[str], None], Callable[[], None]]]:
    return nullcontext((lambda line: None, lambda: None))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano.py")
    parser.add_argument("--splits", nargs="+", default=["test", "test-hard", "test-clear"], choices=sorted(SPLITS))
    parser.add_argument("--count", type=int, metavar="N", help="only the first N scenes of each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("output/accuracy"), metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="start anew where there are results")
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
