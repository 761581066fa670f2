"""Labels of very many photos as Parquet files, a row a photo with its people nested; knows no network.

A shard is there whole or not at all, under a name that follows from the photos in it: whoever makes it once more
replaces it by the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import NotRequired, TypedDict

from bmp.errors import UserError
from bmp.io.atomic import replacing, replacing_path, writing
from bmp.io.json_fields import JsonObject, read_json
from bmp.label_sets import KeypointSet, sets_named
from bmp.ops.masks import RunLengths

if TYPE_CHECKING:
    import pyarrow

SHARDS, COCO_SHARDS, SETTINGS, TRIES = "shards", "coco", "label.json", "tries"
_KEYPOINTS = b"bmp.keypoints"
_SHARD_NAME = re.compile(r"\d{8,}-[0-9a-f]{12}\.parquet")


class PersonRow(TypedDict):
    """A person, as ``bmp.io.annotations.to_annotations`` writes one; None where a pipeline has no such number."""

    bbox: list[float]
    area: int
    score: float
    mask_score: float
    agreement: float | None
    round: int
    segmentation: RunLengths
    keypoints: list[float]
    keypoint_scores: list[float]
    keypoint_visibility: list[float]
    keypoint_presence: list[float]


class PhotoRow(TypedDict):
    """A photo. error: why it could not be done, None if it was; then height and width are those of the photo."""

    id: str
    height: int | None
    width: int | None
    sha256: str | None
    notices: list[str]
    error: str | None
    people: list[PersonRow]
    shard: NotRequired[str]


def schema() -> pyarrow.Schema:
    """Return the schema of all shards; ``docs/label.md`` says what the columns mean."""
    pa = _arrow()
    numbers = pa.list_(pa.float32())
    person = {
        "bbox": pa.list_(pa.float32(), 4),
        "area": pa.int32(),
        "score": pa.float32(),
        "mask_score": pa.float32(),
        "agreement": pa.float32(),
        "round": pa.int16(),
        "segmentation": pa.struct({"size": pa.list_(pa.int32(), 2), "counts": pa.string()}),
        "keypoints": numbers,
        "keypoint_scores": numbers,
        "keypoint_visibility": numbers,
        "keypoint_presence": numbers,
    }
    return pa.schema(
        {
            "id": pa.string(),
            "height": pa.int32(),
            "width": pa.int32(),
            "sha256": pa.string(),
            "notices": pa.list_(pa.string()),
            "error": pa.string(),
            "people": pa.list_(pa.struct(person)),
        }
    )


def shard_name(number: int, ids: Sequence[str]) -> str:
    """Return the name of a shard: its place among all of the run, and what the photos in it are."""
    return f"{number:08d}-{hashlib.sha256(chr(10).join(ids).encode()).hexdigest()[:12]}.parquet"


def write_shard(folder: Path, name: str, rows: Sequence[PhotoRow], keypoints: Sequence[str]) -> None:
    """Write a shard in one step; ``keypoints`` are the names of those of its people, which it keeps as metadata."""
    import pyarrow.parquet

    columns = schema().with_metadata({_KEYPOINTS: json.dumps(list(keypoints))})
    table = _arrow().Table.from_pylist([dict(row) for row in rows], schema=columns)
    with replacing_path(folder / SHARDS / name, shared=True) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def shards_in(folder: Path) -> list[Path]:
    """Return the shards of a run in the order of their photos."""
    return sorted(path for path in (folder / SHARDS).glob("*.parquet") if _SHARD_NAME.fullmatch(path.name))


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed have left beside the shards, which others would read as well."""
    for path in (folder / SHARDS).glob("*.parquet"):
        if not _SHARD_NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)


def finished(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the id of each photo that is done, and whether it could be; shards that are cut off are removed."""
    for path in shards_in(folder):
        try:
            table = _parquet_table(path, ["id", "error"])
        except (OSError, ValueError):  # from a file system whose renames are not what they should be
            path.unlink()
            continue
        for name, error in zip(table["id"].to_pylist(), table["error"].to_pylist(), strict=True):
            yield name, error is None


def read_shards(folder: Path, *, people: bool = True) -> Iterator[PhotoRow]:
    """Yield each photo of a run once, in order, with its shard; without ``people`` their list is empty.

    Raises:
        UserError: there are no shards, or one of them cannot be read.
    """
    paths = shards_in(folder)
    if not paths:
        raise UserError(f"{folder}: holds no labels; name the --output of bmp label")
    names = [name for name in schema().names if people or name != "people"]
    seen: set[bytes] = set()
    for path in paths:
        try:
            table = _parquet_table(path, names)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read, {error}; remove it and run bmp label once more") from None
        for row in table.to_pylist():
            key = hashlib.blake2b(row["id"].encode(), digest_size=12).digest()
            if key not in seen:
                seen.add(key)
                photo: PhotoRow = row
                photo.setdefault("people", [])
                photo["shard"] = path.stem
                yield photo


def read_shard(path: Path) -> list[PhotoRow]:
    """Return the photos of one shard; ``ValueError`` and ``OSError`` where it cannot be read."""
    rows: list[PhotoRow] = _parquet_table(path, schema().names).to_pylist()
    return rows


def keypoints_in(path: Path) -> KeypointSet:
    """Return what the keypoints of a shard's people mean, by the names that it keeps."""
    import pyarrow.parquet

    names: list[str] = json.loads(pyarrow.parquet.read_schema(path).metadata[_KEYPOINTS])
    return next(iter(sets_named(names)), None) or KeypointSet(tuple(names), (0.05,) * len(names), (), ())


def _parquet_table(path: Path, columns: list[str]) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path, columns=columns)


def claim_settings(folder: Path, settings: JsonObject) -> None:
    """Write down the settings of a run in a folder that exists, or compare them with those that are there.

    Raises:
        UserError: labels of other settings are there.
    """
    path = folder / SETTINGS
    with writing(folder):
        (folder / SHARDS).mkdir(exist_ok=True)
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        if shards_in(folder):
            raise UserError(f"{folder}: has shards without {SETTINGS}; choose another --output")
        with writing(folder), replacing(path) as file:
            json.dump(settings, file, indent=1)
        return
    earlier = run_settings(folder)
    differing = [name for name in {**settings, **earlier} if settings.get(name) != earlier.get(name)]
    if differing:
        raise UserError(
            f"{folder}: has labels of other settings ({', '.join(differing)}); choose another --output, or take the "
            "same config and weights"
        )


def run_settings(folder: Path) -> JsonObject:
    """Return the settings of the run in a folder; ``UserError`` where there is none."""
    path = folder / SETTINGS
    if not path.exists():
        raise UserError(f"{folder}: holds no labels; name the --output of bmp label")
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: not as bmp label writes it")
    return data


class Tries:
    """Notes of which photos a shard's maker is working on, so that one that kills its process is found out.

    A note lies there while photos are worked on, and stays where the process ends meanwhile.

    Args:
        folder: of the run.
        name: of the shard.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / TRIES / Path(name).stem
        self.counts: dict[str, int] = {}
        for note in self._folder.glob("*.json") if self._folder.exists() else ():
            try:
                ids: list[str] = json.loads(note.read_text())
            except (OSError, ValueError):  # cut off, or removed at this moment
                continue
            for name in ids:
                self.counts[name] = self.counts.get(name, 0) + 1

    @contextmanager
    def working_on(self, ids: Sequence[str]) -> Iterator[None]:
        """Note that photos are being worked on for as long as the context lasts, or the process does not end it."""
        note = self._folder / f"{os.urandom(8).hex()}.json"
        try:
            with writing(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                note.write_text(json.dumps(list(ids)))
            yield
        finally:
            note.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all notes, once the shard is written."""
        for note in self._folder.glob("*.json") if self._folder.exists() else ():
            note.unlink(missing_ok=True)
        if self._folder.exists():
            self._folder.rmdir()


def rounded(person: Mapping[str, Any]) -> JsonObject:
    """Return a person's numbers as they were before they were stored in 32 bits."""
    two, four = ("bbox", "keypoints"), ("keypoint_scores", "keypoint_visibility", "keypoint_presence")
    row: JsonObject = {name: value for name, value in person.items() if value is not None}
    for names, digits in ((two, 2), (four, 4)):
        row |= {name: [round(value, digits) for value in row[name]] for name in names if name in row}
    row |= {name: round(row[name], 4) for name in ("score", "mask_score", "agreement") if name in row}
    row["keypoints"] = [int(value) if place % 3 == 2 else value for place, value in enumerate(row["keypoints"])]
    return row


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UserError("bmp label needs pyarrow: pip install 'bmp-pose[parquet]'") from None
    return pyarrow
