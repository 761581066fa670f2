"""Draws the picture of docs/architecture.md, and writes the tables of that page that come from the code.

    python docs/draw_architecture.py

Reads the files of the package without importing them. ``tests/test_docs.py`` fails where the page or the picture is
older than the code.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from imports import imports_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pipeline" / "bmp"
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "images" / "architecture.png"

# The rooms: each file at the root of the package, and each folder.
ROOMS = {
    "errors.py": "the error that is shown to the user as one line",
    "hints.py": "what a class takes, by its annotations, and whether a value fits",
    "distributed.py": "the processes of torchrun",
    "console.py": "what all commands share: options, progress, messages, exit codes",
    "label_sets": "what keypoints and body parts mean: the published sets, and conversions between them",
    "structures": "the records that stages exchange, checked when they are made",
    "stages.py": "the protocols: what a detector, a segmenter and the other stages and their parts are",
    "registry.py": "the names that configs use",
    "ops": "pure functions on tensors: boxes, masks, heatmaps, OKS",
    "loop.py": "the algorithm, on any stages that fit the protocols",
    "tracking": "who is who from frame to frame: matching, appearance, scene cuts",
    "video_loop.py": "the loop over the frames of a video, of which the image loop is a part",
    "io": "reading images, COCO JSON; writing people.json and journals; annotations to records and back",
    "checkpoints": "a name, the file behind it, and its tensors; the packaged nano weights",
    "config.py": "reading config files",
    "models": "networks, and how they are built",
    "detectors": "stages that find boxes, one file for each backend",
    "poses": "stages that estimate keypoints, one file for each backend",
    "segmenters": "stages that draw masks, and the policies that choose their prompts",
    "suppression": "stages that drop people found twice",
    "trackers": "parts that follow points through videos, one file for each backend",
    "parsers": "stages that tell the parts of each person's body, one file for each backend",
    "sam_pt": "any objects through a video, by points that prompt a segmenter: SAM-PT",
    "visualize.py": "overlays and traces",
    "api.py": "`bmp.BMP` and `bmp.People`: the loop as a library",
    "synthcrowd": "the generator of drawn crowds",
    "datasets": "photos with ground truth: COCO, OCHuman, CIHP, SynthCrowd, files of your own",
    "build.py": "from a config to a pipeline or a data set",
    "doctor.py": "`bmp doctor`: versions, device, presets with their weights, and remedies",
    "inference": "the loop over files and over data sets",
    "evaluation": "metrics, reports, published numbers, the tables of the paper",
    "training": "training and fine-tuning: detector, pose, segmenter",
    "apps": "`bmp serve`: the page on which people are put right, and the answers to programs",
    "plugins": "the pipeline inside MMPose",
    "cli.py": "the command `bmp`",
}


def rooms() -> list[Path]:
    """Return the files and folders at the root of the package that hold code."""
    files = [file for file in PACKAGE.glob("*.py") if not file.name.startswith("__")]
    return sorted(files + [folder.parent for folder in PACKAGE.glob("*/__init__.py")])


def lines(room: Path) -> int:
    """Return the number of lines of Python in a room."""
    files = [room] if room.is_file() else room.rglob("*.py")
    return sum(len(file.read_text().splitlines()) for file in files)


@cache
def room_imports() -> dict[str, set[str]]:
    """Return which rooms each room imports; imports in functions and under ``TYPE_CHECKING`` count as well."""
    names = {f"bmp.{room.stem}": room.name for room in rooms()}
    graph: dict[str, set[str]] = {room: set() for room in names.values()}
    for each in imports_of(PACKAGE):
        importer, imported = (".".join(name.split(".")[:2]) for name in (each.importer, each.imported))
        if importer in names and imported in names and importer != imported:
            graph[names[importer]].add(names[imported])
    return graph


def tree_table() -> str:
    """Return the table of rooms in Markdown: line counts are rounded, to stay true for longer."""
    rows = [
        f"| `{room}{'' if room.endswith('.py') else '/'}` | {_rounded(lines(PACKAGE / room))} | {text} |"
        for room, text in ROOMS.items()
    ]
    return "\n".join(["| room | lines | which holds |", "| --- | ---: | --- |", *rows])


def _rounded(number: int) -> int:
    step = 10 if number < 200 else 100
    return max(round(number / step), 1) * step


def imports_table() -> str:
    """Return the table of imports in Markdown, lowest rooms first."""
    graph, place = room_imports(), list(ROOMS).index
    rows = [f"| `{room}` | {', '.join(sorted(graph[room], key=place))} |" for room in ROOMS]
    return "\n".join(["| room | imports |", "| --- | --- |", *rows])


def backward() -> list[tuple[str, str]]:
    """Return the imports that go up in the order of ``ROOMS``; there must be none."""
    place = list(ROOMS).index
    return [(room, other) for room, others in room_imports().items() for other in others if place(other) > place(room)]


def between(text: str, name: str, content: str) -> str:
    """Return the text of a page with what lies between the two comments of ``name`` replaced by ``content``."""
    pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
    new, count = re.subn(pattern, lambda found: found[1] + content + found[2], text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE} should have the comments of {name!r} once, and has them {count} times")
    return new


def page() -> str:
    """Return the page as it should be."""
    return between(between(PAGE.read_text(), "rooms", tree_table()), "imports", imports_table())


def fingerprint() -> str:
    """Return what is stored in the picture to tell which version of this file drew it."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


_STAGE, _RECORD, _FOLDER, _USE, _GROUND = "#cfe3f7", "#ffffff", "#e4f2dc", "#fbe7c8", "#eeeeee"
_LINE = "#333333"


def draw() -> Figure:
    """Draw the way of the data through the loop, and the rooms over and under it."""
    figure = Figure(figsize=(13, 7.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 130), ylim=(0, 79))
    axes.axis("off")

    uses = (
        ("cli.py, doctor.py", "the command"),
        ("inference/", "files, data sets"),
        ("evaluation/", "metrics, reports"),
        ("training/", "makes the weights"),
        ("plugins/", "MMPose"),
    )
    for column, (name, text) in enumerate(uses):
        _box(axes, 1 + 26 * column, 70.5, 24, 7.5, f"{name}\n{text}", _USE)
    _box(axes, 1, 62, 63, 6, "config.py, build.py: from a config to stages and a loop", _USE)
    _box(axes, 66, 62, 63, 6, "api.py, visualize.py: the loop as a library", _USE)

    axes.add_patch(FancyBboxPatch((1, 32), 128, 27, boxstyle="round,pad=0,rounding_size=1.5", fc="#f7fafd", ec=_LINE))
    _note(axes, 2.5, 57, "loop.py: rounds 1, 2, ..., for all images together")
    _box(axes, 3, 38, 9, 8, "Image", _RECORD)
    _box(axes, 118.5, 38, 9, 8, "Masks", _RECORD)
    stages = (
        (16, "Detector", "detectors/"),
        (44, "PoseEstimator", "poses/"),
        (72, "Suppressor", "suppression/"),
        (100, "Segmenter", "segmenters/"),
    )
    for x, name, folder in stages:
        _box(axes, x, 38, 15, 8, name, _STAGE, bold=True)
        _box(axes, x - 2, 23, 19, 5.5, folder, _FOLDER)
        _arrow(axes, (x + 7.5, 28.7), (x + 7.5, 37.8), dashed=True)
    for start, end, record in (
        (12, 16, ""),
        (31, 44, "Detections\nboxes, scores,\nmasks"),
        (59, 72, "Poses\nkeypoints,\nvisibility"),
        (87, 100, "everybody\nonly once"),
        (115, 118.5, ""),
    ):
        _arrow(axes, (start, 42), (end, 42))
        _note(axes, (start + end) / 2, 42.6, record, ha="center", va="bottom", size=8.5)
    axes.plot([123, 123, 23.5, 23.5], [46, 52.5, 52.5, 48], color=_LINE, lw=1.4)
    _arrow(axes, (23.5, 50), (23.5, 46.2))
    _note(
        axes,
        73,
        53,
        "overlaps resolved; everybody found is painted black; the next round detects again",
        ha="center",
        va="bottom",
    )
    _arrow(axes, (123, 38), (123, 28.7))
    _box(axes, 118.5, 23, 9, 5.5, "Instances", _RECORD)

    _box(axes, 1, 12.5, 41, 7.5, "models/\nnetworks, and how they are built", _FOLDER)
    _box(axes, 44, 12.5, 41, 7.5, "checkpoints/\nfrom a name to tensors", _FOLDER)
    _box(axes, 87, 12.5, 42, 7.5, "io/, datasets/, synthcrowd/\nimages, annotations, ground truth", _FOLDER)
    _box(
        axes,
        1,
        1,
        128,
        9,
        "structures/: records        stages.py: protocols      ops/: functions on tensors\n"
        "label_sets.py: keypoints, parts      registry.py: names in configs      errors.py, console.py, distributed.py",
        _GROUND,
    )
    return figure


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, bold: bool = False
) -> None:
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1", fc=colour, ec=_LINE, lw=1.1)
    )
    weight = "bold" if bold else "normal"
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10.5, weight=weight)


def _note(axes: Axes, x: float, y: float, text: str, ha: str = "left", va: str = "center", size: float = 10) -> None:
    axes.text(x, y, text, ha=ha, va=va, fontsize=size, style="italic")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], dashed: bool = False) -> None:
    style = dict(
        arrowstyle="-|>", color=_LINE, lw=1.0 if dashed else 1.4, ls=":" if dashed else "-", shrinkA=0, shrinkB=0
    )
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def main() -> None:
    """Write the page and the picture."""
    PAGE.write_text(page())
    draw().savefig(PICTURE, dpi=100, metadata={"Comment": fingerprint()})


if __name__ == "__main__":
    main()
