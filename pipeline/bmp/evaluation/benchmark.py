"""The benchmark run, from a config to tables and files: puts the other modules of this package together."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bmp.build import build, build_dataset, resolve_device
from bmp.datasets.people import PeopleDataset
from bmp.distributed import Processes
from bmp.errors import UserError, choices
from bmp.evaluation import report
from bmp.evaluation.metrics.coco import SEGM_SCORES
from bmp.evaluation.published import published
from bmp.evaluation.rounds import compare_rounds
from bmp.evaluation.run import Journals, Progress, Task, prepare_folder, run
from bmp.evaluation.timing import machine, versions
from bmp.io.atomic import replacing, writing

_DEFAULTS = {"segm_score": "detection_times_iou"}


@dataclass(frozen=True)
class Outcome:
    """What an evaluation has to say to the terminal: tables, sentences under them, a line for each failed image."""

    tables: list[report.TextTable]
    sentences: list[str]
    failed: list[str]


def evaluate(
    config: Mapping[str, Any],
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
) -> Outcome | None:
    """Run the loop of a config over its data set, measure the people found after each round, and write it all down.

    What is written into ``folder`` is described in docs/evaluation.md: journals as the run goes, at the end
    results.json, metrics.json, report.md and contact_sheet.jpg. All of it is the same whether the run was interrupted
    and resumed or not, and whatever the number of processes, but for what metrics.json has under "run" and the
    report's seconds.

    Args:
        config: a loaded config with ``pipeline`` and ``dataset``; ``evaluation.segm_score`` chooses the score of masks.
        folder: for everything written.
        processes: those who share the work; they must all call this.
        progress: shows how far the run is.
        device: where the networks run, as for ``bmp.load``; "auto" gives each process a GPU of its own.
        batch_size: images that go through the networks together.
        limit: evaluate only the first so many images.
        resume: go on with what is in ``folder``.
        overwrite: start anew where ``folder`` has an evaluation.
        debug: let unexpected errors through instead of noting the image as failed.

    Returns the outcome in the first process, None in the others.

    Raises:
        UserError: for any mistake in the config, missing data, a folder that cannot be used, or a process that is gone.
    """
    started = time.monotonic()
    settings = processes.together(lambda: _evaluation_settings(config))
    device = processes.together(lambda: resolve_device(processes.device(device)))
    task = processes.together(lambda: _task(config, batch_size, limit))
    processes.first(lambda: prepare_folder(folder, resume=resume, overwrite=overwrite))
    model = processes.together(lambda: build(config, device))
    processes.together(lambda: run(model, task, folder, processes, progress, debug))
    outcomes: list[Outcome] = []
    times = {"seconds": 0.0, "processes": processes.count}

    def conclude() -> None:
        times["seconds"] = round(time.monotonic() - started, 3)
        outcomes.append(_conclude(task, folder, model.rounds, settings, {**times, "machine": machine(device)}))

    processes.first(conclude)
    return outcomes[0] if outcomes else None


def _evaluation_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    given = config.get("evaluation") or {}
    for name in given:
        if name not in _DEFAULTS:
            raise UserError(f"evaluation: there is no setting {name!r}; {choices(name, _DEFAULTS)}")
    settings = {**_DEFAULTS, **given}
    if settings["segm_score"] not in SEGM_SCORES:
        name = str(settings["segm_score"])
        raise UserError(f"evaluation.segm_score: there is no {name!r}; {choices(name, SEGM_SCORES)}")
    return settings


def _task(config: Mapping[str, Any], batch_size: int, limit: int | None) -> Task:
    dataset = build_dataset(config)
    task = Task(dataset, json.loads(json.dumps(config.get("pipeline"), default=str)), batch_size, limit)
    if not len(task):
        raise UserError(f"{dataset.name}: there are no images to evaluate; check the annotations")
    return task


def _conclude(task: Task, folder: Path, rounds: int, settings: dict[str, Any], times: dict[str, Any]) -> Outcome:
    """Merge the journals, measure, and write everything."""
    ground_truth = task.ground_truth
    with Journals(folder, task.settings()) as found, writing(folder):
        comparison = compare_rounds(
            ground_truth, lambda number: list(found.rows(ground_truth, number)), rounds, **settings
        )
        report.write_results(folder / "results.json", found.rows(ground_truth, rounds), settings["segm_score"])
        qualities = report.image_qualities(ground_truth, comparison.rounds[-1].matches)
        qualities = {image_id: value for image_id, value in qualities.items() if found.done(image_id)}
        sheet = report.contact_sheet(task.dataset, found.rows(ground_truth, rounds), qualities)
        if sheet is not None:
            sheet.save(folder / "contact_sheet.jpg", quality=90)
        names = {image["id"]: image["file_name"] for image in ground_truth["images"]}
        failed = {
            names[image["id"]]: found.failed[image["id"]]
            for image in ground_truth["images"]
            if image["id"] in found.failed
        }
        metrics = {
            **task.settings(),
            "limit": task.limit,
            "people": sum(not row.get("iscrowd") for row in ground_truth["annotations"]),
            "evaluation": settings,
            **report.numbers(comparison),
            "failed": [{"file_name": name, "reason": reason} for name, reason in failed.items()],
            "versions": versions(),
            "run": {
                **times,
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "seconds_by_stage": {name: round(value, 3) for name, value in found.seconds.items()},
            },
        }
        with replacing(folder / "metrics.json") as file:
            file.write(json.dumps(metrics, indent=2) + "\n")
        tables = [report.precision_table(comparison), report.people_table(comparison)]
        seconds = report.seconds_table(found.seconds, len(task) - len(failed))
        numbers = published(task.dataset.published)
        literature = [report.published_table(numbers)] if numbers else []
        sentences = [_what(task, len(failed)), _how(settings), report.equal_precision_sentence(comparison)]
        with replacing(folder / "report.md") as file:
            file.write(_markdown(task.dataset, [*tables, *literature, seconds], sentences, failed, sheet is not None))
    ours = [number for number in numbers if number.protocol == "loop"] or numbers
    shown = [*tables, *([report.published_table(ours)] if ours else [])]
    return Outcome(shown, sentences, [f"{name}: {reason}" for name, reason in failed.items()])


def _what(task: Task, failed: int) -> str:
    images = len(task)
    part = f"the first {images} of {len(task.dataset)} images" if images < len(task.dataset) else f"{images} images"
    lost = f", {failed} of which failed: nobody counts as found in them" if failed else ""
    people = sum(not row.get("iscrowd") for row in task.ground_truth["annotations"])
    return f"{task.dataset.name}: {part} with {people} labelled people{lost}."


def _how(settings: Mapping[str, Any]) -> str:
    return (
        "Average precision by pycocotools, in per cent. Scores: boxes, detection score; masks, "
        f"{report.SEGM_SCORE_WORDS[settings['segm_score']]}; poses, detection score x mean score of the keypoints "
        "above 0.2. Numbers by round are of everybody known after it, overlaps resolved."
    )


def _markdown(
    dataset: PeopleDataset, tables: list[report.TextTable], sentences: list[str], failed: Mapping[str, str], sheet: bool
) -> str:
    what, how, equal = sentences
    parts = [
        f"# BMP on {dataset.name}\n",
        f"{what}\n",
        f"{how}\n",
        *(table.markdown() for table in tables[:2]),
        f"{equal}\n",
    ]
    parts += [table.markdown() for table in tables[2:]]
    if failed:
        parts.append(
            "## Failed images\n\n" + "\n".join(f"- `{name}`: {reason}" for name, reason in failed.items()) + "\n"
        )
    if sheet:
        parts.append(
            "## Examples\n\nBest, median and worst images by the mean IoU of their labelled people with who shows "
            "them, 0 for those not found. Left the ground truth, right the results.\n\n![Examples](contact_sheet.jpg)\n"
        )
    return "\n".join(parts)
