"""The benchmark run, from a config to tables and files: puts the other modules of this package together."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from bmp.build import build, build_dataset, resolve_device
from bmp.config import ConfigSection
from bmp.distributed import Processes
from bmp.errors import UserError, choices
from bmp.evaluation.metrics.coco import SEGM_SCORES
from bmp.evaluation.metrics.poses import PoseSets
from bmp.evaluation.parsing import compare_parts
from bmp.evaluation.report import Evaluation, Outcome, write_report
from bmp.evaluation.rounds import ComparisonSettings, compare_rounds
from bmp.evaluation.run import Journals, Progress, Task, prepare_folder, run
from bmp.evaluation.timing import machine
from bmp.io.atomic import writing

_LOGGER = logging.getLogger("bmp")


def evaluate(
    config: ConfigSection,
    folder: Path,
    processes: Processes,
    progress: Progress,
    *,
    device: str = "auto",
    batch_size: int = 4,
    limit: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    debug: bool = False,
    claim: Callable[[], object] = lambda: None,
) -> Outcome | None:
    """Run the loop of a config over its data set, measure the people found after each round, and write it all down.

    The files in ``folder`` are described in docs/evaluation.md: journals during the run, at the end
    results.json, metrics.json, report.md and contact_sheet.jpg. All of it is the same whether the run was interrupted
    and resumed or not, and whatever the number of processes, but for what metrics.json has under "run" and the
    report's seconds.

    Args:
        config: a loaded config with ``pipeline`` and ``dataset``; ``evaluation`` may have fields of
            ``bmp.evaluation.rounds.ComparisonSettings``.
        folder: for everything written.
        processes: those who share the work; they must all call this.
        progress: shows how far the run is.
        device: where the networks run, as for ``bmp.load``; "auto" gives each process a GPU of its own.
        batch_size: images that go through the networks together.
        limit: evaluate only the first so many images.
        resume: go on with the run in ``folder``.
        overwrite: start anew where ``folder`` has an evaluation.
        debug: let unexpected errors through instead of noting the image as failed.
        claim: is called when the folder exists and before anything in it is touched; it may refuse.

    Returns the outcome in the first process, None in the others.

    Raises:
        UserError: for any mistake in the config, missing data, a folder that cannot be used, or a process that is gone.
    """
    started = time.monotonic()
    settings = processes.together(lambda: _settings(config))
    device = processes.together(lambda: resolve_device(processes.device(device)))
    task = processes.together(lambda: _task(config, batch_size, limit))
    processes.first(lambda: _say(task.dataset.notices))
    processes.first(lambda: prepare_folder(folder, resume=resume, overwrite=overwrite, claim=claim))
    model = processes.together(lambda: build(config, device))
    processes.together(lambda: run(model, task, folder, processes, progress, debug))

    def conclude() -> Outcome:
        with Journals(folder, task.settings()) as journals, writing(folder):
            comparison = compare_rounds(
                task.ground_truth,
                lambda number: list(journals.rows(task.ground_truth, number)),
                model.rounds,
                settings,
                PoseSets(task.dataset.keypoints, model.pose.keypoints, task.dataset.unknown_keypoints),
            )
            parsing, parser = None, model.parts
            if parser is not None and task.dataset.part_set is not None:
                rows = journals.rows(task.ground_truth, model.rounds)
                parsing = compare_parts(task.dataset, len(task), rows, parser.label_set)
            evaluation = Evaluation(
                task,
                journals,
                comparison,
                parsing=parsing,
                seconds=round(time.monotonic() - started, 3),
                processes=processes.count,
                machine=machine(device),
            )
            return write_report(folder, evaluation)

    return processes.first(conclude)


def _say(notices: Sequence[str]) -> None:
    for line in notices:
        _LOGGER.warning(line)


def _settings(config: ConfigSection) -> ComparisonSettings:
    given = config.get("evaluation") or {}
    if not isinstance(given, Mapping):
        raise UserError(f"evaluation: expected settings such as dict(max_poses=100), got {given!r}")
    names = [field.name for field in fields(ComparisonSettings)]
    for name in given:
        if name not in names:
            raise UserError(f"evaluation: there is no setting {name!r}; {choices(name, names)}")
    settings = ComparisonSettings(**given)
    if (name := str(settings.segm_score)) not in SEGM_SCORES:
        raise UserError(f"evaluation.segm_score: there is no {name!r}; {choices(name, SEGM_SCORES)}")
    for name in ("max_detections", "max_poses"):
        value = getattr(settings, name)
        if type(value) is not int or value < 1:
            raise UserError(f"evaluation.{name}: expected a whole number of results from 1, got {value!r}")
    if (nms := given.get("pose_nms")) is not None and (type(nms) not in (int, float) or not 0 <= nms <= 1):
        raise UserError(f"evaluation.pose_nms: expected an OKS in [0, 1] or None, got {nms!r}")
    if type(value := given.get("approximate_keypoints", False)) is not bool:
        raise UserError(f"evaluation.approximate_keypoints: expected True or False, got {value!r}")
    return settings


def _task(config: ConfigSection, batch_size: int, limit: int | None) -> Task:
    dataset = build_dataset(config)
    task = Task(dataset, json.loads(json.dumps(config.get("pipeline"), default=str)), batch_size, limit)
    if not len(task):
        raise UserError(f"{dataset.name}: there are no images to evaluate; check the annotations")
    return task
