"""The command ``bmp convert``: labels of people from COCO's format into those of other programs, and back.

Knows no network and no picture but for the sizes of photos. ``docs/convert.md`` says what each format carries.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bmp.console import Parser, add_volume, run_command
from bmp.errors import UserError, choices
from bmp.io.atomic import replacing, writing
from bmp.io.coco_json import Labels, check_labels, read_labels
from bmp.io.json_fields import JsonObject
from bmp.label_sets import KEYPOINT_SETS

_LOGGER = logging.getLogger("bmp")
_COCO = "coco"
_ROWS_AS_THEY_ARE = (_COCO, "mmpose", "crowdpose")

Writer = Callable[[Labels, Path], list[str]]
Reader = Callable[[Path, "Path | None"], tuple[JsonObject, list[str]]]


@dataclass(frozen=True)
class Format:
    """A format of labelled photos.

    output: name of the file or, with "/", of the folder it is written to, beside the labels unless another is given.
    lacks: what has no place in it. write: returns what else was left out. read: given the file or folder, and the
    folder of the photos; None for formats that ``read_labels`` reads.
    """

    output: str
    lacks: tuple[str, ...]
    write: Writer
    read: Reader | None


def formats() -> dict[str, Format]:
    """Return all formats by name."""
    from bmp.io.formats import cvat, keypoint_files, label_studio, labelme, mask_pictures, table, voc, yolo

    return {
        "yolo-pose": Format("yolo/", ("masks", "scores"), partial(yolo.write_yolo, kind="yolo-pose"), yolo.read_yolo),
        "yolo-seg": Format(
            "yolo/", ("boxes", "keypoints", "scores"), partial(yolo.write_yolo, kind="yolo-seg"), yolo.read_yolo
        ),
        "cvat": Format("annotations.xml", (), cvat.write_cvat, cvat.read_cvat),
        "label-studio": Format("label-studio/", (), label_studio.write_label_studio, label_studio.read_label_studio),
        "labelme": Format("labelme/", ("scores",), labelme.write_labelme, labelme.read_labelme),
        "voc": Format("voc/", ("masks", "keypoints", "scores"), voc.write_voc, voc.read_voc),
        "masks": Format(
            "masks/", ("boxes", "keypoints", "scores"), mask_pictures.write_masks, mask_pictures.read_masks
        ),
        "csv": Format("people.csv", (), table.write_table, table.read_table),
        "parquet": Format("people.parquet", (), table.write_table, table.read_table),
        "crowdpose": Format("crowdpose.json", (), keypoint_files.write_crowdpose, None),
        "mmpose": Format("mmpose/", (), keypoint_files.write_mmpose, None),
        _COCO: Format("coco.json", (), write_coco, None),
    }


def write_coco(labels: Labels, path: Path) -> list[str]:
    """Write COCO's JSON; nothing is left out."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            json.dump(labels.dataset, file)
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return run_command(_parser(), _convert, arguments, interrupted="nothing half written is left")


def _parser() -> Parser:
    names = ", ".join(formats())
    parser = Parser(
        "bmp convert",
        {"--format": "--to", "--out": "--output"},
        description="Write labels of people in the format of another program, or read them back. "
        "docs/convert.md says what each format carries.",
        epilog="exit codes: 0 all done, 2 wrong use, a file that is not as it should be, or an output that cannot be "
        "written",
    )
    parser.add_argument("path", type=Path, metavar="FILE", help="people.json or any COCO file; or what is read back")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {names}")
    parser.add_argument("--from", dest="source", metavar="FORMAT", help="what FILE is (default: what it looks like)")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="file or folder (default: beside FILE)")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the photos, to read YOLO's labels and masks back"
    )
    parser.add_argument("--keypoints", metavar="NAME", help="keypoint set of FILE, where the file does not say it")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    add_volume(parser)
    return parser


def _convert(options: argparse.Namespace) -> int:
    known = formats()
    for name in (options.to, options.source or _COCO):
        if name not in known:
            raise UserError(f"there is no format {name!r}; {choices(name, known)}")
    if options.keypoints is not None and options.keypoints not in KEYPOINT_SETS:
        raise UserError(f"there is no keypoint set {options.keypoints!r}; {choices(options.keypoints, KEYPOINT_SETS)}")
    path: Path = options.path.expanduser()
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    target = known[options.to]
    output = options.output or path.absolute().parent / target.output.rstrip("/")
    if target.output.endswith("/") and output.exists() and not output.is_dir():
        raise UserError(f"{output}: {options.to} is a folder of files, and this is a file; choose another with -o PATH")
    if output.exists() and (not target.output.endswith("/") or any(output.iterdir())) and not options.overwrite:
        raise UserError(f"{output} exists; choose another with -o PATH, or replace it with --overwrite")
    labels, notices = read_any(path, options.source, options.images, options.keypoints)
    with writing(output):
        (output if target.output.endswith("/") else output.parent).mkdir(parents=True, exist_ok=True)
    lost = target.write(labels, output)
    crowds = sum(row["iscrowd"] for row in labels.dataset["annotations"])
    if crowds and options.to not in (_COCO, "mmpose"):
        lost.append(f"{crowds} crowd regions")
    has = {
        "masks": any("segmentation" in row for row in labels.dataset["annotations"]),
        "keypoints": any("keypoints" in row for row in labels.dataset["annotations"]),
        "scores": any("score" in row for row in labels.dataset["annotations"]),
        "boxes": True,
    }
    missing = [what for what in target.lacks if has[what]]
    if options.to not in _ROWS_AS_THEY_ARE:
        more = {"parts": "parts of bodies", "edited": "marks of what was edited"}
        missing += [what for field, what in more.items() if any(field in row for row in labels.dataset["annotations"])]
    if missing:
        lost.append(f"{', '.join(missing)}, which have no place in {options.to}")
    for line in [*notices, *(f"left out: {what}" for what in lost)]:
        _LOGGER.warning(line)
    if not options.quiet:
        photos, people = len(labels.dataset["images"]), len(labels.dataset["annotations"]) - crowds
        print(f"{people} people in {photos} photos: {output}")
    return 0


def read_any(
    path: Path, source: str | None = None, images: Path | None = None, keypoints: str | None = None
) -> tuple[Labels, list[str]]:
    """Read labels in any of the formats; return them, and a line for each kind of thing that was left out or filled in.

    Args:
        path: the file or folder.
        source: its format; None for what it looks like.
        images: folder of the photos, for formats that do not hold their sizes.
        keypoints: name of the keypoint set, for COCO files that do not say it.

    Raises:
        UserError: it cannot be read, or looks like none of the formats.
    """
    name = source or recognised(path)
    read = formats()[name].read
    if name == "mmpose" and path.is_dir():
        path = path / "annotations.json"
    if read is None:
        labels = read_labels(path, keypoints)
        return labels, labels.notices
    data, left_out = read(path, images)
    labels = check_labels(path, data)
    return labels, [*(f"{path}: left out {what}" for what in left_out), *labels.notices]


def recognised(path: Path) -> str:
    """Return the name of the format that a file or folder looks like; ``UserError`` where it could be several."""
    from bmp.io.formats.label_studio import TASKS
    from bmp.io.formats.yolo import DATA

    if path.is_dir():
        marks = {DATA: "yolo-pose", TASKS: "label-studio", "Annotations": "voc", "annotations.json": "mmpose"}
        for mark, name in marks.items():
            if (path / mark).exists():
                return name
        suffixes = {found.suffix for found in path.rglob("*") if found.is_file()}
        found = [
            name for suffix, name in ((".png", "masks"), (".xml", "voc"), (".json", "labelme")) if suffix in suffixes
        ]
        if len(found) == 1:
            return found[0]
        raise UserError(f"{path}: cannot tell the format of this folder; say it with --from FORMAT")
    if path.suffix == ".xml":
        return "cvat"
    if path.suffix in (".csv", ".parquet"):
        return path.suffix[1:]
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    return "label-studio" if start.startswith(b"[") else _COCO
