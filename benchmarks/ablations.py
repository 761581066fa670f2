"""Makes the paper's tables and figures for a family of models: terminal, Markdown and JSON, curves as pictures too.

    python benchmarks/ablations.py --table 1 3 5 --figure 3
    python benchmarks/ablations.py --config ablations/full.py --set datasets.ochuman_test.root=DIR --table 2

All tables and figures of one run share poses and measurements. Exit codes: 0 done, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablation_report import Findings, import_matplotlib, remarks, shown, write
from rich.console import Console
from rich.progress import Progress

from bmp.build import build_part, resolve_device
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.config import load_config, parse_overrides
from bmp.errors import UserError
from bmp.evaluation.ablations.tables import FIGURES, TABLES, Exhibit, Family, paper_figure, paper_table
from bmp.evaluation.ablations.trials import EstimatedPoses, Step, Track, measure
from bmp.evaluation.rounds import labelled_kinds
from bmp.evaluation.run import Task
from bmp.evaluation.timing import machine
from bmp.registry import DATASETS, DETECTORS, POSES, SEGMENTERS


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    try:
        run(options)
    except UserError as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablations: interrupted; data sets that were done are written", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace) -> None:
    family = Family.of(load_config(options.config, parse_overrides(options.set)).to_dict())
    exhibits: list[Exhibit] = [paper_table(family, number) for number in options.table]
    exhibits += [paper_figure(family, number) for number in options.figure]
    if options.figure:
        import_matplotlib()
    device = resolve_device(options.device)
    findings = Findings(family)
    _find_weights(findings, exhibits)
    _find_datasets(findings, exhibits, options.limit)
    folder = options.output or Path("output/ablations", Path(options.config).stem)
    settings = {"config": options.config, "set": options.set, "limit": options.limit, "machine": machine(device)}
    with _progress() as track:
        for name in findings.datasets:
            _measure(findings, name, exhibits, device, track)
            for exhibit in exhibits:
                write(findings, exhibit, folder, settings)
    console = Console(width=200, highlight=False, markup=False, emoji=False)
    for exhibit in exhibits:
        for printed in shown(findings, exhibit):
            console.print(printed.rich())
        for line in remarks(findings, exhibit, options.limit):
            console.print(line, soft_wrap=True)
        console.print(f"Written to {folder / exhibit.name}.md\n", soft_wrap=True)


def _find_weights(findings: Findings, exhibits: Sequence[Exhibit]) -> None:
    names = dict.fromkeys(trial.segmenter for exhibit in exhibits for trial in exhibit.trials)
    for name in names:
        reasons = {file: _lacking(file, command) for file, command in findings.family.segmenters[name].weights.items()}
        findings.weights[name] = [file for file, reason in reasons.items() if reason is None]
        findings.missing[name] = [reason for reason in reasons.values() if reason is not None]
    if not any(findings.weights.values()):
        lines = [line for name in names for line in findings.missing[name]]
        raise UserError(f"none of the {len(lines)} files of weights is here: {lines[0] if lines else 'none is named'}")


def _lacking(file: str, command: str | None) -> str | None:
    """Say why a file of weights is not here and what to do, None if it is."""
    try:
        if file != RANDOM:
            resolve(file)
    except UserError as error:
        return str(error) if command is None else f"{file} is missing; this makes it: {command}"
    return None


def _find_datasets(findings: Findings, exhibits: Sequence[Exhibit], limit: int | None) -> None:
    names = dict.fromkeys(name for exhibit in exhibits for name in findings.members(exhibit))
    for name in names:
        config = {key: value for key, value in findings.family.datasets[name].items() if key != "published"}
        try:
            dataset = build_part(config, DATASETS, where=f"datasets.{name}")
        except UserError as error:
            reason = str(error).replace("--set dataset.", f"--set datasets.{name}.")
            findings.missing[f"datasets.{name}"] = [reason]
            continue
        dataset.ground_truth = Task(dataset, {}, limit=limit).ground_truth
        if "segm" not in labelled_kinds(dataset.ground_truth):
            raise UserError(f"{dataset.name}: expected somebody, and a mask of everybody; take another part of it")
        findings.datasets[name] = dataset
    if not findings.datasets:
        first = next((findings.missing[f"datasets.{name}"][0] for name in names), "the tables have none of them")
        raise UserError(f"none of the {len(names)} data sets is here: {first}")
    for name in names:
        # Said at once as well: with a slip in a path nobody wants to wait for the others first.
        for line in findings.missing.get(f"datasets.{name}", []):
            print(f"ablations: without {name}: {line}", file=sys.stderr)


def _measure(findings: Findings, name: str, exhibits: Sequence[Exhibit], device: str, track: Track) -> None:
    """Measurement all trials about one data set."""
    dataset = findings.datasets[name]
    wanted = [trial for exhibit in exhibits if name in findings.members(exhibit) for trial in exhibit.trials]
    if "keypoints" not in labelled_kinds(dataset.ground_truth):
        wanted = [trial for trial in wanted if trial.protocol != "ground_truth_poses"]
        findings.missing[f"keypoints.{name}"] = [f"{dataset.name}: nobody has labelled keypoints."]
    poses: Iterable[Any] = ()
    if any(trial.protocol == "detected_poses" for trial in wanted):
        family = findings.family
        masker = None if family.detector is None else build_part(family.detector, DETECTORS, device, "detector")
        poses = EstimatedPoses(dataset, build_part(family.pose, POSES, device, "pose"), track, masker)
    for segmenter, files in findings.weights.items():
        trials = [trial for trial in wanted if trial.segmenter == segmenter]
        for file in files if trials else []:
            config = {
                **findings.family.segmenters[segmenter].config,
                "checkpoint": file,
                "prompter": {"type": "MaxVisibility"},  # each trial has its own
            }
            network = build_part(config, SEGMENTERS, device, f"segmenters.{segmenter}.config")
            for trial, found in measure(dataset, poses, network, trials, track).items():
                findings.measurements.setdefault((name, trial), {})[file] = found


@contextmanager
def _progress() -> Iterator[Track]:
    """Show bars on stderr if that is a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:

        def track(steps: Iterable[Step], total: int, what: str) -> Iterable[Step]:
            return bars.track(steps, total=total, description=what)

        yield track


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", type=int, choices=TABLES, default=[], help="tables of the paper")
    parser.add_argument("--figure", nargs="+", type=int, choices=FIGURES, default=[], help="figures of the paper")
    parser.add_argument("--config", default="ablations/nano.py", help="family of models (default: %(default)s)")
    parser.add_argument("--limit", type=_positive, metavar="N", help="take only the first N images of each data set")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: output/ablations/CONFIG")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    options = parser.parse_args(arguments)
    if not options.table and not options.figure:
        parser.error("name at least one --table or --figure")
    options.table, options.figure = (list(dict.fromkeys(numbers)) for numbers in (options.table, options.figure))
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
