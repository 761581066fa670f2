"""The paper's tables and figures as questions to a family of segmenters, with what the literature says beside.

It knows neither how questions are answered nor how tables look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bmp.errors import UserError, choices
from bmp.evaluation.ablations.trials import CORRECTIONS, Corrections, Question, Trial
from bmp.evaluation.published import DATASETS, NUMBERS, Protocol, Published

Entry = TypeVar("Entry")

TABLES, FIGURES = range(1, 8), range(2, 5)
"""The numbers of the paper's tables and of its figures with curves."""

COUNTS = range(1, 9)
"""How many points Figures 3 and 4 prompt with."""

_ROLES = {
    "base": ("SAM 2.1",),
    "pose2seg": ("SAM-pose2seg", "SAM-pose2seg (COCO+CIHP with PoseMaskRefine)"),
    "sam1": ("SAM 1",),
}
"""Segmenters that the tables ask for, by their names in a family, with what the literature calls them."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    label: what it is. trial: what our numbers are of, None for methods that are in the literature only. published:
    method and prompts of the numbers to stand beside; of several the first that has one for a data set.
    """

    label: str
    trial: Trial | None
    published: tuple[tuple[str, str], ...] = ()

    def number(self, dataset: str, protocol: Protocol) -> Published | None:
        """Return the published number for a key of ``bmp.evaluation.published.DATASETS``, None if there is none."""
        known = {
            (n.method, n.prompts): n for n in NUMBERS if (n.dataset, n.kind, n.protocol) == (dataset, "segm", protocol)
        }
        return next((known[key] for key in self.published if key in known), None)


@dataclass(frozen=True)
class Table:
    """A table of the paper. datasets: keys of the data sets that it has published numbers for."""

    number: int
    title: str
    protocol: Protocol
    datasets: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"table{self.number}"

    @property
    def questions(self) -> list[Question]:
        """What is to be measured."""
        return [row.trial for row in self.rows if row.trial is not None]


@dataclass(frozen=True)
class Curve:
    """A curve of a figure: a trial for each number of points, or a single question whose answer is all of it."""

    label: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Figure:
    """A figure of the paper. x: its places; x_label, y_label: words for the axes. remark: what the paper saw."""

    number: int
    title: str
    protocol: Protocol
    datasets: tuple[str, ...]
    x_label: str
    y_label: str
    x: tuple[int, ...]
    curves: tuple[Curve, ...]
    remark: str

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"figure{self.number}"

    @property
    def questions(self) -> list[Question]:
        """What is to be measured."""
        return [question for curve in self.curves for question in curve.questions]


@dataclass(frozen=True)
class Member:
    """A segmenter of a family.

    name: for people. config: of a segmenter that is prompted with points, without prompter and checkpoint. weights:
    checkpoints with the commands that make them, None for those that are published; several are several seeds.
    """

    name: str
    config: Mapping[str, Any]
    weights: Mapping[str, str | None]


@dataclass(frozen=True)
class Recipe:
    """A row of Table 1.

    train: in words, how it was trained. segmenter: its name in the family. prompter: config of how it is tested.
    published: the name of the method in ``bmp.evaluation.published``, None if there is no such row in the paper.
    """

    train: str
    segmenter: str
    prompter: Mapping[str, Any]
    published: str | None = None


@dataclass(frozen=True)
class Family:
    """What the tables are filled with.

    pose: config of the estimator. segmenters: by name; "base", "pose2seg" and, if there is one, "sam1" are those that
    Tables 2 to 7 and the figures compare. recipes: the rows of Table 1. datasets: configs by name; ``published`` in
    one is the key of the published numbers for it.
    """

    pose: Mapping[str, Any]
    segmenters: Mapping[str, Member]
    recipes: tuple[Recipe, ...]
    datasets: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Family:
        """Read a config that has these four; ``UserError`` for any mistake in it."""
        for key in ("pose", "segmenters", "recipes", "datasets"):
            if not config.get(key):
                raise UserError(f"expected a family of segmenters, found no {key}; see configs/ablations/nano.py")
        segmenters = {
            name: _filled(Member, values, f"segmenters.{name}") for name, values in config["segmenters"].items()
        }
        for name, member in segmenters.items():
            if not isinstance(member.weights, Mapping):
                raise UserError(f"segmenters.{name}.weights: expected {{'FILE': None, ...}}, got {member.weights!r}")
        recipes = tuple(_filled(Recipe, values, f"recipes[{i}]") for i, values in enumerate(config["recipes"]))
        for name in ("base", "pose2seg", *(recipe.segmenter for recipe in recipes)):
            if name not in segmenters:
                raise UserError(f"segmenters: there is no {name!r}; {choices(name, segmenters)}")
        for name, dataset in config["datasets"].items():
            key = dataset.get("published")
            if key is not None and key not in DATASETS:
                raise UserError(f"datasets.{name}.published: there is no {key!r}; {choices(key, DATASETS)}")
        return cls(config["pose"], segmenters, recipes, config["datasets"])


def _filled(kind: type[Entry], values: Mapping[str, Any], where: str) -> Entry:
    fields: dict[str, Any] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in values:
        if name not in fields:
            raise UserError(f"{where}: there is no {name!r}; {choices(name, fields)}")
    missing = [name for name in fields if name not in values and name != "published"]
    if missing:
        raise UserError(f"{where}: expected {', '.join(missing)}; see configs/ablations/nano.py")
    return kind(**values)


def joins(exhibit: Table | Figure, published: str | None) -> bool:
    """Tell whether a data set is part of a table or figure: those with published numbers are where the paper has them.

    published: the data set's key, None for one that nobody has published numbers for, which is part of all.
    """
    return published is None or published in exhibit.datasets


def table(family: Family, number: int) -> Table:
    """Return a table of the paper, ``number`` from 1 to 7, with rows for what the family has."""
    detected: Protocol = "detected_poses"
    everywhere = ("coco_val", "ochuman_test", "cihp_val")
    spread, visible = ("MaxSpread", 6), ("MaxVisibility", 3)
    ways = (("base", spread), ("pose2seg", visible))
    if number == 1:
        return Table(1, "fine-tuning recipes", detected, everywhere, tuple(map(_recipe, family.recipes)))
    if number == 2:
        rows = [
            *map(_others, ("HQNet R-50", "Pose2Seg", "ExPoSeg", "Occlusion C&P", "Crowd-SAM", "MultiPoseSeg")),
            *(row for role, way in ways for row in _row(family, role, way)),
        ]
        datasets: tuple[str, ...] = ("coco_val", "coco_star_val", "ochuman_test")
        return Table(2, "detected poses", detected, datasets, tuple(rows))
    if number == 3:
        labelled: Protocol = "ground_truth_poses"
        rows = [
            _others("Pose2Seg"),
            *_row(family, "base", spread, words="MaxSpread", protocol=labelled),
            *_row(family, "pose2seg", ("MaxSpread", 3), protocol=labelled),
        ]
        datasets = ("coco_star_val", "ochuman_test", "ochuman_val")
        return Table(3, "labelled poses", labelled, datasets, tuple(rows))
    if number == 4:
        boxes: dict[str, dict[str, Any]] = {
            ", labelled box": {"box": {"type": "GivenBox"}},
            ", labelled box inflated": {"box": {"type": "InflatedBox", "factor": 0.5}},
            "": {},
        }
        rows = [
            row
            for role in ("base", "sam1")
            for detail, box in boxes.items()
            for row in _row(family, role, spread, detail, **box)
        ]
        return Table(4, "boxes as prompts", detected, ("coco_val", "cihp_val"), tuple(rows))
    if number == 5:
        negatives: dict[str, dict[str, Any]] = {
            ", least visible as negative": {"negative": {"type": "LeastVisible", "count": 1}},
            ", closest of others as negative": {"negative": {"type": "ClosestOther", "count": 1}},
        }
        rows = []
        for role, way in (*ways, ("sam1", spread)):
            for detail, negative in negatives.items():
                rows += _row(family, role, way, detail, **negative)
            # For SAM-pose2seg Table 5 has other numbers than Table 1, hence under another name.
            rows += _row(family, role, way, words="MaxVisibility 3, no negatives" if role == "pose2seg" else None)
        return Table(5, "negative points", detected, everywhere, tuple(rows))
    if number == 6:
        rows = []
        for role, way in ways:
            rows += _row(family, role, way, " by visibility", words=_words(way))
            for detail, signal in ((" by presence", "presence"), (" by expected OKS", "expected_oks")):
                rows += _row(family, role, way, detail, signal=signal)
        return Table(6, "what ranks the keypoints", detected, everywhere, tuple(rows))
    rows = []
    for role, way in ways:
        rows += _row(family, role, way, ", cropped to 1.5x the box", crop=1.5)
        rows += _row(family, role, way)
    return Table(7, "crops of people", detected, ("coco_val", "cihp_val"), tuple(rows))


def figure(family: Family, number: int) -> Figure:
    """Return a figure of the paper, ``number`` from 2 to 4."""
    datasets = ("coco_val", "cihp_val")
    if number == 2:
        return Figure(
            2,
            "what corrections add",
            "detected_poses",
            datasets,
            "corrections",
            "mean IoU of masks, per cent",
            tuple(range(CORRECTIONS + 1)),
            tuple(
                Curve(f"{family.segmenters[role].name}, {sampler}", (Corrections(role, sampler),))
                for role in ("base", "pose2seg")
                for sampler in ("MaskRefine", "PoseMaskRefine")
            ),
            "In the paper SAM-pose2seg has 81.0 before any correction of MaskRefine and 87.4 after seven, on training "
            "images of COCO and CIHP.",
        )
    if number == 3:
        title = "points for the base model"
        kinds = [("base", "MaxVisibility"), ("base", "MaxSpread")]
        remark = "In the paper six points are best with either selection, and MaxSpread is the better one."
    else:
        title = "points before and after fine-tuning"
        kinds = [("base", "MaxSpread"), ("pose2seg", "MaxSpread"), ("pose2seg", "MaxVisibility")]
        remark = "In the paper six points are best for SAM 2.1, three for SAM-pose2seg, which is the better one."
    points = [[row for count in COUNTS for row in _row(family, role, (kind, count))] for role, kind in kinds]
    curves = tuple(
        Curve(f"{family.segmenters[role].name}, {kind}", tuple(row.trial for row in rows if row.trial is not None))
        for (role, kind), rows in zip(kinds, points, strict=True)
    )
    known = [
        f"{found.method}, {found.prompts}: {found.value:.1f} on {DATASETS[key]}"
        for rows in points
        for row in rows
        for key in datasets
        if (found := row.number(key, "detected_poses")) is not None
    ]
    remark = f"{remark} Its tables have {'; '.join(known)}."
    x_label, y_label = "points", "AP of masks, per cent"
    return Figure(number, title, "detected_poses", datasets, x_label, y_label, tuple(COUNTS), curves, remark)


def _words(way: tuple[str, int]) -> str:
    kind, count = way
    return f"{kind} {count}"


def _prompter(kind: str, count: int, **options: Any) -> str:
    return json.dumps({"type": kind, "count": count, **options}, sort_keys=True)


def _row(
    family: Family,
    role: str,
    way: tuple[str, int],
    detail: str = "",
    *,
    words: str | None = None,
    protocol: Protocol = "detected_poses",
    crop: float | None = None,
    **options: Any,
) -> list[Row]:
    """Return the row of a segmenter, none if the family has no such segmenter.

    way: kind of the prompter and how many points. detail: what else to say of it. words: what the published numbers
    have for prompts, if not that. options: of the prompter.
    """
    if role not in family.segmenters:
        return []
    trial = Trial(role, _prompter(*way, **options), protocol, crop)
    published = tuple((method, words or _words(way) + detail) for method in _ROLES[role])
    return [Row(f"{family.segmenters[role].name}, {_words(way)}{detail}", trial, published)]


def _others(method: str) -> Row:
    return Row(method, None, ((method, ""),))


def _recipe(recipe: Recipe) -> Row:
    words = " ".join(str(recipe.prompter[key]) for key in ("type", "count") if key in recipe.prompter)
    published = () if recipe.published is None else ((recipe.published, words),)
    trial = Trial(recipe.segmenter, json.dumps(recipe.prompter, sort_keys=True))
    return Row(f"{recipe.train}, {words}", trial, published)
