"""The command ``bmp track``: any objects of a video by their masks, points or boxes in one frame. Knows no network."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bmp.build import build_sam_pt
from bmp.checkpoints.sources import own_files
from bmp.config import load_config, parse_overrides
from bmp.console import Parser, add_volume, instant, report_failed, run_command, whole
from bmp.errors import UserError
from bmp.inference.objects import OWN_FILES, ObjectSettings, follow_objects
from bmp.io.atomic import alone_in, writing
from bmp.io.json_fields import JsonObject
from bmp.io.object_masks import frame_number, read_object_masks
from bmp.sam_pt import SAMPT, Query
from bmp.segmenters.automatic import automatic_masks
from bmp.structures import Frame

_VARIANTS = ("on-horizon-and-sync", "median-of-area", "similar-area", "similar-area-and-sync")
_MOST_OBJECTS = 254  # that an 8-bit picture has numbers for, without void


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    parser = _parser()

    def work(options: argparse.Namespace) -> int:
        return report_failed(parser.name, _track(options))

    return run_command(parser, work, arguments, interrupted="what is done is written, go on with --resume")


def _parser() -> Parser:
    parser = Parser(
        "bmp track",
        description="Follow any objects through a video by points (SAM-PT): masks as PNG files, objects.jsonl and a "
        "film with the objects drawn in it. FRAME is a number from 0; without it, the first that is read is meant.",
        epilog="exit codes: 0 all done, 1 some frames failed, 2 wrong use or an output that cannot be written, "
        "130 interrupted",
    )
    parser.add_argument("path", nargs="?", metavar="VIDEO", help="a film, a stream, a camera, a folder of pictures")
    parser.add_argument("-i", "--input", metavar="VIDEO", help="the same as VIDEO")
    parser.add_argument(
        "-c",
        "--config",
        default="sam21.py",
        help="config whose pipeline.segmenter is asked, and whose sam_pt has settings (default: %(default)s)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("bmp-output"), metavar="DIR", help="folder (default: %(default)s)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    given = parser.add_argument_group("objects")
    given.add_argument(
        "--masks",
        nargs="+",
        default=[],
        metavar="[FRAME=]PNG",
        help="picture whose palette or grey levels number the objects; or a folder of them, named by frame, in which "
        "each object begins where it is first seen",
    )
    given.add_argument(
        "--points",
        nargs="+",
        default=[],
        metavar='[FRAME=]"X,Y ..."',
        help='points on an object, each argument another object; "X,Y,0" is beside it',
    )
    given.add_argument(
        "--boxes", nargs="+", default=[], metavar="[FRAME=]X1,Y1,X2,Y2", help="box of an object, edges in pixels"
    )
    given.add_argument(
        "--objects",
        type=Path,
        metavar="FILE",
        help='JSON list of {"id", "frame", "points": [[x, y], ...], "labels": [1, 0, ...], "box": [x1, y1, x2, y2]}',
    )
    given.add_argument(
        "--everything",
        action="store_true",
        help="whatever the segmenter finds in the first frame, 100 masks at the most, which may overlap",
    )
    part = parser.add_argument_group("part of the video")
    part.add_argument(
        "--start", type=instant, default=0, metavar="T", help="begin at frame T, or at a time: 1.5 or 1:30"
    )
    part.add_argument("--end", type=instant, metavar="T", help="end before that frame or time")
    part.add_argument("--every", type=whole(1), default=1, metavar="N", help="take each Nth frame")
    how = parser.add_argument_group("how")
    how.add_argument("--backward", action="store_true", help="also follow objects towards the beginning")
    how.add_argument("--reinitialise", choices=_VARIANTS, help="draw points anew from masks found on the way")
    how.add_argument("--horizon", type=whole(2), metavar="N", help="frames until then at the most (default: 24)")
    how.add_argument("--overlap", action="store_true", help="masks may overlap: objects.jsonl has them whole")
    how.add_argument("--no-overlay", action="store_true", help="write no film with the objects drawn in it")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, N or cuda:N, mps (default: %(default)s)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an output folder")
    again.add_argument("--overwrite", action="store_true", help="start anew in an output folder that has results")
    add_volume(parser)
    return parser


def _track(options: argparse.Namespace) -> list[str]:
    """Check everything that can be wrong before the networks are loaded, then follow the objects."""
    source = _source(options)
    objects = _Objects(options)
    config = load_config(options.config, parse_overrides(options.set))
    section = {**config.get("sam_pt", {})} if isinstance(config.get("sam_pt", {}), dict) else {}
    if options.horizon and not options.reinitialise:
        raise UserError("--horizon goes with --reinitialise; give that, too")
    if options.reinitialise:
        rule = dict(type="bmp.sam_pt.Reinitialisation", variant=options.reinitialise, horizon=options.horizon or 24)
        section["reinitialisation"] = rule
    if options.overlap or options.everything:
        section["exclusive"] = False
    if options.everything:
        section["others"] = False
    config.sam_pt = section
    output: Path = options.output
    with writing(output, "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)
    with alone_in(output):
        if any((output / name).exists() for name in OWN_FILES) and not (options.resume or options.overwrite):
            raise UserError(
                f"{output} has the results of an earlier run; choose another folder with -o DIR, go on with --resume, "
                "or replace them with --overwrite"
            )
        model = build_sam_pt(config, options.device)
        segmenter = config.pipeline.segmenter.to_dict()
        info: JsonObject = {
            "segmenter": segmenter,
            "sam_pt": {**config.sam_pt},
            "objects": objects.digest,
            "files": own_files({"segmenter": segmenter, "sam_pt": {**config.sam_pt}}),
        }
        settings = ObjectSettings(
            output,
            start=options.start,
            end=options.end,
            every=options.every,
            backward=options.backward,
            overlay=not options.no_overlay,
            resume=options.resume,
            info=info,
            quiet=options.quiet,
        )
        queries = partial(_everything, model) if options.everything else objects.queries
        return follow_objects(model, source, queries, settings)


def _source(options: argparse.Namespace) -> str:
    named = [path for path in (options.path, options.input) if path is not None]
    if len(named) != 1:
        raise UserError(f"expected one video, got {len(named) or 'none'}: bmp track walk.mp4 --masks first.png")
    return str(named[0])


def _everything(model: SAMPT, first: Frame) -> list[Query]:
    """Return what there is in the first frame, as it is done for instance segmentation of videos."""
    (view,) = model.segmenter.open([first.image])
    found = automatic_masks(model.segmenter, view, first.image)
    if not len(found):
        raise UserError("--everything: the segmenter is sure of nothing in the first frame; give --masks or --points")
    return [Query(number, first.index, mask.cpu()) for number, mask in enumerate(found.bits, 1)]


class _Objects:
    """What is to be followed, as the options say it; frames that they leave out are known with the first frame.

    digest: by which the same objects are known again.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._rows: list[tuple[int | None, dict[str, Any]]] = []
        for text in options.masks:
            frame, path = _split(text, path=True)
            self._add_masks(frame, Path(path))
        if options.objects is not None:
            self._add_file(options.objects)
        for text in options.points:
            frame, words = _split(text)
            self._add(frame, _points_of(words, text))
        for text in options.boxes:
            frame, words = _split(text)
            self._add(frame, {"box": torch.tensor(_numbers(words, 4, text, "--boxes", "X1,Y1,X2,Y2"))})
        if bool(self._rows) == options.everything:
            raise UserError(
                "say what is to be followed: --masks PNG, --points X,Y, --boxes X1,Y1,X2,Y2, --objects FILE, or "
                "--everything by itself"
            )
        ids = [row["id"] for _, row in self._rows]
        twice = next((number for number in ids if ids.count(number) > 1), None)
        if twice is not None:
            raise UserError(f"object {twice} is given twice; one frame and one number for each object")
        if max(ids, default=0) > _MOST_OBJECTS:
            raise UserError(f"object {max(ids)}: expected numbers from 1 to {_MOST_OBJECTS}")
        plain = [[frame, {key: _plain(value) for key, value in row.items()}] for frame, row in self._rows]
        self.digest = hashlib.sha256(json.dumps(plain).encode()).hexdigest()
        for _, row in self._rows:  # whatever is wrong with one by itself
            Query(**row)

    def queries(self, first: Frame) -> list[Query]:
        """Return the objects, given the first frame that is read."""
        return [Query(**row, frame=first.index if frame is None else frame) for frame, row in self._rows]

    def _add(self, frame: int | None, row: dict[str, Any]) -> None:
        """Note an object with the next number that is free."""
        taken = {other["id"] for _, other in self._rows}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        self._rows.append((frame, {"id": number, **row}))

    def _add_masks(self, frame: int | None, path: Path) -> None:
        if not path.is_dir():
            self._rows += [(frame, {"id": number, "mask": mask}) for number, mask in read_object_masks(path).items()]
            return
        numbered = {frame_number(each): each for each in sorted(path.glob("*.png"))}
        files = sorted((number, each) for number, each in numbered.items() if number is not None)
        if not files:
            raise UserError(f"{path}: has no PNG whose name ends with the number of a frame, such as 00000.png")
        known: set[int] = set()
        for number, each in files:
            for which, mask in _objects_or_none(each).items():
                if which not in known:
                    known.add(which)
                    self._rows.append((number, {"id": which, "mask": mask}))

    def _add_file(self, path: Path) -> None:
        try:
            rows = json.loads(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}; check the spelling") from None
        except ValueError as error:
            raise UserError(f"{path}: not JSON ({error})") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{path}: expected a list of objects, such as {_EXAMPLE}")
        for place, row in enumerate(rows):
            where = f"{path}: entry {place}"
            if unknown := set(row) - {"id", "frame", "points", "labels", "box"}:
                raise UserError(f"{where}: {sorted(unknown)[0]!r} is unknown; expected one like {_EXAMPLE}")
            for key in ("id", "frame"):
                if key in row and (isinstance(row[key], bool) or not isinstance(row[key], int) or row[key] < 0):
                    raise UserError(f"{where}: {key}: expected a whole number from 0, got {row[key]!r}")
            values = {key: _tensor(row[key], where, key) for key in ("points", "labels", "box") if key in row}
            if "id" in row:
                self._rows.append((row.get("frame"), {"id": row["id"], **values}))
            else:
                self._add(row.get("frame"), values)


_EXAMPLE = '{"id": 1, "frame": 0, "points": [[120, 80]], "labels": [1]}'
_WIDTHS = {"points": (2, "[[x, y], ...]"), "labels": (0, "[1, 0, ...]"), "box": (0, "[x1, y1, x2, y2]")}


def _objects_or_none(path: Path) -> dict[int, torch.Tensor]:
    """Return the masks of a picture among others, which may be empty."""
    try:
        return read_object_masks(path)
    except UserError as error:
        if "has no object" in str(error):
            return {}
        raise


def _tensor(values: object, where: str, key: str) -> torch.Tensor:
    """Return the numbers of an entry, in the shape that they should have."""
    width, example = _WIDTHS[key]
    try:
        numbers = torch.tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.zeros(())
    shaped = numbers.ndim == 2 and numbers.shape[1] == width if width else numbers.ndim == 1
    if not shaped or not bool(torch.isfinite(numbers).all()) or (key == "box" and len(numbers) != 4):
        raise UserError(f"{where}: {key}: expected {example}, got {json.dumps(values):.60}")
    if key == "labels" and not bool(((numbers == 0) | (numbers == 1)).all()):
        raise UserError(f"{where}: labels: expected 1 for points on the object and 0 for those beside it")
    return numbers.to(torch.int8) if key == "labels" else numbers


def _split(text: str, path: bool = False) -> tuple[int | None, str]:
    """Return the frame before "=" and what comes behind it; None without one."""
    number, equals, rest = text.partition("=")
    if not equals or (path and Path(text).exists()):
        return None, text
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        if path:
            return None, text
        raise UserError(f"{text!r}: expected the number of a frame before '=', got {number!r}")
    return int(number), rest


def _points_of(words: str, text: str) -> dict[str, Any]:
    """Return the points that are separated by spaces or semicolons, and what they are."""
    rows = [_numbers(word, None, text, "--points", "X,Y or X,Y,0") for word in words.replace(";", " ").split()]
    if any(len(row) not in (2, 3) or row[2:] not in ([], [0], [1]) for row in rows) or not rows:
        raise UserError(f"--points {text!r}: expected X,Y for points on the object and X,Y,0 for those beside it")
    labels = torch.tensor([int(row[2]) if len(row) == 3 else 1 for row in rows], dtype=torch.int8)
    return {"points": torch.tensor([row[:2] for row in rows]), "labels": labels}


def _numbers(words: str, count: int | None, text: str, option: str, form: str) -> list[float]:
    try:
        numbers = [float(word) for word in words.split(",")]
    except ValueError:
        numbers = []
    if not numbers or (count is not None and len(numbers) != count) or not all(abs(n) < 1e9 for n in numbers):
        raise UserError(f"{option} {text!r}: expected {form}, numbers in pixels")
    return numbers


def _plain(value: Any) -> Any:
    """Return what stands for a value in a digest."""
    if not isinstance(value, torch.Tensor):
        return value
    return [list(value.shape), hashlib.sha256(value.numpy().tobytes()).hexdigest()]
