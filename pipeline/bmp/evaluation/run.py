"""Runs the loop over a data set and keeps the people found after each round; knows files and processes, no metric.

Each process writes its results to a journal during the run; an image is done if any journal of the folder has it.
Batches are fixed by the position of their images in the data set: a resumed run, or one of
several processes, feeds the networks the same batches as an undisturbed one, and finds the same people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from bmp import __version__
from bmp.api import People
from bmp.checkpoints.sources import own_files
from bmp.datasets.people import PeopleDataset
from bmp.distributed import Processes
from bmp.errors import UserError
from bmp.evaluation.timing import Stopwatch, timed
from bmp.inference.batches import SideWork, find_people, kept_bytes, read_ahead
from bmp.io.annotations import Annotation, CocoDataset, to_annotations
from bmp.io.atomic import writing
from bmp.io.journal import Journal, JournalEntry, JournalReader
from bmp.io.json_fields import JsonObject
from bmp.label_sets import KeypointSet
from bmp.loop import Loop, RoundTrace
from bmp.structures import Image, Parts

Progress = Callable[[int], AbstractContextManager[tuple[Callable[[str], None], Callable[[], None]]]]
"""Shows how far a run is: given the number of images, a context with a function to say a line and one to count one."""

_JOURNALS = "journal.*.jsonl"


@dataclass(frozen=True, eq=False)
class Task:
    """The subject of an evaluation. Two runs with equal ``settings`` find the same people.

    dataset: the images and the people in them. limit: only so many images of it, the first ones. pipeline: the
    config of the loop, plain values. batch_size: images that go through the networks together.
    """

    dataset: PeopleDataset
    pipeline: JsonObject
    batch_size: int = 4
    limit: int | None = None

    def __len__(self) -> int:
        return len(self.dataset) if self.limit is None else min(self.limit, len(self.dataset))

    @cached_property
    def ground_truth(self) -> CocoDataset:
        """COCO dict of the images that count."""
        ground_truth = self.dataset.ground_truth
        images = ground_truth["images"][: len(self)]
        known = {image["id"] for image in images}
        rows = [row for row in ground_truth["annotations"] if row["image_id"] in known]
        return {**ground_truth, "images": images, "annotations": rows}

    def settings(self) -> JsonObject:
        """Return everything that the results depend on, plain values; the ground truth as a checksum."""
        checksum = hashlib.sha256(json.dumps(self.ground_truth, sort_keys=True).encode()).hexdigest()
        return {
            "version": __version__,
            "pipeline": self.pipeline,
            "files": own_files(self.pipeline),
            "dataset": {"name": self.dataset.name, "images": len(self), "sha256": checksum},
            "batch_size": self.batch_size,
        }


class Journals:
    """The contents of the journals in a folder: people by image and round, failures, seconds.

    An image that failed in one journal and is done in another is done. Rows are read from the files on request.

    Raises:
        UserError: a journal was made with other settings, or cannot be read.
    """

    def __init__(self, folder: Path, settings: JsonObject) -> None:
        self._open = ExitStack()
        self._places: dict[int | str, tuple[JournalReader, int]] = {}
        self._photos: dict[int | str, str | None] = {}
        self.failed: dict[int | str, str] = {}
        self.seconds: dict[str, float] = {}
        try:
            for path in sorted(folder.glob(_JOURNALS)):
                journal = JournalReader(path, settings)
                self._open.callback(journal.close)
                for offset, record in journal.records():
                    self._remember(record, (journal, offset))
        except BaseException:
            self._open.close()
            raise

    def _remember(self, record: JournalEntry, place: tuple[JournalReader, int]) -> None:
        for name, seconds in record.get("seconds", {}).items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if "rounds" in record:
            self._places[record["image"]] = place
            self._photos[record["image"]] = record.get("photo")
            self.failed.pop(record["image"], None)
        elif "failed" in record and record["image"] not in self._places:
            self.failed[record["image"]] = record["failed"]

    def done(self, image_id: int | str) -> bool:
        """Tell whether the people of this image are known; images that failed are to be tried again."""
        return image_id in self._places

    def photo(self, image_id: int | str) -> str | None:
        """Return the sha256 of the file that an image which is done was read from; None where there is no file."""
        return self._photos[image_id]

    def rows(self, ground_truth: CocoDataset, round_number: int) -> Iterator[Annotation]:
        """Yield an annotation for each person known after a round, by image in the order of ``ground_truth``.

        They are as ``to_annotations`` makes them, with all digits and without ``id``. The people of an image that
        needed fewer rounds count for the later ones, too.
        """
        for image in ground_truth["images"]:
            if image["id"] in self._places:
                journal, offset = self._places[image["id"]]
                rounds = journal.read(offset)["rounds"]
                for row in rounds[min(round_number, len(rounds)) - 1]:
                    yield cast(Annotation, {"image_id": image["id"], **row})

    def close(self) -> None:
        """Close the journals."""
        self._open.close()

    def __enter__(self) -> Journals:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def prepare_folder(folder: Path, *, resume: bool, overwrite: bool, claim: Callable[[], object] = lambda: None) -> None:
    """Make an output folder ready; what an earlier evaluation left there is removed with ``overwrite``.

    ``claim`` is called before anything in the folder is touched; it may refuse.

    Raises:
        UserError: the folder cannot be made, or has results and neither flag is set.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        claim()
        journals = sorted(folder.glob(_JOURNALS))
        if overwrite:
            for path in journals:
                path.unlink()
        elif journals and not resume:
            raise UserError(
                f"{folder} has an evaluation; go on with --resume, start anew with --overwrite, "
                "or choose another --output"
            )


def run(model: Loop, task: Task, folder: Path, processes: Processes, progress: Progress, debug: bool = False) -> None:
    """Find the people of all images that are this process's share and are not done yet, and write them down.

    Raises:
        UserError: the results in the folder were made with other settings or photos, or the folder cannot be written.
    """
    settings = task.settings()
    with Journals(folder, settings) as found:
        images = task.ground_truth["images"]
        done = {image["id"]: found.photo(image["id"]) for image in images if found.done(image["id"])}
    batches = [range(start, min(start + task.batch_size, len(task))) for start in range(0, len(task), task.batch_size)]
    ids = [image["id"] for image in task.ground_truth["images"]]
    share = batches[processes.rank :: processes.count]
    waiting = [batch for batch in share if any(ids[index] not in done for index in batch)]
    path = folder / f"journal.{processes.rank}.jsonl"
    count = sum(ids[index] not in done for batch in waiting for index in batch)
    known = {index: done[ids[index]] for batch in share for index in batch if ids[index] in done}
    photos: dict[int, str | None] = {}

    def read(index: int) -> Image:
        image, photos[index] = task.dataset.load_with_checksum(index)
        return image

    with ThreadPoolExecutor() as pool, progress(count) as (say, advance), ExitStack() as closing:
        _check_photos(folder, task, known, pool)
        if done:
            say(f"{len(done)} of {len(task)} images were done before")
        if processes.count > 1:
            say(f"{processes.count} processes; the first one's share is {count} images")
        with writing(path):
            journal = Journal(path, settings, resume=True)
        closing.callback(journal.close)

        def note(record: JournalEntry) -> None:
            with writing(path):
                journal.append(record)

        def put_down(index: int, record: Future[JournalEntry]) -> None:
            note({"image": ids[index], "photo": photos.get(index), **record.result()})
            advance()

        records = closing.enter_context(SideWork[JournalEntry](pool))
        stopwatch = Stopwatch()
        stages = timed(model, stopwatch)
        for batch in read_ahead(waiting, read, pool):
            stopwatch.seconds.clear()
            with stopwatch.time("all"):
                for index, outcome in find_people(stages, batch, trace=True, debug=debug):
                    if ids[index] not in done:
                        record = partial(_record, outcome, model.pose.keypoints)
                        records.add(kept_bytes(outcome), record, partial(put_down, index))
            note({"seconds": stopwatch.seconds})
        if waiting:
            last = Stopwatch()
            with last.time("all"):
                records.finish()
            note({"seconds": last.seconds})


def _check_photos(folder: Path, task: Task, known: dict[int, str | None], pool: Executor) -> None:
    """Raise ``UserError`` where a photo is not what the results in the folder, by index in ``known``, were made of."""
    had = {index: digest for index, digest in known.items() if digest is not None}
    has = pool.map(task.dataset.checksum, had)
    changed = [index for (index, digest), now in zip(had.items(), has, strict=True) if now != digest]
    if changed:
        raise UserError(
            f"{folder}: {len(changed)} of {len(task)} photos changed since this evaluation was begun, first "
            f"{task.dataset.file_name(changed[0])}; put them back, or start anew with --overwrite"
        )


def _record(outcome: People | Exception, keypoints: KeypointSet) -> JournalEntry:
    if isinstance(outcome, Exception):
        return {"failed": " ".join(str(outcome).split()) or type(outcome).__name__}
    return {"rounds": _rounds(outcome.trace, keypoints, outcome.parts)}


def _rounds(trace: Sequence[RoundTrace], keypoints: KeypointSet, parts: Parts | None) -> list[list[dict[str, Any]]]:
    """Return the annotations of everybody known after each round; those of the last one have parts, if any have."""
    return [
        [
            {key: value for key, value in row.items() if key not in ("id", "image_id")}
            for row in to_annotations(
                entry.people, 0, keypoints, exact=True, parts=parts if entry is trace[-1] else None
            )
        ]
        for entry in trace
    ]
