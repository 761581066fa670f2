"""Reports an evaluation: tables for people, JSON for programs; computes no metric itself.

Wherever a table says "no number", a note under it says why; metrics.json has the same under "no_number".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from bmp.datasets.people import PeopleDataset
from bmp.evaluation.examples import example_sheet, image_qualities
from bmp.evaluation.metrics.coco import CocoNumbers, Kind, to_results
from bmp.evaluation.metrics.poses import WITHOUT_AREAS
from bmp.evaluation.parsing import ParsingComparison, PublishedParsing, published_parsing
from bmp.evaluation.pose_to_mask import RANKINGS
from bmp.evaluation.published import Published, published
from bmp.evaluation.rounds import Comparison, Overlap, reasons
from bmp.evaluation.run import Journals, Task
from bmp.evaluation.timing import versions
from bmp.io.annotations import Annotation
from bmp.io.atomic import replacing
from bmp.io.json_fields import JsonObject
from bmp.label_sets import COCO_KEYPOINTS

if TYPE_CHECKING:
    import rich.table

NO_NUMBER = "no number"
"""Shown where no labels, or no results, exist for a comparison; a note says which."""

SEGM_SCORE_WORDS = {
    "detection": "detection score",
    "iou": "predicted IoU",
    "detection_times_iou": "detection score x predicted IoU",
    "constant": "1 for everybody",
}
_KINDS: dict[Kind, str] = {"bbox": "boxes", "segm": "masks", "keypoints": "poses"}
_PROTOCOLS = {
    "loop": "people detected",
    "detected_poses": "labelled boxes, poses estimated",
    "ground_truth_poses": "labelled poses",
}


@dataclass(frozen=True)
class TextTable:
    """Rows of text under a title, for Markdown and for the terminal; the first column names the row.

    notes: sentences under the table.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return it as Markdown, under a heading."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1)), *self.rows]
        table = f"## {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
        return table + ("\n" + "\n".join(f"- {note}" for note in self.notes) + "\n" if self.notes else "")

    def rich(self) -> rich.table.Table:
        """Return it for ``rich`` to print."""
        from rich.table import Table
        from rich.text import Text

        caption = Text("\n".join(self.notes)) if self.notes else None
        table = Table(title=self.title, title_justify="left", caption=caption, caption_justify="left")
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


@dataclass(frozen=True)
class Outcome:
    """The output of an evaluation for the terminal: tables, sentences under them, a line for each failed image."""

    tables: list[TextTable]
    sentences: list[str]
    failed: list[str]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The contents of a report.

    task: the evaluation. journals: its results, open. comparison: the numbers. seconds, processes,
    machine: the time of the run, its number of processes, and a description of the machine. parsing: the numbers of
    body parts, None where none were found or none are labelled.
    """

    task: Task
    journals: Journals
    comparison: Comparison
    seconds: float
    processes: int
    machine: JsonObject
    parsing: ParsingComparison | None = None

    @property
    def people(self) -> int:
        """How many people are labelled; crowd regions are none."""
        return sum(not row.get("iscrowd") for row in self.task.ground_truth["annotations"])

    @property
    def failed(self) -> dict[str, str]:
        """Why images failed, by file name, in the order of the data set."""
        reasons = self.journals.failed
        images = self.task.ground_truth["images"]
        return {image["file_name"]: reasons[image["id"]] for image in images if image["id"] in reasons}

    def rows(self) -> Iterator[Annotation]:
        """Yield the annotations of everybody known after the last round."""
        return self.journals.rows(self.task.ground_truth, len(self.comparison.rounds))


def write_report(folder: Path, evaluation: Evaluation) -> Outcome:
    """Write results.json, metrics.json, report.md and, where there is an image to show, contact_sheet.jpg.

    Returns the output for the terminal. Raises ``OSError`` where the folder cannot be written.
    """
    comparison, failed = evaluation.comparison, evaluation.failed
    write_results(folder / "results.json", evaluation.rows(), comparison.settings.segm_score)
    with replacing(folder / "metrics.json") as file:
        file.write(json.dumps(_metrics(evaluation), indent=2) + "\n")
    has_sheet = _write_sheet(folder / "contact_sheet.jpg", evaluation)
    method = " ".join(filter(None, (_method(comparison), keypoints_sentence(comparison))))
    sentences = [_extent(evaluation), method, equal_precision_sentence(comparison)]
    tables = [precision_table(comparison), *protocol_tables(comparison), people_table(comparison)]
    if evaluation.parsing is not None:
        tables += parsing_tables(evaluation.parsing, published_parsing(evaluation.task.dataset.published))
    seconds = seconds_table(evaluation.journals.seconds, len(evaluation.task) - len(failed))
    literature = published(evaluation.task.dataset.published)
    notices = label_notices(evaluation.task.dataset)
    parts = [
        f"# BMP on {evaluation.task.dataset.name}\n",
        *(f"{sentence}\n" for sentence in sentences[:2]),
        *(table.markdown() for table in tables),
        f"{sentences[2]}\n",
        *([published_table(literature).markdown()] if literature else []),
        seconds.markdown(),
        *([_failures(failed)] if failed else []),
        *([_labels(notices)] if notices else []),
        *([_EXAMPLES] if has_sheet else []),
    ]
    with replacing(folder / "report.md") as file:
        file.write("\n".join(parts))
    comparable = [number for number in literature if number.protocol == "loop"] or literature
    shown = [*tables, *([published_table(comparable)] if comparable else [])]
    return Outcome(shown, sentences, [f"{name}: {reason}" for name, reason in failed.items()])


def label_notices(dataset: PeopleDataset) -> list[str]:
    """Return remarks on the labels that matter to the numbers, a line each."""
    turned = [] if dataset.labels_in == "stored" else dataset.turned_photos()
    words = "photos with an EXIF orientation, whose labels are taken to be for the upright photo (labels_in=upright)"
    return [
        *dataset.notices,
        *([f"{dataset.name}: {words}: {len(turned)}, the first is {turned[0]!r}"] if turned else []),
    ]


def _labels(notices: Sequence[str]) -> str:
    return "## Labels\n\n" + "\n".join(f"- {line}" for line in notices) + "\n"


def precision_table(comparison: Comparison) -> TextTable:
    """Return the average precisions after each round in per cent, with the change from the first to the last."""
    rows: list[tuple[str, ...]] = []
    first, last = comparison.rounds[0], comparison.rounds[-1]
    subjects: dict[str, str] = dict(_KINDS.items())
    columns = {name: [entry.coco.get(kind) for entry in comparison.rounds] for kind, name in _KINDS.items()}
    if not comparison.lacking_visible:
        subjects["visible_keypoints"] = name = "poses, visible keypoints"
        columns[name] = [entry.visible_keypoints for entry in comparison.rounds]
    for name, column in columns.items():
        rows += [
            (name, f"round {entry.number}", str(entry.people), *map(_percent, _precisions(found)))
            for entry, found in zip(comparison.rounds, column, strict=True)
        ]
        if last is not first:
            changes = map(_change, _precisions(column[0]), _precisions(column[-1]))
            rows.append((name, _span(comparison), f"{last.people - first.people:+d}", *changes))
    header = ("AP of", "after", "people", "mean", "at 0.50", "at 0.75")
    return TextTable(
        "Average precision", header, tuple(rows), _notes(comparison, subjects, ("", ".ap", ".ap50", ".ap75"))
    )


def _precisions(found: CocoNumbers | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if found is None else (found.ap, found.ap50, found.ap75)


_PROTOCOL_TABLES = {
    "crowdpose": (
        "Poses by crowd index, CrowdPose",
        "Easy, medium and hard images have a crowd index up to 0.1, up to 0.8 and above, as the paper divides them; in "
        "the released programs, which published numbers are from, below 0.2, below 0.8 and from 0.8 on.",
    ),
    "coco_wholebody": (
        "Poses by parts of the body, COCO-WholeBody",
        "The numbers of hands are the mean of left and right.",
    ),
    "mpii": (
        "Poses by PCKh, MPII",
        "Share of keypoints within half the size of the head (or 0.1 of it). Each labelled person has the result most "
        "like it; who has none has everything wrong.",
    ),
    "jhmdb": (
        "Poses by PCK, JHMDB",
        "Share of keypoints within a fifth of the longer side of the box, tPCK of the torso. Each labelled person has "
        "the result most like it; who has none has everything wrong.",
    ),
    "posetrack18": ("Poses by joints, PoseTrack18", "AP of joints within half the size of the head, frame by frame."),
}
"""Title of the table of a set's own protocol, and how it measures."""

_SHORT = {"ap": "AP", "ar": "AR", "pck": "PCK", "pckh": "PCKh", "tpck": "tPCK", "released": "(released)"}


def _measure(name: str) -> str:
    """Write the name of a number for people: "left_hand_ap" is "AP left hand"."""
    words = name.split("_")
    if words[-1] in ("ap", "ar"):
        words = [words[-1], *words[:-1]]
    return " ".join(_SHORT.get(word, word) for word in words)


def protocol_tables(comparison: Comparison) -> list[TextTable]:
    """Return the numbers of the labelled set's own protocol after each round in per cent, if it has one."""
    known = [entry for entry in comparison.rounds if entry.poses is not None and entry.poses.protocol]
    if not known:
        return []
    columns = {entry.number: entry.poses.protocol for entry in known if entry.poses}
    names = next(iter(columns.values()))
    rows = tuple((_measure(name), *(_percent(column[name]) for column in columns.values())) for name in names)
    reasons_of = {name: why for entry in known if entry.poses for name, why in entry.poses.reasons.items()}
    notes: dict[str, list[str]] = {}
    for name, why in reasons_of.items():
        notes.setdefault(why, []).append(_measure(name))
    title, method = _PROTOCOL_TABLES[comparison.sets.labelled.name]
    header = ("measure", *(f"round {number}" for number in columns))
    sentences = tuple(f"No number of {', '.join(whose)}: {why}." for why, whose in notes.items())
    return [TextTable(title, header, rows, (method, *sentences))]


def parsing_tables(parsing: ParsingComparison, literature: Sequence[PublishedParsing]) -> list[TextTable]:
    """Return the numbers of body parts in per cent: published ones beside, and the IoU of each label."""
    maps, people = parsing.maps, parsing.people
    rows = [
        ("mIoU, absent labels left out", _percent(maps.miou), *(_plain(each.miou) for each in literature)),
        ("mIoU, absent labels as 0", _percent(maps.miou_absent_as_zero), *[""] * len(literature)),
        ("pixel accuracy", _percent(maps.pixel_accuracy), *[""] * len(literature)),
        ("mean accuracy", _percent(maps.mean_accuracy), *[""] * len(literature)),
    ]
    if people is not None:
        rows += [
            ("AP^p, mean of 0.1 to 0.9", _percent(people.ap_vol), *(_plain(each.ap_vol) for each in literature)),
            ("AP^p at 0.5", _percent(people.ap_50), *(_plain(each.ap_50) for each in literature)),
            ("PCP at 0.5", _percent(people.pcp_50), *(_plain(each.pcp_50) for each in literature)),
            ("AP^r, mean of 0.1 to 0.9", _percent(people.ap_r_vol), *[""] * len(literature)),
        ]
    notes = [
        "Published numbers: the first convention of mIoU is Parsing R-CNN's, the second QANet's; where every label "
        "occurs they agree.",
        *(f"{each.method}: {each.source}{'' if each.verified else ', not verified'}." for each in literature),
    ]
    if people is None:
        notes.append("No number of people: the labels do not tell them apart.")
    if parsing.coarse:
        notes.append(f"The label sets differ: both are brought to {', '.join(parsing.names[1:])}.")
    header = ("measure", "here", *(each.method for each in literature))
    labels = [(name, _percent(value)) for name, value in zip(parsing.names, maps.iou, strict=True)]
    absent = [name for name, value in zip(parsing.names, maps.iou, strict=True) if value is None]
    lacking = (f"No number of {', '.join(absent)}: neither labelled nor found.",) if absent else ()
    return [
        TextTable("Body parts", header, tuple(rows), tuple(notes if literature else notes[1:])),
        TextTable("IoU of body parts", ("label", "IoU"), tuple(labels), lacking),
    ]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def keypoints_sentence(comparison: Comparison) -> str | None:
    """Say on which keypoints poses are measured, where these are not simply COCO's."""
    sets = comparison.sets
    if comparison.rounds[-1].poses is None:
        return None
    alike = "" if sets.alike is None else f" Poses whose OKS with a surer one is above {sets.alike} are left out."
    if sets.labelled.names == sets.estimated.names == COCO_KEYPOINTS.names:
        return alike.strip() or None
    reading = sets.conversion
    left_out = f", without {', '.join(reading.missing)}, which the network does not estimate" if reading.missing else ""
    near = [name for name, is_near in zip(sets.labelled.names, reading.approximate, strict=True) if is_near]
    nearby = f"; places nearby stand in for {', '.join(near)}" if near else ""
    words = left_out if len(left_out) <= 160 else f"{left_out[:157]}..."
    return (
        f"Poses are compared on {len(reading.known)} of {sets.labelled}{words}{nearby}; OKS has the sigmas of that set"
        f"{' and 0.53 of the area of the labelled box' if sets.labelled.name in WITHOUT_AREAS else ''}.{alike}"
    )


def people_table(comparison: Comparison) -> TextTable:
    """Return recall and precision after each round, by boxes and by masks, with the change; shares in per cent."""
    rows: list[tuple[str, ...]] = []
    overlaps: dict[str, list[Overlap | None]] = {
        "boxes": [entry.boxes for entry in comparison.rounds],
        "masks": [entry.masks for entry in comparison.rounds],
    }
    for name, column in overlaps.items():
        known = [overlap for overlap in column if overlap is not None]
        for entry, overlap in zip(comparison.rounds, known, strict=False):
            counts = str(overlap.found), str(overlap.lost)
            rows.append((name, f"round {entry.number}", *map(_percent, _shares(overlap)), *counts))
        if len(known) > 1:
            changes = map(_change, _shares(known[0]), _shares(known[-1]))
            counts = str(sum(overlap.found for overlap in known[1:])), str(sum(overlap.lost for overlap in known[1:]))
            rows.append((name, _span(comparison), *changes, *counts))
        elif not known:
            rows.append((name, *[NO_NUMBER] * 6))
    header = ("overlap of", "after", "recall", "precision", "mean IoU", "found", "lost")
    subjects = {"boxes_at_iou_50": "boxes", "masks_at_iou_50": "masks"}
    notes = _notes(comparison, subjects, ("", ".recall", ".precision", ".mean_iou"))
    return TextTable("People found and lost, at IoU 0.5", header, tuple(rows), notes)


def _notes(comparison: Comparison, subjects: Mapping[str, str], endings: Sequence[str]) -> tuple[str, ...]:
    """Return the reasons for missing numbers whose keys end so, once for each subject and reason."""
    known = reasons(comparison)
    notes = dict.fromkeys(
        f"No number of {word}: {known[place]}."
        for subject, word in subjects.items()
        for index in range(len(comparison.rounds))
        for ending in endings
        if (place := f"rounds[{index}].{subject}{ending}") in known
    )
    return tuple(notes)


def equal_precision_sentence(comparison: Comparison) -> str:
    """Say how much recall of boxes the later rounds add at the precision of the first."""
    equal = comparison.box_recall
    known = reasons(comparison)
    why = dict.fromkeys(
        known[place]
        for name in ("precision", "first", "second")
        if (place := f"box_recall_at_equal_precision.{name}") in known
    )
    later = (
        f"; after round {comparison.rounds[-1].number}, with as many of the best results as keep that precision, it is "
        f"{_percent(equal.second)} ({_change(equal.first, equal.second)})"
    )
    return (
        f"Box recall after round 1 is {_percent(equal.first)} at precision {_percent(equal.precision)}"
        f"{later if len(comparison.rounds) > 1 else ''}." + (f" No number: {'; '.join(why)}." if why else "")
    )


def published_table(numbers: Sequence[Published]) -> TextTable:
    """Return published average precisions in per cent."""
    rows = [
        (
            number.method,
            number.prompts,
            f"{number.measure} of {_KINDS[number.kind]}",
            f"{number.value:.1f}",
            _PROTOCOLS[number.protocol],
            number.source if number.verified else f"{number.source}, not verified",
            "; ".join(filter(None, (number.note, number.ranking and f"masks ranked {RANKINGS[number.ranking]}"))),
        )
        for number in numbers
    ]
    header = ("method", "prompts", "what", "value", "protocol", "source", "note")
    return TextTable("Published", header, tuple(rows))


def seconds_table(seconds: Mapping[str, float], images: int) -> TextTable:
    """Return the time of each stage, all processes together; ``seconds`` has a name "all" for everything."""
    whole = seconds.get("all", 0.0)
    stages = {name: value for name, value in seconds.items() if name != "all"}
    stages["loop, reading, writing"] = whole - sum(stages.values())
    rows = [
        (name, f"{value:.1f}", f"{value / max(images, 1):.3f}", _percent(value / whole if whole else None))
        for name, value in [*sorted(stages.items(), key=lambda item: -item[1]), ("all", whole)]
    ]
    notes = () if whole else ("No number: no image went through the networks.",)
    return TextTable("Seconds", ("stage", "seconds", "an image", "per cent"), tuple(rows), notes)


def write_results(path: Path, rows: Iterable[Annotation], segm_score: str) -> None:
    """Write COCO results, a person a line, that serve for boxes, masks and poses.

    ``score`` is that of the box; ``segm_score`` and ``keypoints_score`` are those of mask and pose. Raises ``OSError``.
    """
    with replacing(path) as file:
        separator = "["
        for row in rows:
            masks, poses = (to_results([row], kind, segm_score)[0]["score"] for kind in ("segm", "keypoints"))
            file.write(f"{separator}\n{json.dumps({**row, 'segm_score': masks, 'keypoints_score': poses})}")
            separator = ","
        file.write("\n]\n" if separator == "," else "[]\n")


def numbers(comparison: Comparison) -> JsonObject:
    """Return all numbers of a comparison as plain values; shares are in [0, 1], and None means no number."""
    return {
        "rounds": [
            {
                "round": entry.number,
                "people": entry.people,
                **{kind: asdict(entry.coco[kind]) if kind in entry.coco else None for kind in _KINDS},
                "visible_keypoints": None if entry.visible_keypoints is None else asdict(entry.visible_keypoints),
                **({"keypoints_protocol": entry.poses.protocol} if entry.poses and entry.poses.protocol else {}),
                "boxes_at_iou_50": asdict(entry.boxes),
                "masks_at_iou_50": None if entry.masks is None else asdict(entry.masks),
                "beyond_limit": entry.beyond,
            }
            for entry in comparison.rounds
        ],
        "box_recall_at_equal_precision": asdict(comparison.box_recall),
        "no_number": reasons(comparison),
    }


def _metrics(evaluation: Evaluation) -> JsonObject:
    return {
        **evaluation.task.settings(),
        "limit": evaluation.task.limit,
        "people": evaluation.people,
        "evaluation": asdict(evaluation.comparison.settings),
        "keypoints": _keypoints(evaluation.comparison),
        **numbers(evaluation.comparison),
        **({} if evaluation.parsing is None else {"parts": evaluation.parsing.numbers()}),
        "notices": label_notices(evaluation.task.dataset),
        "failed": [{"file_name": name, "reason": reason} for name, reason in evaluation.failed.items()],
        "versions": versions(),
        "run": {
            "seconds": evaluation.seconds,
            "processes": evaluation.processes,
            "machine": evaluation.machine,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds_by_stage": {name: round(value, 3) for name, value in evaluation.journals.seconds.items()},
        },
    }


def _keypoints(comparison: Comparison) -> JsonObject:
    """Return what poses are compared on."""
    sets, reading = comparison.sets, comparison.sets.conversion
    return {
        "labelled": sets.labelled.name or list(sets.labelled.names),
        "estimated": sets.estimated.name or list(sets.estimated.names),
        "compared": [sets.labelled.names[number] for number in reading.known],
        "approximate": [name for name, near in zip(sets.labelled.names, reading.approximate, strict=True) if near],
    }


def _write_sheet(path: Path, evaluation: Evaluation) -> bool:
    """Draw examples of images that did not fail; False where there is none."""
    qualities = image_qualities(evaluation.task.ground_truth, evaluation.comparison.rounds[-1].matches)
    done = {image_id: value for image_id, value in qualities.items() if evaluation.journals.done(image_id)}
    sheet = example_sheet(evaluation.task.dataset, evaluation.rows(), done, evaluation.comparison.sets)
    if sheet is not None:
        sheet.save(path, quality=90)
    return sheet is not None


def _extent(evaluation: Evaluation) -> str:
    """Say which data set it was, and how much of it."""
    task, failed = evaluation.task, len(evaluation.failed)
    images = len(task)
    part = f"the first {images} of {len(task.dataset)} images" if images < len(task.dataset) else f"{images} images"
    lost = f", {failed} of which failed: nobody counts as found in them" if failed else ""
    return f"{task.dataset.name}: {part} with {evaluation.people} labelled people{lost}."


def _method(comparison: Comparison) -> str:
    """Say how results were measured."""
    settings, last = comparison.settings, comparison.rounds[-1]
    beyond = f"{last.beyond['bbox']} boxes and masks and {last.beyond['keypoints']} poses"
    return (
        "Average precision by pycocotools, in per cent. Scores: boxes, detection score; masks, "
        f"{SEGM_SCORE_WORDS[settings.segm_score]}; poses, detection score x mean score of the keypoints "
        f"above 0.2. It counts the best {settings.max_detections} boxes and masks and the best {settings.max_poses} "
        f"poses of an image (evaluation.max_detections, evaluation.max_poses), which leaves {beyond} out after round "
        f"{last.number}. Numbers by round are of everybody known after it, overlaps resolved."
        + ("" if comparison.lacking_visible else " Poses are also measured over their visible keypoints (v = 2) alone.")
    )


def _failures(failed: Mapping[str, str]) -> str:
    return "## Failed images\n\n" + "\n".join(f"- `{name}`: {reason}" for name, reason in failed.items()) + "\n"


_EXAMPLES = (
    "## Examples\n\nBest, median and worst images by the mean IoU of their labelled people with who shows "
    "them, 0 for those not found. Left the ground truth, right the results.\n\n![Examples](contact_sheet.jpg)\n"
)


def _shares(overlap: Overlap) -> tuple[float | None, float | None, float | None]:
    return overlap.recall, overlap.precision, overlap.mean_iou


def _span(comparison: Comparison) -> str:
    return f"change 1 to {comparison.rounds[-1].number}"


def _percent(value: float | None) -> str:
    return NO_NUMBER if value is None else f"{100 * value:.1f}"


def _change(first: float | None, last: float | None) -> str:
    return NO_NUMBER if first is None or last is None else f"{100 * (last - first):+.1f}"
