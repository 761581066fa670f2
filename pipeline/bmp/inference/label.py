"""The command ``bmp label``: very many photos, in shards that are finished one by one, by this process or on Ray.

Knows no network. Whatever is killed, the same command ends with the same labels: a shard is written in one step under
a name that its photos give it, and what is written is not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmp import __version__
from bmp.checkpoints.sources import own_files
from bmp.config import ConfigSection, load_config, parse_overrides
from bmp.console import Parser, add_volume, progress, report_failed, run_command, whole
from bmp.errors import UserError, choices
from bmp.io.atomic import alone_in, writing
from bmp.io.json_fields import JsonObject
from bmp.io.label_shards import Tries, claim_settings, finished, remove_unfinished, shard_name, write_shard
from bmp.io.merge import complete_coco_shards, write_coco_shard
from bmp.io.photo_sources import Photo, list_photos, named_stream

if TYPE_CHECKING:
    from bmp.api import BMP, People
    from bmp.io.label_shards import PersonRow, PhotoRow
    from bmp.label_sets import KeypointSet
    from bmp.structures import Image

_LOGGER = logging.getLogger("bmp")
_MOST_TRIES = 3  # of a photo in whose company a process was killed
_MOST_SAID = 20  # failures that are said one by one; all of them are rows


@dataclass(frozen=True)
class LabelSettings:
    """The section ``label`` of a config: how the work is shared out.

    workers: processes with a model each, on Ray; None for as many as there is room for. num_cpus, num_gpus: what a
    worker takes, of a GPU also a share; num_gpus None for a whole one where there are GPUs. threads: of PyTorch, in a
    worker; None for num_cpus. photos: in a shard. batch_photos, batch_pixels: that go through the networks together,
    whichever is less; a larger photo goes alone.
    """

    workers: int | None = None
    num_cpus: float = 1
    num_gpus: float | None = None
    threads: int | None = None
    photos: int = 64
    batch_photos: int = 8
    batch_pixels: int = 4_000_000

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "photos", "batch_photos", "batch_pixels"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UserError(f"label.{name}: expected a whole number from 1, got {value!r}")
        for name in ("num_cpus", "num_gpus"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
                raise UserError(f"label.{name}: expected a number from 0, got {value!r}")

    @classmethod
    def of(cls, section: object) -> LabelSettings:
        """Read the section of a config; ``UserError`` for what is none of the settings."""
        if section is None:
            return cls()
        if not isinstance(section, dict):
            raise UserError(f"label: expected settings such as dict(workers=2), got {section!r}")
        names = [field.name for field in fields(cls)]
        for name in section:
            if name not in names:
                raise UserError(f"label: there is no setting {name!r}; {choices(str(name), names)}")
        return cls(**section)


@dataclass(frozen=True)
class Shard:
    """Photos that are labelled and written together. name: of its file."""

    name: str
    photos: list[Photo]

    def to_json(self) -> str:
        """Return it as text that travels."""
        return json.dumps({"name": self.name, "photos": [asdict(photo) for photo in self.photos]})

    @classmethod
    def from_json(cls, text: str) -> Shard:
        """Return the shard of such a text."""
        data = json.loads(text)
        return cls(data["name"], [Photo(**photo) for photo in data["photos"]])


@dataclass(frozen=True)
class Finished:
    """A shard that is written: its photos, their people, and the reasons of those that failed."""

    photos: int
    people: int
    failed: list[str]


@dataclass(frozen=True)
class Job:
    """All that a worker has to know, besides its shard: plain values, which travel.

    pipeline: of the config. device: as for ``bmp.load``. output: the folder. coco: write each shard as a COCO file,
    too. debug: let errors of the model through.
    """

    pipeline: ConfigSection
    device: str
    output: str
    settings: LabelSettings
    coco: bool = False
    debug: bool = False


Engine = Callable[[Sequence[Shard], Job], Iterator[Finished]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return run_command(_parser(), _label, arguments, interrupted="what is done is written; the same command goes on")


def _parser() -> Parser:
    parser = Parser(
        "bmp label",
        {"--source": "--input", "--conf": "--min-score"},
        description="Label very many photos: boxes, masks and poses in Parquet files, of which bmp merge makes one "
        "COCO file. Killed or interrupted, the same command goes on where it stopped.",
        epilog="exit codes: 0 all done, 1 some photos failed (they are rows with a reason), 2 wrong use or an output "
        "that cannot be written, 130 interrupted",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="photos, folders, patterns, tars, Parquet, s3://...")
    parser.add_argument("-i", "--input", nargs="+", default=[], metavar="PATH", help="the same as PATH")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder, which all workers can write to")
    parser.add_argument("-c", "--config", default="lite.py", help="path or name of a config (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="who works (default: %(default)s)")
    parser.add_argument("--workers", type=whole(1), metavar="N", help="workers on Ray (default: as many as fit)")
    parser.add_argument("--address", metavar="ADDRESS", help="a Ray cluster, such as auto or ray://head:10001")
    parser.add_argument("--coco", action="store_true", help="write each Parquet file as a COCO file, too")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, N or cuda:N, mps (default: %(default)s)")
    add_volume(parser)
    return parser


def _label(options: argparse.Namespace) -> int:
    inputs = [*options.paths, *options.input]
    if not inputs:
        raise UserError("nothing to do: name photos, folders, tars or Parquet files, as in bmp label photos/ -o labels")
    if options.engine == "local" and (options.address or options.workers):
        raise UserError("--address and --workers are about Ray; add --engine ray")
    if "://" in options.output:
        raise UserError(
            f"--output {options.output}: expected a folder, of a shared disk where workers are on several machines"
        )
    output = Path(options.output)
    config = load_config(options.config, parse_overrides(options.set))
    section = config.get("label")
    settings = LabelSettings.of(section.to_dict() if hasattr(section, "to_dict") else section)
    engine = _engine(options, settings)
    with writing(output, "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)
    with alone_in(output):
        listed = list_photos(inputs, output)
        for reason, count in listed.left_out.items():
            _LOGGER.warning("left out %d, %s", count, reason)
        pipeline = config.pipeline.to_dict()
        claim_settings(output, _identity(pipeline))
        done = dict(finished(output))
        if options.coco:
            with writing(output, "make room; the same command goes on"):
                complete_coco_shards(output)
        shards = to_shards(listed.photos, set(done), settings.photos)
        waiting = sum(len(shard.photos) for shard in shards)
        job = Job(pipeline, options.device, str(output.absolute()), settings, options.coco, options.debug)
        failed: list[str] = []
        earlier = sum(not done.get(photo.id, True) for photo in listed.photos)
        people = 0
        with progress(options.quiet, waiting, unit="photos") as (say, advance):
            if done:
                say(f"{len(done)} photos were done before" + (f", {earlier} of them failed" if earlier else ""))
            for one in engine(shards, job):
                people += one.people
                failed += one.failed
                for _ in range(one.photos):
                    advance()
            remove_unfinished(output)
            say(f"{people} people in {waiting - len(failed)} photos: {output}" if waiting else "nothing is left to do")
            if failed:
                say(f"{len(failed)} photos failed: they are rows with a reason")
    more = len(failed) - _MOST_SAID
    rest = [f"{more} more, see the column error"] if more > 0 else []
    before = [f"{earlier} photos failed before, see the column error"] if earlier else []
    return report_failed("bmp label", [*listed.failed, *failed[:_MOST_SAID], *rest, *before])


def _engine(options: argparse.Namespace, settings: LabelSettings) -> Engine:
    if options.engine == "local":
        return label_here
    from bmp.inference.ray_engine import RayEngine

    return RayEngine(options.address, options.workers or settings.workers)


def _identity(pipeline: ConfigSection) -> JsonObject:
    """Return what labels of one run have in common; numbers of different settings are never mixed."""
    return {"version": __version__, "pipeline": pipeline, "files": own_files(pipeline)}


def to_shards(photos: Sequence[Photo], done: set[str], size: int) -> list[Shard]:
    """Share photos out to shards of at most ``size``, without those that are done.

    The shards of a list are the same in every run, so that one that was being made twice, by a run that was taken for
    dead, has one file. Photos of a row group of Parquet stay together: it can only be read as a whole.
    """
    shards, group = [], list[Photo]()
    for photo in photos:
        if len(group) >= size and not (photo.group >= 0 and len(group) < 4 * size and _together(group[-1], photo)):
            shards.append(group)
            group = []
        group.append(photo)
    shards.append(group)
    left = [(number, [photo for photo in group if photo.id not in done]) for number, group in enumerate(shards)]
    return [Shard(shard_name(number, [photo.id for photo in group]), group) for number, group in left if group]


def _together(one: Photo, other: Photo) -> bool:
    return (one.file, one.group) == (other.file, other.group)


def label_here(shards: Sequence[Shard], job: Job) -> Iterator[Finished]:
    """Work through the shards in this process."""
    if shards:
        labeller = Labeller(job)
        yield from map(labeller.label, shards)


class Labeller:
    """A model that makes shards; one of these is in each worker.

    Args:
        job: what to do; the networks are loaded here.
    """

    def __init__(self, job: Job) -> None:
        from mmengine.config import Config

        from bmp.build import build

        self._job = job
        self._model: BMP = build(Config({"pipeline": job.pipeline}), job.device)

    def label(self, shard: Shard) -> Finished:
        """Label the photos of a shard and write it; a photo that fails is a row with the reason."""
        from bmp.inference.batches import SideWork, kept_bytes

        output, model = Path(self._job.output), self._model
        tries = Tries(output, shard.name)
        rows: dict[str, PhotoRow] = {}
        photos = []
        for photo in shard.photos:
            if tries.counts.get(photo.id, 0) >= _MOST_TRIES:
                reason = f"{_MOST_TRIES} processes were killed while they worked on it"
                rows[photo.id] = _failed_row(photo.id, reason)
            else:
                photos.append(photo)

        def put_down(photo: Photo, row: Future[PhotoRow]) -> None:
            rows[photo.id] = row.result()

        with ThreadPoolExecutor() as pool, SideWork["PhotoRow"](pool) as described:
            for batch in _batches(photos, self._job.settings, set(tries.counts), pool):
                with tries.working_on([photo.id for photo, _ in batch]):
                    for photo, known, outcome in self._found(batch):
                        row = partial(_row, photo.id, known, outcome, model.pose.keypoints)
                        described.add(kept_bytes(outcome), row, partial(put_down, photo))
        ordered = [rows[photo.id] for photo in shard.photos]
        with writing(output, "make room; the same command goes on"):
            write_shard(output, shard.name, ordered, model.pose.keypoints.names)
            if self._job.coco:
                write_coco_shard(output, shard.name)
        tries.clear()
        return Finished(
            len(ordered),
            sum(len(row["people"]) for row in ordered),
            [
                row["error"] if row["id"] in row["error"] else f"{row['id']}: {row['error']}"
                for row in ordered
                if row["error"]
            ],
        )

    def _found(
        self, batch: Sequence[tuple[Photo, _Read | Exception]]
    ) -> Iterator[tuple[Photo, _Read | None, People | Exception]]:
        """Yield each photo with what reading it gave, and its people or why there are none."""
        from bmp.inference.batches import find_people

        known = {photo: read for photo, read in batch if not isinstance(read, Exception)}
        for photo, read in batch:
            if isinstance(read, Exception):
                yield photo, None, read
        if known:
            images = [(photo, read.image) for photo, read in known.items()]
            for photo, outcome in find_people(self._model, images, debug=self._job.debug):
                yield photo, known[photo], outcome


@dataclass(frozen=True, eq=False)
class _Read:
    """A photo that is read. sha256: of its file. notices: how the picture differs from the file."""

    image: Image
    sha256: str
    notices: list[str]


def _read(photo: Photo) -> _Read | Exception:
    from bmp.io import images

    notices: list[str] = []
    try:
        stream = named_stream(photo)
        image = images.load(stream, notice=notices.append)
    except Exception as error:  # besides the usual ones those of Parquet and of object stores
        return error
    digest = hashlib.sha256(stream.getbuffer()).hexdigest()
    return _Read(image, digest, [text.removeprefix(f"{photo.id}: ") for text in notices])


def _batches(
    photos: Iterable[Photo], settings: LabelSettings, suspects: set[str], pool: Executor
) -> Iterator[list[tuple[Photo, _Read | Exception]]]:
    """Yield photos in batches of so many pixels at most, in order, read ahead by as many as are in a batch.

    ``suspects``, in whose company a process was killed, go alone.
    """
    batch: list[tuple[Photo, _Read | Exception]] = []
    pixels = 0
    for photo, read in _ahead(photos, settings.batch_photos, pool):
        size = 0 if isinstance(read, Exception) else read.image.height * read.image.width
        full = len(batch) >= settings.batch_photos or pixels + size > settings.batch_pixels
        alone = photo.id in suspects or (batch and batch[-1][0].id in suspects)
        if batch and (full or alone):
            yield batch
            batch, pixels = [], 0
        batch.append((photo, read))
        pixels += size
    if batch:
        yield batch


def _ahead(photos: Iterable[Photo], count: int, pool: Executor) -> Iterator[tuple[Photo, _Read | Exception]]:
    waiting: list[tuple[Photo, Future[_Read | Exception]]] = []
    for photo in photos:
        waiting.append((photo, pool.submit(_read, photo)))
        if len(waiting) > count:
            first, future = waiting.pop(0)
            yield first, future.result()
    for photo, future in waiting:
        yield photo, future.result()


def _row(name: str, read: _Read | None, outcome: People | Exception, keypoints: KeypointSet) -> PhotoRow:
    """Return the row of a photo, with its people or with the reason why there are none."""
    from bmp.io.annotations import to_annotations

    row = _failed_row(name, None)
    if read is None or isinstance(outcome, Exception):
        return _failed_row(name, str(outcome) or type(outcome).__name__)
    people = [_person_row(dict(person)) for person in to_annotations(outcome.instances.to("cpu"), 0, keypoints)]
    row["height"], row["width"] = read.image.height, read.image.width
    row["sha256"], row["notices"], row["people"] = read.sha256, read.notices, people
    return row


def _failed_row(name: str, reason: str | None) -> PhotoRow:
    """Return the row of a photo without anything found in it, and why that is."""
    row: PhotoRow = {
        "id": name,
        "height": None,
        "width": None,
        "sha256": None,
        "notices": [],
        "error": None if reason is None else " ".join(reason.split()),
        "people": [],
    }
    return row


def _person_row(row: JsonObject) -> PersonRow:
    names = (
        "bbox", "area", "score", "mask_score", "agreement", "round", "segmentation", "keypoints", "keypoint_scores",
        "keypoint_visibility", "keypoint_presence",
    )  # fmt: skip
    person: Any = {name: row.get(name) for name in names}
    found: PersonRow = person
    return found
