"""What the tables and figures of ablations.py look like: for the terminal, as Markdown, JSON and pictures.

Knows measurements, not how they come about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bmp.datasets.people import PeopleDataset
from bmp.errors import MissingExtraError
from bmp.evaluation.ablations.tables import Exhibit, Family, PaperFigure, PaperRow, PaperTable, joins
from bmp.evaluation.ablations.trials import Measurement, PromptTrial, Trial
from bmp.evaluation.pose_to_mask import RANKINGS
from bmp.evaluation.published import PUBLISHED_DATASETS, EvaluationProtocol
from bmp.evaluation.report import NO_NUMBER, TextTable
from bmp.io.atomic import replacing, writing

_POSES = {"detected_poses": "poses estimated in them", "ground_truth_poses": "labelled poses"}


@dataclass
class Findings:
    """What is known so far.

    weights: of each segmenter the files that there are. datasets: those that there are, by name. measurements: by name
    of the data set and trial, of each weight file. missing: why something is not there, by name of the segmenter or
    the data set.
    """

    family: Family
    weights: dict[str, list[str]] = field(default_factory=dict)
    datasets: dict[str, PeopleDataset] = field(default_factory=dict)
    measurements: dict[tuple[str, Trial], dict[str, Measurement]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)

    def members(self, exhibit: Exhibit) -> list[str]:
        """Names of the data sets, here or missing, that are part of a table or figure."""
        return [name for name, config in self.family.datasets.items() if joins(exhibit, config.get("published"))]

    def measured(self, exhibit: Exhibit) -> list[str]:
        """Names of the data sets with numbers for a table or figure."""
        return [
            name
            for name in self.members(exhibit)
            if any((name, trial) in self.measurements for trial in exhibit.trials)
        ]


@dataclass(frozen=True)
class Spread:
    """Numbers of several seeds, in [0, 1]; half_width is half the distance between the least and the largest."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def half_width(self) -> float | None:
        return (max(self.values) - min(self.values)) / 2 if len(self.values) > 1 else None

    def __str__(self) -> str:
        if self.mean is None:
            return NO_NUMBER
        return f"{100 * self.mean:.1f}" + ("" if self.half_width is None else f" ± {100 * self.half_width:.1f}")


def _spread(findings: Findings, name: str, trial: Trial, place: int = 0, ranking: str = "iou") -> Spread:
    """The AP of a trial by a ranking of the masks, or the IoU after so many corrections, over the seeds."""
    found = findings.measurements.get((name, trial), {}).values()
    values = [one[ranking].ap if isinstance(one, dict) else one[place] for one in found]
    return Spread(tuple(value for value in values if value is not None))


def _curve(
    findings: Findings, exhibit: PaperFigure, name: str, trials: Sequence[Trial], ranking: str = "iou"
) -> list[Spread]:
    """The values of a curve on a data set, for each x."""
    if len(trials) == 1:
        return [_spread(findings, name, trials[0], place) for place in range(len(exhibit.x))]
    return [_spread(findings, name, trial, ranking=ranking) for trial in trials]


def _rankings(trials: Sequence[Trial]) -> dict[str, str]:
    """The rankings that numbers of these trials have, with words for a label; mean IoU ranks nothing."""
    if not isinstance(trials[0], PromptTrial):
        return {"iou": ""}
    return {"iou": "", "constant": f", {RANKINGS['constant']}"}


def shown(findings: Findings, exhibit: Exhibit) -> list[TextTable]:
    """What the terminal and the Markdown show: one table, or one for each data set of a figure."""
    number, ours = exhibit.number, findings.measured(exhibit)
    if isinstance(exhibit, PaperFigure):
        return [
            TextTable(
                f"Figure {number}: {exhibit.title}, {findings.datasets[name].name}",
                (f"{exhibit.y_label}; {exhibit.x_label}:", *map(str, exhibit.x), "best at"),
                tuple(
                    (f"{curve.label}{words}", *map(str, values), _best(exhibit, values))
                    for curve in exhibit.curves
                    for ranking, words in _rankings(curve.trials).items()
                    for values in [_curve(findings, exhibit, name, curve.trials, ranking)]
                ),
            )
            for name in ours
        ]
    # The literature stands beside ours on the same data set, and behind all of ours where we have no such data set.
    columns: list[_Ours | _Theirs] = []
    for name in ours:
        key = findings.family.datasets[name].get("published")
        columns += [_Ours(findings, name, ranking) for ranking in RANKINGS]
        columns += [] if key is None else [_Theirs(key, exhibit.protocol)]
    columns += [column for key in exhibit.datasets if (column := _Theirs(key, exhibit.protocol)) not in columns]
    header = [column.title for column in columns]
    rows = [(row.label, *(column.cell(row) for column in columns)) for row in exhibit.rows]
    return [TextTable(f"Table {number}: {exhibit.title}", ("AP of masks, per cent", *header), tuple(rows))]


def _best(exhibit: PaperFigure, values: Sequence[Spread]) -> str:
    known = [(spread.mean, -x) for x, spread in zip(exhibit.x, values, strict=True) if spread.mean is not None]
    return str(-max(known)[1]) if known else NO_NUMBER


@dataclass(frozen=True, eq=False)
class _Ours:
    """The column of our numbers on a data set, with one ranking of the masks."""

    findings: Findings
    name: str
    ranking: str

    @property
    def title(self) -> str:
        return f"{self.findings.datasets[self.name].name}, {RANKINGS[self.ranking]}"

    def cell(self, row: PaperRow) -> str:
        return "" if row.trial is None else str(_spread(self.findings, self.name, row.trial, ranking=self.ranking))


@dataclass(frozen=True)
class _Theirs:
    """The column of published numbers; those that are known to be of one ranking say so."""

    key: str
    protocol: EvaluationProtocol

    @property
    def title(self) -> str:
        return f"paper, {PUBLISHED_DATASETS[self.key]}"

    def cell(self, row: PaperRow) -> str:
        number = row.number(self.key, self.protocol)
        if number is None:
            return ""
        return f"{number.value:.1f}" + (f" ({RANKINGS[number.ranking]})" if number.ranking else "")


def remarks(findings: Findings, exhibit: Exhibit, limit: int | None) -> list[str]:
    """Lines under a table or figure: what the numbers are, what the paper says, and what is missing."""
    part = "" if limit is None else f" Only the first {limit} images of each data set."
    if isinstance(exhibit, PaperFigure) and not isinstance(exhibit.trials[0], PromptTrial):
        lines = [
            "Points are chosen as in training: where mask and ground truth differ, with PoseMaskRefine at an estimated "
            f"keypoint if there is one.{part}"
        ]
    else:
        lines = [
            f"People are given by their labelled boxes, {_POSES[exhibit.protocol]}. Masks are ranked by predicted IoU, "
            f'and, under "{RANKINGS["constant"]}", everybody scores 1, which is Pose2Seg\'s protocol.{part}'
        ]
    segmenters = dict.fromkeys(trial.segmenter for trial in exhibit.trials)
    if any(len(findings.weights[name]) > 1 for name in segmenters):
        lines.append("±: half the distance between the least and the largest number of several seeds.")
    lines += [exhibit.remark] if isinstance(exhibit, PaperFigure) else _literature(exhibit)
    if any(findings.family.datasets[name].get("published") is None for name in findings.measured(exhibit)):
        lines.append(
            "The paper's numbers are of large models and photos: compare their order with ours, not their size."
        )
    names = [*segmenters, *(f"datasets.{name}" for name in findings.members(exhibit))]
    if exhibit.protocol == "ground_truth_poses":
        names += [f"keypoints.{name}" for name in findings.members(exhibit)]
    return lines + [line for name in names for line in findings.missing.get(name, [])]


def _literature(exhibit: PaperTable) -> list[str]:
    """What to bear in mind of published numbers, a line for each remark."""
    methods: dict[str, list[str]] = {}
    for row in exhibit.rows:
        for key in exhibit.datasets:
            number = row.number(key, exhibit.protocol)
            if number is not None and number.note and row.label not in methods.setdefault(number.note, []):
                methods[number.note].append(row.label)
    lines = [f"Paper, {', '.join(labels)}: {note}." for note, labels in methods.items()]
    return [
        *lines,
        f'Published numbers that say "({RANKINGS["constant"]})" compare with that column; what ranked the masks of the '
        "others the paper does not say.",
    ]


def write(findings: Findings, exhibit: Exhibit, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write Markdown, JSON and, of a figure that has numbers, the picture."""
    title = f"{'Table' if isinstance(exhibit, PaperTable) else 'Figure'} {exhibit.number}"
    notes = remarks(findings, exhibit, settings["limit"])
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        parts = [printed.markdown() for printed in shown(findings, exhibit)]
        if isinstance(exhibit, PaperFigure):
            parts.insert(0, f"# {title}: {exhibit.title}\n")
            if _draw(findings, exhibit, folder / f"{exhibit.name}.png"):
                parts.append(f"![{title}]({exhibit.name}.png)\n")
        parts.append("\n".join(f"- {line}" for line in notes) + "\n")
        with replacing(folder / f"{exhibit.name}.md") as file:
            file.write("\n".join(parts))
        numbers = {"title": f"{title}: {exhibit.title}", **_numbers(findings, exhibit), "notes": notes, **settings}
        with replacing(folder / f"{exhibit.name}.json") as file:
            file.write(json.dumps(numbers, indent=2) + "\n")


def _numbers(findings: Findings, exhibit: Exhibit) -> dict[str, Any]:
    """Everything as plain values: ours in [0, 1], the literature's in per cent."""
    ours = findings.measured(exhibit)
    datasets = {
        name: {"name": dataset.name, "images": len(dataset), "people": _people(dataset)}
        for name, dataset in findings.datasets.items()
        if name in ours
    }
    if isinstance(exhibit, PaperFigure):
        curves = [
            {
                "label": curve.label,
                "segmenter": curve.trials[0].segmenter,
                "values": {
                    name: [_plain(spread) for spread in _curve(findings, exhibit, name, curve.trials)] for name in ours
                },
            }
            for curve in exhibit.curves
        ]
        return {"datasets": datasets, "x_label": exhibit.x_label, "x": list(exhibit.x), "curves": curves}
    return {
        "datasets": datasets,
        "protocol": exhibit.protocol,
        "rows": [_row(findings, exhibit, row) for row in exhibit.rows],
    }


def _row(findings: Findings, exhibit: PaperTable, row: PaperRow) -> dict[str, Any]:
    published = {key: number for key in exhibit.datasets if (number := row.number(key, exhibit.protocol))}
    plain: dict[str, Any] = {
        "label": row.label,
        "published_ap": {key: number.value for key, number in published.items()},
        "published_ranking": {key: number.ranking for key, number in published.items()},
    }
    if row.trial is None:
        return plain
    ours = {
        ranking: {name: _by_seed(findings, name, row.trial, ranking) for name in findings.measured(exhibit)}
        for ranking in RANKINGS
    }
    trial = row.trial
    prompter = json.loads(trial.prompter)
    numbers = {"ap": ours["iou"], "ap_constant": ours["constant"]}
    return {**plain, "segmenter": trial.segmenter, "prompter": prompter, "crop": trial.crop, **numbers}


def _by_seed(findings: Findings, name: str, trial: Trial, ranking: str) -> dict[str, Any]:
    found = findings.measurements.get((name, trial), {})
    seeds = {
        file: {"ap": one[ranking].ap, "ap50": one[ranking].ap50, "ap75": one[ranking].ap75}
        for file, one in found.items()
        if isinstance(one, dict)
    }
    return {**_plain(_spread(findings, name, trial, ranking=ranking)), "weights": seeds}


def _plain(spread: Spread) -> dict[str, Any]:
    return {"mean": spread.mean, "half_width": spread.half_width, "values": list(spread.values)}


def _people(dataset: PeopleDataset) -> int:
    return sum(not row["iscrowd"] for row in dataset.ground_truth["annotations"])


def _draw(findings: Findings, exhibit: PaperFigure, path: Path) -> bool:
    """Draw a panel for each data set, the seeds' range as a band; False where there is nothing to draw."""
    names = findings.measured(exhibit)
    if not names:
        return False
    picture = import_matplotlib()(figsize=(5.5 * len(names), 4.2), layout="constrained")
    panels = picture.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        for curve in exhibit.curves:
            values = _curve(findings, exhibit, name, curve.trials)
            known = [(x, spread) for x, spread in zip(exhibit.x, values, strict=True) if spread.values]
            places = [x for x, _ in known]
            dashes = "--" if "MaxSpread" in curve.label else "-"  # as the paper has it
            (line,) = panel.plot(
                places, [100 * (spread.mean or 0) for _, spread in known], dashes, marker="o", label=curve.label
            )
            least, largest = ([100 * end(spread.values) for _, spread in known] for end in (min, max))
            panel.fill_between(places, least, largest, color=line.get_color(), alpha=0.15, linewidth=0)
        panel.set(title=findings.datasets[name].name, xlabel=exhibit.x_label, ylabel=exhibit.y_label, xticks=exhibit.x)
        panel.grid(alpha=0.3)
    panels[0].legend()
    picture.savefig(path, dpi=120)
    return True


def import_matplotlib() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing figures", "matplotlib", "dev", error) from error
    return Figure
