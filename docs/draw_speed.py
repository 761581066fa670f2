"""Draws the cost of what lies around the networks over people, pixels and rounds; writes the tables of speed.

    python benchmarks/overhead.py --people 2 10 20 50 100 200 --output benchmarks/results/overhead_people.json
    python benchmarks/overhead.py --megapixels 1 2 4 8 12 24 --output benchmarks/results/overhead_pixels.json
    python benchmarks/overhead.py --rounds 1 2 3 4 --output benchmarks/results/overhead_rounds.json
    python docs/draw_speed.py

It measures nothing itself. The tables lie between marks ``speed: NAME`` in docs/speed.md and README.md and come from
the same folder.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "images" / "speed_curves.png"
PAGES = (ROOT / "docs" / "speed.md", ROOT / "README.md")
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
    from matplotlib.figure import Figure  # slow to import, and not needed for the tables

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
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


def _part(row: dict[str, Any], name: str) -> float:
    seconds: dict[str, float] = row["seconds"]
    if name != "rest":
        return seconds[name]
    named = sum(seconds[each] for each in STAGES if each not in ("rest", "run lengths"))
    return seconds["whole loop"] - named


def with_tables(text: str) -> str:
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


_SIDES = {
    "published": "published schedule",
    "torch": "ours",
    "openvino": "ours, OpenVINO",
    "onnxruntime": "ours, ONNX Runtime",
    "modern.py": "`modern.py`",
}
_PARTS = ("detector", "pose", "segmenter: encode", "segmenter: decode")


def _measured(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def _sides() -> Iterator[tuple[str, dict[str, float], str]]:
    """Yield the name of each side of the whole measurement, its seconds by part, and its ratio to the published one."""
    content = _measured("cpu_bmp_v2_engines")
    for side, label in _SIDES.items():
        if side in content["timings"]:
            seconds = {name: timing["median"] for name, timing in content["timings"][side].items()}
            yield label, seconds, "" if side == "published" else f"{content['ratios'][side]:.2f}"


def _conditions(content: dict[str, Any]) -> str:
    """Say what a measurement is worth: on what it was made, by which clock, and beside how much other work."""
    machine = content["machine"]
    threads, load = machine["threads"], machine["load"]
    told = f"{_unit(content['settings'])}, {threads} thread{'s' * (threads > 1)}, {machine['processor']}"
    if _unit(content["settings"]) == "seconds of CPU" or load < 0.3:
        return told
    return f"{told}, beside other work for {load:.1f} times its cores, so that ratios say a little and seconds nothing"


def _unit(settings: dict[str, Any]) -> str:
    return "seconds of time" if settings.get("clock", "time") == "time" else "seconds of CPU"


def _networks() -> Iterator[str]:
    content, peers = _measured("cpu_bmp_v2_engines"), _measured("cpu_peers")
    told = f'The first lines: {_conditions(content)}. Lines with "once", single passes: {_conditions(peers)}.'
    if "modern.py" in content["timings"]:
        told += " `modern.py` is RF-DETR at 384 pixels, ViTPose+-b and SAM 2.1 b+ of transformers."
    yield from textwrap.wrap(told, 120)
    yield ""
    yield "| | detector | pose | image encoder | mask decoder | whole loop | published / this |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for label, seconds, ratio in _sides():
        parts = (f"{seconds[name]:.2f}" if seconds.get(name, 0) >= 0.005 else "" for name in _PARTS)
        yield f"| {label} | {' | '.join(parts)} | {seconds['loop']:.2f} | {ratio} |"
    for row in peers["rows"]:
        parts = (f"{row['seconds']:.2f}" if row["part"] == name else "" for name in _PARTS)
        yield f"| once: {row['network']} | {' | '.join(parts)} | | |"


_GFLOP = {"detector": 2 * 193.0, "pose": 10 / 8 * 350, "segmenter: encode": 647.0, "segmenter: decode": 5 / 4 * 14.7}
"""Of two looks, ten crops, one image, five people: counted by torch's own counter."""


def _profile() -> Iterator[str]:
    content = _measured("cpu_bmp_v2_engines")
    seconds = {name: timing["median"] for name, timing in content["timings"]["torch"].items()}
    yield f"| part | {_unit(content['settings'])} | share | GFLOP | GFLOP a second |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name in (*_PARTS, "suppressor", "loop itself"):
        share, work = seconds[name] / seconds["loop"], _GFLOP.get(name)
        counted = ("", "") if work is None else (f"{work:.0f}", f"{work / seconds[name]:.0f}")
        yield f"| {name} | {seconds[name]:.2f} | {share:.1%} | {' | '.join(counted)} |"


def _in_short() -> Iterator[str]:
    unit = _unit(_measured("cpu_bmp_v2_engines")["settings"])
    yield from textwrap.wrap(f"In {_conditions(_measured('cpu_bmp_v2_engines'))}.", 120)
    yield ""
    yield f"| one photo, 4 people and one more in round 2 | {unit} | published / this |"
    yield "| --- | ---: | ---: |"
    for label, seconds, ratio in _sides():
        yield f"| {label} | {seconds['loop']:.1f} | {ratio} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "overhead": _overhead,
    "networks": _networks,
    "profile": _profile,
    "in short": _in_short,
}

if __name__ == "__main__":
    main()
