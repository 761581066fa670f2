"""What claims.py writes: the tables of docs/claims.md between its marks, a summary in JSON, a picture for each claim.

The words of the page are written by hand and stay; what is measured stands between ``<!-- NAME -->`` and
``<!-- end of NAME -->``. Knows results, not how they come about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from claims_arms import Arm, LoopArm, Results, Scenes, TruePosesArm
from claims_list import Claim, Comparison
from claims_measures import (
    KINDS,
    WORDS,
    Measure,
    People,
    PersonResult,
    mean_over_people,
    person_by_person,
    precisions,
    recalls,
)  # fmt: skip
from claims_statistics import Interval, Verdict, joined, resamples
from numpy.typing import NDArray

from bmp.errors import UserError
from bmp.evaluation.metrics.coco import Kind
from bmp.evaluation.timing import machine
from bmp.io.annotations import Annotation
from bmp.io.atomic import replacing, writing
from bmp.io.segmentations import to_mask
from bmp.label_sets import COCO_KEYPOINTS
from bmp.structures import Image

FEWEST = 20
"""Images without which nothing is decided."""
_CLEARLY = 0.05  # difference of IoU or OKS from which a person shows it in a picture
_SIDE = 300  # height of a picture's panels
_BETTER = {"segm": "mean IoU", "keypoints": "mean OKS", "bbox": "mean IoU of boxes"}
_WHITE, _COLOURS = (255, 255, 255), ((255, 196, 0), (0, 190, 255))  # red, green, blue: first arm, second arm
Canvas = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A comparison on a split, in [0, 1].

    images: how many were drawn from. first, second: what the arms reach. by_person: see ``_BETTER``.
    """

    split: str
    images: int
    comparison: Comparison
    first: float
    second: float
    difference: Interval
    by_person: Interval

    @property
    def verdict(self) -> Verdict:
        """The verdict on it; few images are too alike for their draws to say how others would differ."""
        if self.images < FEWEST:
            return "undecided"
        return self.difference.verdict(self.comparison.more, self.comparison.bound)


@dataclass(frozen=True)
class Outcome:
    """A claim with what was measured of it; nothing where arms are missing."""

    claim: Claim
    measured: tuple[Measured, ...]
    complete: bool

    def counted(self, split: str | None = None) -> list[Measured]:
        """Return what the verdict depends on, of one split or of all."""
        return [each for each in self.measured if each.comparison.counts and split in (None, each.split)]

    def verdict(self, split: str | None = None) -> str:
        """Return the verdict on one split or on all together."""
        if not self.counted(split):
            return "not measured yet"
        verdict = joined(each.verdict for each in self.counted(split))
        return verdict if self.complete or verdict == "fails" else "undecided"

    @property
    def line(self) -> str:
        return f"{self.claim.key}: {self.verdict()}"


class Comparer:
    """Measures claims on the scenes; what an arm reaches is computed once."""

    def __init__(self, results: Results, scenes: Sequence[Scenes]) -> None:
        self.results = results
        self.scenes = scenes
        self._weights = {split.split: resamples(split.count) for split in scenes}
        self._reached: dict[tuple[Arm, str, Measure, People], Floats] = {}
        self._people: dict[tuple[Arm, str, Measure, People], dict[int, PersonResult]] = {}

    def outcome(self, claim: Claim) -> Outcome:
        """Measure all comparisons of a claim for which both arms are on the disk."""
        measured, complete = [], not claim.untrained
        for split in self.scenes:
            for each in claim.comparisons:
                found = self._measured(each, split)
                if found is None:
                    complete &= not each.counts
                else:
                    measured.append(found)
        return Outcome(claim, tuple(measured), complete)

    def people(self, arm: Arm, split: Scenes, comparison: Comparison) -> dict[int, PersonResult] | None:
        """Return how well each labelled person is done in an arm, None where it is not on the disk."""
        key = (arm, split.split, comparison.measure, comparison.people)
        if key not in self._people:
            rows = self.results.rows(arm, split)
            if rows is None:
                return None
            ground_truth = split.dataset.ground_truth
            found = isinstance(arm, LoopArm | TruePosesArm)
            self._people[key] = person_by_person(comparison.measure, comparison.people, ground_truth, rows, found=found)
        return self._people[key]

    def _measured(self, each: Comparison, split: Scenes) -> Measured | None:
        people = [self.people(arm, split, each) for arm in (each.first, each.second)]
        if people[0] is None or people[1] is None:
            return None
        weights, ground_truth = self._weights[split.split], split.dataset.ground_truth
        if each.measure == "recall":
            first, second = recalls(
                ground_truth, self._rows(each.first, split), self._rows(each.second, split), weights
            )
        else:
            first, second = (self._precision(arm, split, each) for arm in (each.first, each.second))
        means = [mean_over_people(own, ground_truth).mean(weights) for own in people if own is not None]
        differences = Interval.of(first, second), Interval.of(means[0], means[1])
        return Measured(split.split, split.count, each, float(first[0]), float(second[0]), *differences)

    def _precision(self, arm: Arm, split: Scenes, each: Comparison) -> Floats:
        key = (arm, split.split, each.measure, each.people)
        if key not in self._reached:
            weights = self._weights[split.split]
            rows = self._rows(arm, split)
            self._reached[key] = precisions(each.measure, each.people, split.dataset.ground_truth, rows, weights)
        return self._reached[key]

    def _rows(self, arm: Arm, split: Scenes) -> Sequence[Annotation]:
        rows = self.results.rows(arm, split)
        assert rows is not None  # else there were no people of it
        return rows


def write_page(outcomes: Sequence[Outcome], count: int, page: Path) -> None:
    """Put the tables between the marks of the page; ``UserError`` where it has none."""
    text = page.read_text(encoding="utf-8")
    for name, lines in (
        ("verdicts", _verdicts(outcomes, count)),
        ("measurements", _measurements(outcomes, page.parent / "images" / "claims")),
    ):
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise UserError(
                f"{page}: expected the marks {start} and {end} once each; put them where the table is to be"
            )
        head, _, rest = text.partition(start)
        text = "\n".join([f"{head}{start}", "", *lines, "", f"{end}{rest.partition(end)[2]}"])
    with writing(page), replacing(page) as file:
        file.write(text)


def _anchor(heading: str) -> str:
    """Return what pages link to for a heading: its words in small letters, joined by hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _verdicts(outcomes: Sequence[Outcome], count: int) -> list[str]:
    splits = list(dict.fromkeys(each.split for outcome in outcomes for each in outcome.measured))
    lines = [
        f"Differences in points with their 95 % intervals; scenes of each split: {count}.",
        "",
        f"| claim | the paper | {' | '.join(splits)} | verdict |",
        f"| --- | --- |{' --- |' * (len(splits) + 1)}",
    ]
    for outcome in outcomes:
        title = f"[{outcome.claim.title}](#{_anchor(outcome.claim.title)})"
        ours = [
            "<br>".join(f"{_signed(each.difference)} {each.verdict}" for each in outcome.counted(split)) or ""
            for split in splits
        ]
        lines.append(f"| {title} | {outcome.claim.paper} | {' | '.join(ours)} | **{outcome.verdict()}** |")
    return lines


def _measurements(outcomes: Sequence[Outcome], pictures: Path) -> list[str]:
    lines: list[str] = []
    for outcome in outcomes:
        claim = outcome.claim
        lines += [f"### {claim.title}", ""]
        lines += [f"{outcome.verdict().capitalize()}. `python benchmarks/claims.py --only {claim.key}`", ""]
        if claim.untrained:
            names = ", ".join(training.name for training in claim.untrained)
            lines += [f"Not trained yet: {names}.", ""]
        if outcome.measured:
            words = dict.fromkeys(f"{WORDS[each.comparison.measure]}, per cent" for each in outcome.measured)
            by_person = _BETTER[KINDS[outcome.measured[0].comparison.measure]]
            lines += [
                f"| {'; '.join(words)} | split | first | second | difference | claimed | verdict | {by_person} |",
                "| --- | --- | ---: | ---: | ---: | --- | --- | ---: |",
            ]
            lines += [_measurement(each) for each in outcome.measured]
            lines.append("")
        if picture_of(claim, pictures).is_file():
            alternative = f"{claim.title}: ground truth, first, second"
            lines += [f"![{alternative}](images/claims/{picture_of(claim, pictures).name})", ""]
    return lines[:-1]


def _measurement(each: Measured) -> str:
    comparison = each.comparison
    claimed = f"{'>' if comparison.more else '<'} {100 * comparison.bound:g}"
    words = comparison.words if comparison.counts else f"*{comparison.words}*"
    verdict = each.verdict if comparison.counts else f"*{each.verdict}*"
    return (
        f"| {words} | {each.split} | {100 * each.first:.1f} | {100 * each.second:.1f} | {_signed(each.difference)} | "
        f"{claimed} | {verdict} | {_signed(each.by_person)} |"
    )


def _signed(interval: Interval) -> str:
    return f"{100 * interval.value:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def write_summary(outcomes: Sequence[Outcome], count: int, path: Path) -> None:
    """Write all numbers as JSON, shares in [0, 1]."""
    rows = [
        {
            "claim": outcome.claim.key,
            "verdict": outcome.verdict(),
            "untrained": [training.name for training in outcome.claim.untrained],
            "comparisons": [
                {
                    "split": each.split,
                    "words": each.comparison.words,
                    "measure": each.comparison.measure,
                    "counts": each.comparison.counts,
                    "claimed": {"more": each.comparison.more, "than": each.comparison.bound},
                    "first": each.first,
                    "second": each.second,
                    "difference": asdict(each.difference),
                    "by_person": asdict(each.by_person),
                    "verdict": each.verdict,
                }
                for each in outcome.measured
            ],
        }
        for outcome in outcomes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), replacing(path) as file:
        file.write(json.dumps({"scenes": count, "machine": machine("cpu"), "claims": rows}, indent=1) + "\n")


def picture_of(claim: Claim, folder: Path) -> Path:
    """Return the file of a claim's picture, there or not."""
    return folder / f"{claim.key}.jpg"


def write_pictures(outcomes: Sequence[Outcome], comparer: Comparer, folder: Path) -> None:
    """Draw a typical case of each claim: of its first comparison, on the last split for which it is measured."""
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        picture = picture_of(outcome.claim, folder)
        picture.unlink(missing_ok=True)
        if not outcome.measured:
            continue
        comparison = outcome.measured[0].comparison
        split = next(
            each for each in reversed(comparer.scenes)
            if any((m.split, m.comparison) == (each.split, comparison) for m in outcome.measured)
        )  # fmt: skip
        sides = [comparer.people(arm, split, comparison) for arm in (comparison.first, comparison.second)]
        assert sides[0] is not None
        assert sides[1] is not None
        person = typical(sides[0], sides[1])
        if person is not None:
            canvas = draw(split, person, sides[0][person], sides[1][person], KINDS[comparison.measure])
            cv2.imwrite(str(picture), canvas[:, :, ::-1])


def typical(first: Mapping[int, PersonResult], second: Mapping[int, PersonResult]) -> int | None:
    """Return the id of a typical person, None where nobody differs.

    Of those whom the two arms do clearly differently, and in the direction of the mean difference over all people, the
    one of the median difference; of equals the first.
    """
    differences = {number: second[number].value - first[number].value for number in sorted(first) if number in second}
    sign = 1 if sum(differences.values()) >= 0 else -1
    clear = {number: value for number, value in differences.items() if sign * value >= _CLEARLY}
    if not clear:
        return None
    middle = float(np.median(list(clear.values())))
    return min(clear, key=lambda number: abs(clear[number] - middle))


def draw(split: Scenes, person: int, first: PersonResult, second: PersonResult, kind: Kind) -> Canvas:
    """Draw the person three times: as labelled, in the first arm, in the second; red, green, blue (H, W, 3)."""
    ground_truth = split.dataset.ground_truth
    labelled = next(row for row in ground_truth["annotations"] if row["id"] == person)
    ids = [image["id"] for image in ground_truth["images"]]
    image = split.dataset.load(ids.index(labelled["image_id"]))
    rows = (labelled, first.row, second.row)
    panels = [
        _panel(image, labelled["bbox"], row, kind, colour)
        for row, colour in zip(rows, (_WHITE, *_COLOURS), strict=True)
    ]
    gap = np.full((_SIDE, 6, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)


def _panel(image: Image, box: Sequence[float], row: Annotation | None, kind: Kind, colour: tuple[int, ...]) -> Canvas:
    """Draw a row's mask, pose or box on the surroundings of a labelled box; nothing for None."""
    x, y, width, height = box
    left, top = max(0, int(x - width / 2)), max(0, int(y - height / 5))
    right, bottom = min(image.width, int(x + 1.5 * width) + 1), min(image.height, int(y + 1.2 * height) + 1)
    scale = _SIDE / (bottom - top)
    size = (max(1, round((right - left) * scale)), _SIDE)
    canvas: Canvas = np.ascontiguousarray(
        cv2.resize(image.pixels.cpu().numpy()[top:bottom, left:right], size, interpolation=cv2.INTER_LINEAR)
    )
    if row is None:
        return canvas

    def place(point: Sequence[float]) -> tuple[int, int]:
        return round((point[0] - left) * scale), round((point[1] - top) * scale)

    if kind == "segm":
        mask = to_mask(row.get("segmentation"), image.height, image.width).numpy()[top:bottom, left:right]
        bits = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        tint = np.asarray(colour, dtype=np.float64)
        canvas[bits > 0] = (0.55 * canvas[bits > 0] + 0.45 * tint).astype(np.uint8)
        outlines, _ = cv2.findContours(bits, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, colour, 2)
    elif kind == "keypoints":
        values = np.asarray(row["keypoints"], dtype=np.float64).reshape(-1, 3)
        for start, end in COCO_KEYPOINTS.skeleton:
            if values[start, 2] and values[end, 2]:
                cv2.line(canvas, place(values[start]), place(values[end]), colour, 2, cv2.LINE_AA)
        for point in values[values[:, 2] > 0]:
            cv2.circle(canvas, place(point), 3, (0, 0, 0), cv2.FILLED)
            cv2.circle(canvas, place(point), 2, colour, cv2.FILLED)
    else:
        x, y, width, height = row["bbox"]
        cv2.rectangle(canvas, place((x, y)), place((x + width, y + height)), colour, 2)
    return canvas
