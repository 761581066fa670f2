"""The command line: pictures in, overlays and people.json out, or a data set in and a report out.

Knows files and messages, no network and no metric.

Exit codes: 0 everything done, 1 some inputs failed (they are listed), 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bmp import __version__
from bmp.console import Parser, open_console, progress, report_failed, run_command, share, whole
from bmp.errors import UserError
from bmp.inference.files import OVERLAYS, TRACES, Job, work_through


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return run_command(_parser(), _work, arguments, interrupted="what is done is written, go on with --resume")


def _work(options: argparse.Namespace) -> int:
    # Stages of the user's own are named by dotted path and usually lie in the folder the command is run from.
    sys.path.insert(0, "")
    return _run(options) if options.input else _evaluate(options)


def _parser() -> Parser:
    parser = Parser(
        "bmp",
        description="Find every person in photos: boxes, masks and poses, also where people overlap. "
        "Without --input, measure a config on a data set: its own, or that of --dataset and --images.",
        epilog="exit codes: 0 all done, 1 some inputs failed, 2 wrong use, 130 interrupted (people.json stays valid)",
    )
    parser.add_argument("--version", action="version", version=f"bmp {__version__}")
    parser.add_argument("--config", default="lite.py", help="path or name of a config (default: %(default)s)")
    parser.add_argument("--input", nargs="+", metavar="PATH", help="photos, folders or globs")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for everything written (default without --input: output/CONFIG)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    photos = parser.add_argument_group("with --input")
    photos.add_argument("--boxes", type=Path, metavar="FILE", help="COCO JSON or results that give round 1's boxes")
    photos.add_argument("--trace", action="store_true", help="draw what happened, round by round, for each image")
    photos.add_argument("--min-score", type=share, metavar="S", help="leave out people that score below S, from 0 to 1")
    measured = parser.add_argument_group("without --input")
    measured.add_argument("--dataset", type=Path, metavar="FILE", help="COCO JSON of people to measure the config on")
    measured.add_argument("--images", type=Path, metavar="DIR", help="folder that the file names in it start from")
    measured.add_argument("--limit", type=whole(1), metavar="N", help="take only the first N images of the data set")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--batch-size", type=whole(1), default=4, help="images at a time (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with an output folder, skipping what is done")
    parser.add_argument("--overwrite", action="store_true", help="start anew in an output folder that has results")
    parser.add_argument("--debug", action="store_true", help="stop at the first unexpected error, with its traceback")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Complain about options that would have no effect."""
    for name in names:
        if getattr(options, name.replace("-", "_")) not in (None, False):
            raise UserError(f"--{name} {reason}")


def _evaluate(options: argparse.Namespace) -> int:
    """Measure a config on a data set; of several processes only the first one speaks."""
    from bmp.config import load_config, parse_overrides
    from bmp.distributed import Processes
    from bmp.evaluation.benchmark import evaluate

    _refuse(options, ("boxes", "trace", "min-score"), "goes with --input; name photos, or leave it out to evaluate")
    if (options.dataset is None) != (options.images is None):
        missing, given = ("--images DIR", "--dataset") if options.images is None else ("--dataset FILE", "--images")
        raise UserError(f"{given} needs {missing} beside it: annotations and the folder of their images")
    overrides = parse_overrides(options.set)
    if options.dataset and (key := next((key for key in overrides if key.split(".")[0] == "dataset"), None)):
        raise UserError(f"--set {key} has no effect beside --dataset; leave out one of them")
    config = load_config(options.config, overrides)
    if options.dataset:
        config.dataset = dict(type="PeopleDataset", annotations=str(options.dataset), images=str(options.images))
    elif not config.get("dataset"):
        raise UserError(
            f"nothing to do: name photos with --input, or give --dataset FILE --images DIR, or a config with a data "
            f"set, such as ochuman.py ({options.config} has none)"
        )
    folder = options.output or Path("output", Path(options.config).stem)
    with Processes.joined() as processes:
        outcome = evaluate(
            config,
            folder,
            processes,
            partial(progress, options.quiet or processes.rank > 0),
            device=options.device,
            batch_size=options.batch_size,
            limit=options.limit,
            resume=options.resume,
            overwrite=options.overwrite,
            debug=options.debug,
        )
    if outcome is None:
        return 0
    console = open_console(options.quiet)
    for table in outcome.tables:
        console.print(table.rich())
    for sentence in outcome.sentences:
        console.print(sentence)
    console.print(f"Report: {folder / 'report.md'}")
    return report_failed("bmp", outcome.failed)


def _run(options: argparse.Namespace) -> int:
    """Check everything that can be wrong before the networks are loaded, then work through the inputs."""
    from bmp.build import build
    from bmp.config import load_config, parse_overrides
    from bmp.io import images
    from bmp.io import people_file as export
    from bmp.io.boxes_file import load_boxes

    _refuse(options, ("dataset", "images", "limit"), "is for an evaluation; leave it out, or leave out --input")
    if options.output is None:
        raise UserError("--input needs --output DIR, the folder for everything written")
    # Not resolve(), which raises for links to themselves.
    drawn = [Path(os.path.realpath(options.output / folder)) for folder in (OVERLAYS, TRACES)]
    found = images.find(options.input)
    sources = [
        source
        for source in found.sources
        if not any(Path(os.path.realpath(source)).is_relative_to(folder) for folder in drawn)
    ]
    if not sources:
        raise UserError(f"the only pictures found are this program's own, in {options.output}; name other inputs")
    names = images.output_names(sources)
    config = load_config(options.config, parse_overrides(options.set))
    given = load_boxes(options.boxes, names, sources) if options.boxes else None
    results = options.output / "people.json"
    if results.exists() and not (options.resume or options.overwrite):
        raise UserError(
            f"{results} exists; go on with --resume, start anew with --overwrite, or choose another --output"
        )
    _make_writable(options.output)
    for line in [*found.summary(), *(given.notices if given else ())]:
        logging.getLogger("bmp").warning(line)
    model = build(config, options.device)

    boxes, failures = (given.boxes, given.failures()) if given else ({}, {})
    jobs = [Job(source, name, boxes.get(name), failures.get(name)) for source, name in zip(sources, names, strict=True)]
    settings = {"description": "people found by BMP", "version": __version__, "pipeline": config.pipeline.to_dict()}
    if options.min_score is not None:
        settings["min_score"] = options.min_score
    with export.PeopleFile(results, model.pose.keypoints, names, resume=options.resume, info=settings) as people_file:
        return work_through(model, jobs, people_file, options)


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written, {error.strerror}; choose another --output") from None


if __name__ == "__main__":
    sys.exit(main())
