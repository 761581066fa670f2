"""COCO files of the shards of ``bmp label``: one of all by ``bmp merge``, or one of each. Knows no network.

Memory does not grow with the number of people.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

from bmp.console import Parser, add_volume, run_command, share, whole
from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID, category
from bmp.io.atomic import replacing, writing
from bmp.io.json_fields import JsonObject
from bmp.io.label_shards import (
    COCO_SHARDS,
    SHARDS,
    PhotoRow,
    keypoints_in,
    read_shard,
    read_shards,
    rounded,
    run_settings,
    shards_in,
)
from bmp.label_sets import KeypointSet


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return run_command(_parser(), _merge, arguments, interrupted="nothing half written is left")


def _parser() -> Parser:
    parser = Parser(
        "bmp merge",
        {"--conf": "--min-score", "--threshold": "--min-score"},
        description="Make one COCO file of what bmp label has written, or several, with everybody in it or with those "
        "that are sure enough.",
        epilog="exit codes: 0 all done, 2 wrong use or an output that cannot be written",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the --output of bmp label")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="COCO JSON (default: people.json in DIR)")
    parser.add_argument("--min-score", type=share, default=0.0, metavar="S", help="leave out people that score below S")
    parser.add_argument(
        "--min-agreement", type=share, default=0.0, metavar="A", help="leave out people whose agreement is below A"
    )
    parser.add_argument(
        "--split", type=whole(1), metavar="N", help="write files of N photos each: FILE with -00000, ... in its name"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_volume(parser)
    return parser


def _merge(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    settings = run_settings(folder)
    output: Path = options.output or folder / "people.json"
    filters = {name: getattr(options, name) for name in ("min_score", "min_agreement") if getattr(options, name)}
    root, total = _root_and_count(folder)
    keypoints = keypoints_in(shards_in(folder)[0])
    info = _info(root, settings, filters)
    size = options.split or total
    images = enumerate(read_shards(folder, people=False), 1)
    everything = enumerate(read_shards(folder), 1)
    photos = people = left_out = failed = 0
    for part in range(-(-total // size)):
        path = output if options.split is None else output.with_name(f"{output.stem}-{part:05d}{output.suffix}")
        if path.exists() and not options.overwrite:
            raise UserError(f"{path} exists; choose another with -o FILE, or replace it with --overwrite")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                _write_head(file, info, keypoints)
                done, lost = _write_images(file, islice(images, size), root)
                found, unsure = _write_people(file, islice(everything, size), filters)
        photos, people, left_out, failed = photos + done, people + found, left_out + unsure, failed + lost
    if not options.quiet:
        print(f"{people} people in {photos} photos: {output}")
        if left_out:
            print(f"{left_out} people left out, below {' or '.join(f'{k} {v:g}' for k, v in filters.items())}")
        if failed:
            print(f"{failed} photos failed, see failed in the file")
    return 0


def write_coco_shard(folder: Path, name: str) -> None:
    """Write the COCO file of a shard, which is complete in itself: ids start from 1, and names are ids of photos.

    Args:
        folder: of the run.
        name: of the shard.
    """
    shard = folder / SHARDS / name
    numbered = list(enumerate(read_shard(shard), 1))
    (folder / COCO_SHARDS).mkdir(exist_ok=True)
    # A worker that was taken for dead may be writing the same.
    with replacing(_coco_shard(folder, name), shared=True) as file:
        _write_head(file, _info("", run_settings(folder), {}), keypoints_in(shard))
        _write_images(file, numbered, None)
        _write_people(file, numbered, {})


def complete_coco_shards(folder: Path) -> None:
    """Write the COCO files of shards that have none, and remove those of shards that are not there."""
    shards = {_coco_shard(folder, path.name): path.name for path in shards_in(folder)}
    for path in (folder / COCO_SHARDS).glob("*.json"):
        if path not in shards:
            path.unlink()
    for path, name in shards.items():
        if not path.exists():
            write_coco_shard(folder, name)


def _coco_shard(folder: Path, name: str) -> Path:
    return (folder / COCO_SHARDS / name).with_suffix(".json")


def _info(root: str, settings: JsonObject, filters: Mapping[str, float]) -> JsonObject:
    return {"description": "people found by BMP", "root": root, **settings, **filters}


def _write_head(file: TextIO, info: JsonObject, keypoints: KeypointSet) -> None:
    file.write(f'{{"info": {json.dumps(info)}, "categories": {json.dumps([category(keypoints)])},\n')


def _write_images(file: TextIO, rows: Iterable[tuple[int, PhotoRow]], root: str | None) -> tuple[int, int]:
    """Write the photos, and those that failed; return how many of each there are.

    Names start from ``root``, or are the ids of the photos where that is None.
    """
    photos, failed = 0, []
    file.write('"images": [')
    for number, row in rows:
        name = row["id"] if root is None else _relative(row["id"], root)
        if row["error"] is not None:
            failed.append({"file_name": name, "reason": row["error"]})
            continue
        image = {"id": number, "file_name": name, "height": row["height"], "width": row["width"]}
        image |= {"sha256": row["sha256"]} | ({"notices": row["notices"]} if row["notices"] else {})
        file.write(f"{',' if photos else ''}\n{json.dumps(image)}")
        photos += 1
    file.write(f'\n],\n"failed": {json.dumps(failed)},\n')
    return photos, len(failed)


def _write_people(file: TextIO, rows: Iterable[tuple[int, PhotoRow]], filters: Mapping[str, float]) -> tuple[int, int]:
    """Write those who are sure enough, and the end of the file; return how many they are, and how many are not."""
    people = left_out = 0
    file.write('"annotations": [')
    for number, row in rows:
        for person in row["people"]:
            entry = rounded(person)
            if any(entry.get(name.removeprefix("min_"), 0.0) < value for name, value in filters.items()):
                left_out += 1
                continue
            head = {"id": people + 1, "image_id": number, "category_id": CATEGORY_ID, "iscrowd": 0}
            labelled = sum(flag > 0 for flag in entry["keypoints"][2::3])
            file.write(f"{',' if people else ''}\n{json.dumps({**head, **entry, 'num_keypoints': labelled})}")
            people += 1
    file.write("\n]}\n")
    return people, left_out


def _root_and_count(folder: Path) -> tuple[str, int]:
    """Return what the ids of all photos begin with, up to a slash, and how many photos there are."""
    low = high = ""
    number = 0
    for number, row in enumerate(read_shards(folder, people=False), 1):
        name = row["id"]
        low, high = (name, name) if number == 1 else (min(low, name), max(high, name))
    # Of paths and of addresses alike, letter by letter: whatever lies between two has their beginning in common.
    return os.path.commonprefix([low, high]).rpartition("/")[0], number  # noqa: RUF071


def _relative(name: str, root: str) -> str:
    return name[len(root) :].lstrip("/") if root else name.lstrip("/")
