"""The paper's tables and figures as trials of a family of segmenters, beside the numbers of the literature.

It knows neither how trials are run nor how tables look.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from bmp.config import ConfigSection
from bmp.errors import UserError, choices
from bmp.evaluation.ablations.trials import CORRECTIONS, CorrectionTrial, PromptTrial, Trial
from bmp.evaluation.published import NUMBERS, PUBLISHED_DATASETS, EvaluationProtocol, Published

Entry = TypeVar("Entry")

COUNTS = range(1, 9)
"""How many points Figures 3 and 4 prompt with."""

_ROLES = {
    "base": ("SAM 2.1",),
    "pose2seg": ("SAM-pose2seg", "SAM-pose2seg (COCO+CIHP with PoseMaskRefine)"),
    "sam1": ("SAM 1",),
}
"""Segmenters of the tables by their names in a family, with their names in the literature."""


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    label: its name. trial: the source of our numbers, None for methods that are in the literature only. published:
    method and prompts of the numbers to stand beside; of several the first that has one for a data set.
    """

    label: str
    trial: PromptTrial | None
    published: tuple[tuple[str, str], ...] = ()

    def number(self, dataset: str, protocol: EvaluationProtocol) -> Published | None:
        """Return the published number for a key of ``PUBLISHED_DATASETS``, None if there is none."""
        known = {
            (n.method, n.prompts): n for n in NUMBERS if (n.dataset, n.kind, n.protocol) == (dataset, "segm", protocol)
        }
        return next((known[key] for key in self.published if key in known), None)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper. datasets: keys of the data sets that it has published numbers for."""

    number: int
    title: str
    protocol: EvaluationProtocol
    datasets: tuple[str, ...]
    rows: tuple[PaperRow, ...]

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"table{self.number}"

    @property
    def trials(self) -> list[Trial]:
        """The measurements that fill it."""
        return [row.trial for row in self.rows if row.trial is not None]


@dataclass(frozen=True)
class Curve:
    """A curve of a figure: a trial for each number of points, or a single trial that gives all of it."""

    label: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper.

    x: the values on its axis. x_label, y_label: the titles of the axes. remark: the finding of the paper.
    """

    number: int
    title: str
    protocol: EvaluationProtocol
    datasets: tuple[str, ...]
    x_label: str
    y_label: str
    x: tuple[int, ...]
    curves: tuple[Curve, ...]
    remark: str

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"figure{self.number}"

    @property
    def trials(self) -> list[Trial]:
        """The measurements that fill it."""
        return [trial for curve in self.curves for trial in curve.trials]


@dataclass(frozen=True)
class Member:
    """A segmenter of a family.

    name: for people. config: of a segmenter that is prompted with points, without prompter and checkpoint. weights:
    checkpoints with the commands that make them, None for those that are published; several are several seeds.
    """

    name: str
    config: ConfigSection
    weights: Mapping[str, str | None]


@dataclass(frozen=True)
class Recipe:
    """A row of Table 1.

    train: in words, how it was trained. segmenter: its name in the family. prompter: config of how it is tested.
    published: the name of the method in ``bmp.evaluation.published``, None if there is no such row in the paper.
    """

    train: str
    segmenter: str
    prompter: ConfigSection
    published: str | None = None


@dataclass(frozen=True)
class Family:
    """The segmenters and data sets that the tables are about.

    pose: config of the estimator. segmenters: by name; "base", "pose2seg" and, if there is one, "sam1" are those that
    Tables 2 to 7 and the figures compare. recipes: the rows of Table 1. datasets: configs by name; ``published`` in
    one is the key of the published numbers for it. detector: config of what makes masks for an estimator that is
    conditioned on them, None for one that is not.
    """

    pose: ConfigSection
    segmenters: Mapping[str, Member]
    recipes: tuple[Recipe, ...]
    datasets: Mapping[str, ConfigSection]
    detector: ConfigSection | None = None

    @classmethod
    def of(cls, config: ConfigSection) -> Family:
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
            if key is not None and key not in PUBLISHED_DATASETS:
                raise UserError(f"datasets.{name}.published: there is no {key!r}; {choices(key, PUBLISHED_DATASETS)}")
        return cls(config["pose"], segmenters, recipes, config["datasets"], config.get("detector"))


def _filled(kind: type[Entry], values: ConfigSection, where: str) -> Entry:
    fields: dict[str, Any] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in values:
        if name not in fields:
            raise UserError(f"{where}: there is no {name!r}; {choices(name, fields)}")
    missing = [name for name in fields if name not in values and name != "published"]
    if missing:
        raise UserError(f"{where}: expected {', '.join(missing)}; see configs/ablations/nano.py")
    return kind(**values)


Exhibit = PaperTable | PaperFigure


def joins(exhibit: Exhibit, published: str | None) -> bool:
    """Tell whether a data set is part of a table or figure: those with published numbers are where the paper has them.

    published: the data set's key, None for one without published numbers, which is part of all.
    """
    return published is None or published in exhibit.datasets


def paper_table(family: Family, number: int) -> PaperTable:
    """Return a table of the paper, ``number`` one of ``TABLES``, with rows for the segmenters of the family."""
    return _TABLES[number](family)


def paper_figure(family: Family, number: int) -> PaperFigure:
    """Return a figure of the paper, ``number`` one of ``FIGURES``."""
    return _FIGURES[number](family)


class _Selection(NamedTuple):
    """How keypoints become prompts: the type of the prompter and how many points it gives."""

    kind: str
    points: int

    def __str__(self) -> str:
        return f"{self.kind} {self.points}"


_SPREAD, _VISIBLE = _Selection("MaxSpread", 6), _Selection("MaxVisibility", 3)
_OWN_SELECTIONS = (("base", _SPREAD), ("pose2seg", _VISIBLE))
"""The two segmenters that most tables compare, each with the selection of keypoints that suits it."""

_EVERYWHERE = ("coco_val", "ochuman_test", "cihp_val")
_LARGE = ("coco_val", "cihp_val")


def _fine_tuning_recipes(family: Family) -> PaperTable:
    rows = tuple(map(_recipe, family.recipes))
    return PaperTable(1, "fine-tuning recipes", "detected_poses", _EVERYWHERE, rows)


def _detected_poses(family: Family) -> PaperTable:
    rows = [
        *map(_literature, ("HQNet R-50", "Pose2Seg", "ExPoSeg", "Occlusion C&P", "Crowd-SAM", "MultiPoseSeg")),
        *(row for role, selection in _OWN_SELECTIONS for row in _row(family, role, selection)),
    ]
    datasets = ("coco_val", "coco_star_val", "coco_persons_val", "ochuman_test")
    return PaperTable(2, "detected poses", "detected_poses", datasets, tuple(rows))


def _labelled_poses(family: Family) -> PaperTable:
    protocol: EvaluationProtocol = "ground_truth_poses"
    rows = (
        _literature("Pose2Seg"),
        *_row(family, "base", _SPREAD, words="MaxSpread", protocol=protocol),
        *_row(family, "pose2seg", _Selection("MaxSpread", 3), protocol=protocol),
    )
    datasets = ("coco_star_val", "coco_persons_val", "ochuman_test", "ochuman_val")
    return PaperTable(3, "labelled poses", protocol, datasets, rows)


def _boxes_as_prompts(family: Family) -> PaperTable:
    boxes: dict[str, ConfigSection] = {
        ", labelled box": {"box": {"type": "GivenBox"}},
        ", labelled box inflated": {"box": {"type": "InflatedBox", "factor": 0.5}},
        "": {},
    }
    rows = [
        row
        for role in ("base", "sam1")
        for detail, box in boxes.items()
        for row in _row(family, role, _SPREAD, detail, **box)
    ]
    return PaperTable(4, "boxes as prompts", "detected_poses", _LARGE, tuple(rows))


def _negative_points(family: Family) -> PaperTable:
    negatives: dict[str, ConfigSection] = {
        ", least visible as negative": {"negative": {"type": "LeastVisible", "count": 1}},
        ", closest of others as negative": {"negative": {"type": "ClosestOther", "count": 1}},
    }
    rows: list[PaperRow] = []
    for role, selection in (*_OWN_SELECTIONS, ("sam1", _SPREAD)):
        for detail, negative in negatives.items():
            rows += _row(family, role, selection, detail, **negative)
        # For SAM-pose2seg Table 5 has other numbers than Table 1, hence under another name.
        words = "MaxVisibility 3, no negatives" if role == "pose2seg" else None
        rows += _row(family, role, selection, words=words)
    return PaperTable(5, "negative points", "detected_poses", _EVERYWHERE, tuple(rows))


def _ranking_signals(family: Family) -> PaperTable:
    rows: list[PaperRow] = []
    for role, selection in _OWN_SELECTIONS:
        rows += _row(family, role, selection, " by visibility", words=str(selection))
        for detail, signal in ((" by presence", "presence"), (" by expected OKS", "expected_oks")):
            rows += _row(family, role, selection, detail, signal=signal)
    return PaperTable(6, "what ranks the keypoints", "detected_poses", _EVERYWHERE, tuple(rows))


def _crops(family: Family) -> PaperTable:
    rows: list[PaperRow] = []
    for role, selection in _OWN_SELECTIONS:
        rows += _row(family, role, selection, ", cropped to 1.5x the box", crop=1.5)
        rows += _row(family, role, selection)
    return PaperTable(7, "crops of people", "detected_poses", _LARGE, tuple(rows))


def _corrections(family: Family) -> PaperFigure:
    curves = tuple(
        Curve(f"{family.segmenters[role].name}, {sampler}", (CorrectionTrial(role, sampler),))
        for role in ("base", "pose2seg")
        for sampler in ("MaskRefine", "PoseMaskRefine")
    )
    return PaperFigure(
        2,
        "what corrections add",
        "detected_poses",
        _LARGE,
        "corrections",
        "mean IoU of masks, per cent",
        tuple(range(CORRECTIONS + 1)),
        curves,
        "In the paper SAM-pose2seg has 81.0 before any correction of MaskRefine and 87.4 after seven, on training "
        "images of COCO and CIHP.",
    )


def _points_for_base(family: Family) -> PaperFigure:
    return _points(
        family,
        3,
        "points for the base model",
        (("base", "MaxVisibility"), ("base", "MaxSpread")),
        "In the paper six points are best with either selection, and MaxSpread is the better one.",
    )


def _points_before_and_after(family: Family) -> PaperFigure:
    return _points(
        family,
        4,
        "points before and after fine-tuning",
        (("base", "MaxSpread"), ("pose2seg", "MaxSpread"), ("pose2seg", "MaxVisibility")),
        "In the paper six points are best for SAM 2.1, three for SAM-pose2seg, which is the better one.",
    )


def _points(family: Family, number: int, title: str, kinds: Sequence[tuple[str, str]], remark: str) -> PaperFigure:
    """Return a figure of AP by number of points, a curve for each role and type of prompter."""
    rows = [[row for count in COUNTS for row in _row(family, role, _Selection(kind, count))] for role, kind in kinds]
    curves = tuple(
        Curve(f"{family.segmenters[role].name}, {kind}", tuple(row.trial for row in own if row.trial is not None))
        for (role, kind), own in zip(kinds, rows, strict=True)
    )
    known = [
        f"{published.method}, {published.prompts}: {published.value:.1f} on {PUBLISHED_DATASETS[key]}"
        for own in rows
        for row in own
        for key in _LARGE
        if (published := row.number(key, "detected_poses")) is not None
    ]
    remark = f"{remark} Its tables have {'; '.join(known)}."
    return PaperFigure(
        number, title, "detected_poses", _LARGE, "points", "AP of masks, per cent", tuple(COUNTS), curves, remark
    )


_TABLES: dict[int, Callable[[Family], PaperTable]] = {
    1: _fine_tuning_recipes,
    2: _detected_poses,
    3: _labelled_poses,
    4: _boxes_as_prompts,
    5: _negative_points,
    6: _ranking_signals,
    7: _crops,
}
_FIGURES: dict[int, Callable[[Family], PaperFigure]] = {
    2: _corrections,
    3: _points_for_base,
    4: _points_before_and_after,
}
TABLES, FIGURES = tuple(_TABLES), tuple(_FIGURES)
"""The numbers of the paper's tables and of its figures with curves."""


def _prompter(kind: str, count: int, **options: Any) -> str:
    return json.dumps({"type": kind, "count": count, **options}, sort_keys=True)


def _row(
    family: Family,
    role: str,
    selection: _Selection,
    detail: str = "",
    *,
    words: str | None = None,
    protocol: EvaluationProtocol = "detected_poses",
    crop: float | None = None,
    **options: Any,
) -> list[PaperRow]:
    """Return the row of a segmenter, none if the family has no such segmenter.

    selection: of keypoints. detail: further words on it. words: the prompts of the published numbers, if they are
    called otherwise. options: of the prompter.
    """
    if role not in family.segmenters:
        return []
    trial = PromptTrial(role, _prompter(*selection, **options), protocol, crop)
    published = tuple((method, words or f"{selection}{detail}") for method in _ROLES[role])
    return [PaperRow(f"{family.segmenters[role].name}, {selection}{detail}", trial, published)]


def _literature(method: str) -> PaperRow:
    return PaperRow(method, None, ((method, ""),))


def _recipe(recipe: Recipe) -> PaperRow:
    words = " ".join(str(recipe.prompter[key]) for key in ("type", "count") if key in recipe.prompter)
    published = () if recipe.published is None else ((recipe.published, words),)
    trial = PromptTrial(recipe.segmenter, json.dumps(recipe.prompter, sort_keys=True))
    return PaperRow(f"{recipe.train}, {words}", trial, published)
