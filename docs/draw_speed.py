"""Draws the cost of what lies around the networks over people, pixels and rounds; writes the tables of docs/speed.md.

    python benchmarks/overhead.py --people 2 10 20 50 100 200 --output benchmarks/results/overhead_people.json
    python benchmarks/overhead.py --megapixels 1 2 4 8 12 24 --output benchmarks/results/overhead_pixels.json
    python benchmarks/overhead.py --rounds 1 2 3 4 --output benchmarks/results/overhead_rounds.json
    python docs/draw_speed.py

It measures nothing itself. The tables lie between marks ``speed: NAME`` and come from the same folder.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "images" / "speed_curves.png"
STAGES = {
    "pose": "crops",
    "detector": "detector: input, masks",
    "segmenter: encode": "segmenter: input",
    "segmenter: decode": "segmenter: masks",
    "run lengths": "run lengths",
    "rest": "the loop itself, suppression",
}
CURVES = {"people": "people in 12 megapixels", "megapixels": "megapixels, 20 people", "rounds": "rounds, 20 people"}
FILES = {"people": "overhead_people", "megapixels": "overhead_pixels", "rounds": "overhead_rounds"}


def main() -> None:
    """Write the picture and the tables."""
    argparse.ArgumentParser(
        "python docs/draw_speed.py", description="Draw the curves and tables of speed."
    ).parse_args()
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    measured = {key: label for key, label in CURVES.items() if (RESULTS / f"{FILES[key]}.json").exists()}
    for axes, (key, label) in zip(figure.subplots(1, len(measured)), measured.items(), strict=True):
        rows = [row for row in _rows(FILES[key]) if row["people"]]
        x = [row[key] for row in rows]
        parts = [[_part(row, name) for row in rows] for name in STAGES]
        axes.stackplot(x, parts, labels=list(STAGES.values()), alpha=0.85)
        axes.set(xlabel=label, ylim=(0, None), xlim=(min(x), max(x)))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("seconds of CPU")
    figure.axes[0].legend(loc="upper left", fontsize=8)
    figure.savefig(PICTURE, dpi=110)
    page = ROOT / "docs" / "speed.md"
    page.write_text(_with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


def _part(row: dict[str, Any], name: str) -> float:
    seconds: dict[str, float] = row["seconds"]
    if name != "rest":
        return seconds[name]
    named = sum(seconds[each] for each in STAGES if each not in ("rest", "run lengths"))
    return seconds["whole loop"] - named


def _with_tables(text: str) -> str:
    """Return a page with its tables written anew; each lies between two marks."""

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n{chr(10).join(TABLES[found[2]]())}\n{found[4]}"

    return re.sub(r"(<!-- speed: ([a-z ]+) -->)\n(.*?)(<!-- end -->)", table, text, flags=re.DOTALL)


def _overhead() -> Iterator[str]:
    yield "| people in 12 megapixels | seconds of CPU | ms a person | memory above the start |"
    yield "| ---: | ---: | ---: | ---: |"
    for row in (row for row in _rows("overhead_people") if row["people"]):
        seconds = row["seconds"]["whole loop"] + row["seconds"]["run lengths"]
        each = 1000 * seconds / row["people"]
        yield f"| {row['people']} | {seconds:.2f} | {each:.0f} | {row['peak'] / 2**20:.0f} MiB |"


def _engines() -> Iterator[str]:
    content = json.loads((RESULTS / "cpu_bmp_v2_engines.json").read_text(encoding="utf-8"))
    sides = list(content["timings"])
    yield f"| seconds | {' | '.join(sides)} |"
    yield f"| --- |{' ---: |' * len(sides)}"
    for name in ("detector", "pose", "segmenter: encode", "segmenter: decode", "loop"):
        values = (content["timings"][side].get(name) for side in sides)
        yield f"| {name} | {' | '.join('' if each is None else format(each['median'], '.2f') for each in values)} |"
    ratios = ("" if side == "published" else format(content["ratios"][side], ".2f") for side in sides)
    yield f"| **published / ours** | {' | '.join(ratios)} |"


def _peers() -> Iterator[str]:
    content = json.loads((RESULTS / "cpu_peers.json").read_text(encoding="utf-8"))
    yield "| network | seconds of CPU | parameters, millions |"
    yield "| --- | ---: | ---: |"
    for row in content["rows"]:
        yield f"| {row['network']} | {row['seconds']:.2f} | {row['parameters']:.1f} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {"overhead": _overhead, "engines": _engines, "peers": _peers}

if __name__ == "__main__":
    main()
