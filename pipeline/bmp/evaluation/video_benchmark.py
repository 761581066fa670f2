"""The benchmark run on a data set of videos, from a config to tables and files.

People are found by the loop over videos and keep identities; objects whose first masks are given are followed by
SAM-PT; points are followed by its tracker. What was found is kept in journals, a line a video, so that a run that is
killed goes on, and several processes share the work.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bmp import __version__
from bmp.build import build, build_sam_pt, build_video_dataset, resolve_device
from bmp.checkpoints.sources import own_files
from bmp.config import ConfigSection
from bmp.datasets.videos import LabelledFrame, VideoDataset
from bmp.distributed import Processes
from bmp.errors import UserError
from bmp.evaluation.published import PUBLISHED_VIDEOS, PublishedVideo
from bmp.evaluation.report import Outcome, TextTable
from bmp.evaluation.run import Progress
from bmp.evaluation.timing import machine, peak_memory
from bmp.evaluation.video_finders import by_loop, by_points
from bmp.evaluation.videos import (
    ClickNumbers,
    Clock,
    FoundObjects,
    ObjectNumbers,
    ObjectTally,
    PeopleNumbers,
    PeopleTally,
    PointCounts,
    PointNumbers,
    begun,
    follow_points,
)
from bmp.io.atomic import replacing, writing
from bmp.io.journal import Journal, JournalEntry, JournalReader
from bmp.io.json_fields import JsonObject
from bmp.ops.masks import from_rle, to_rle
from bmp.segmenters.prompted import promptable

if TYPE_CHECKING:
    from bmp.api import BMP
    from bmp.sam_pt import SAMPT

_LOGGER = logging.getLogger("bmp")
_JOURNALS = "videos.*.jsonl"


def evaluate_videos(
    config: ConfigSection,
    folder: Path,
    processes: Processes,
    progress: Progress,
    *,
    device: str = "auto",
    limit: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    debug: bool = False,
    claim: Callable[[], object] = lambda: None,
) -> Outcome | None:
    """Measure a config on the videos of its data set, and write it all down: journals, metrics.json and report.md.

    Arguments, result and errors are those of ``bmp.evaluation.benchmark.evaluate``; ``limit`` counts videos.
    """
    started = time.monotonic()
    device = processes.together(lambda: resolve_device(processes.device(device)))
    dataset = processes.together(lambda: build_video_dataset(config))
    count = len(dataset) if limit is None else min(limit, len(dataset))
    processes.first(lambda: _prepare(folder, resume=resume, overwrite=overwrite, claim=claim))
    model = processes.together(lambda: build(config, device))
    sam_pt = processes.together(lambda: _sam_pt(config, model, device))
    settings = _made_with(config, dataset)
    share = range(count)[processes.rank :: processes.count]

    def work() -> None:
        known = _Journals(folder, settings)
        waiting = [index for index in share if index not in known.done]
        known.close()
        path = folder / f"videos.{processes.rank}.jsonl"
        with progress(len(waiting)) as (say, advance), ExitStack() as closing:
            if len(waiting) < len(share):
                say(f"{len(share) - len(waiting)} of {len(share)} videos were done before")
            with writing(path):
                journal = Journal(path, settings, resume=True)
            closing.callback(journal.close)
            for index in waiting:
                record = _record(model, sam_pt, dataset, index, debug)
                with writing(path):
                    journal.append({"video": index, "name": dataset.video_name(index), **record})
                advance()

    processes.together(work)

    def conclude() -> Outcome:
        journals = _Journals(folder, settings)
        with ExitStack() as closing, writing(folder):
            closing.callback(journals.close)
            numbers = _measured(dataset, journals, count)
            run = {
                "seconds": round(time.monotonic() - started, 3),
                "processes": processes.count,
                "peak_bytes": peak_memory(),
                "machine": machine(device),
            }
            return _write_report(folder, dataset, settings, numbers, run)

    return processes.first(conclude)


def _sam_pt(config: ConfigSection, model: BMP, device: str) -> SAMPT | None:
    """Return SAM-PT as the config has it; None where its segmenter cannot be asked by points."""
    try:
        promptable(model.segmenter)
    except UserError as error:
        _LOGGER.warning("objects are not measured: %s", error)
        return None
    return build_sam_pt(config, device)


def _made_with(config: ConfigSection, dataset: VideoDataset) -> JsonObject:
    """Return all that the results of a video depend on, plain values."""
    sections = {name: config[name] for name in ("pipeline", "video", "sam_pt", "dataset") if name in config}
    plain: JsonObject = json.loads(json.dumps(sections, default=str))
    return {"version": __version__, **plain, "files": own_files(plain), "name": dataset.name}


def _prepare(folder: Path, *, resume: bool, overwrite: bool, claim: Callable[[], object]) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        claim()
        journals = sorted(folder.glob(_JOURNALS))
        if overwrite:
            for path in journals:
                path.unlink()
        elif journals and not resume:
            raise UserError(
                f"{folder} has an evaluation; go on with --resume, start anew with --overwrite, or choose another "
                "--output"
            )


class _Journals:
    """What was found in which video, in all journals of a folder.

    done: videos that are known. failed: why others are not, by name.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self._open = ExitStack()
        self.done: dict[int, tuple[JournalReader, int]] = {}
        self.failed: dict[str, str] = {}
        try:
            for path in sorted(folder.glob(_JOURNALS)):
                journal = JournalReader(path, settings)
                self._open.callback(journal.close)
                for offset, record in journal.records():
                    if "failed" in record:
                        self.failed[record["name"]] = record["failed"]
                    else:
                        self.done[record["video"]] = journal, offset
                        self.failed.pop(record["name"], None)
        except BaseException:
            self._open.close()
            raise

    def read(self, index: int) -> JournalEntry:
        """Return what was found in a video."""
        journal, offset = self.done[index]
        return journal.read(offset)

    def close(self) -> None:
        """Close the files."""
        self._open.close()


def _record(model: BMP, sam_pt: SAMPT | None, dataset: VideoDataset, index: int, debug: bool) -> JournalEntry:
    """Go through one video and return what was found; the reason where it cannot be done."""
    try:
        return _found(model, sam_pt, dataset, index)
    except Exception as error:
        if debug:
            raise
        return {"failed": " ".join(str(error).split()) or type(error).__name__}


def _found(model: BMP, sam_pt: SAMPT | None, dataset: VideoDataset, index: int) -> JournalEntry:
    frames, record = list(dataset.frames(index)), JournalEntry()
    if dataset.of_people:
        clock = Clock()
        find = by_loop(model, model.video_loop)
        record["people"] = [_line(answer) for answer in clock.timed(find(one.frame for one in frames))]
        record["people_seconds"] = round(clock.seconds, 3)
    followed = begun(frames)
    if sam_pt is not None and followed and followed[0].labels is not None and followed[0].labels.masks is not None:
        clock = Clock()
        answers = by_points(sam_pt)([one.frame for one in followed], followed[0].labels)
        record["objects"] = [_line(answer) for answer in clock.timed(answers)]
        record["objects_seconds"] = round(clock.seconds, 3)
    tracker = model.video_loop.tracker
    if not tracker.delay and all(one.labels is not None and one.labels.points is not None for one in frames):
        record["points"] = asdict(follow_points(dataset.name, frames, tracker))
    return record


def _line(found: FoundObjects) -> JsonObject:
    """Return what was found in a frame as it is written."""
    return {
        "ids": found.ids.tolist(),
        "scores": found.scores.tolist(),
        "masks": to_rle(torch.from_numpy(np.ascontiguousarray(found.masks))) if len(found.ids) else [],
    }


def _read(lines: Sequence[Mapping[str, Any]], frames: Sequence[LabelledFrame]) -> Iterator[FoundObjects]:
    """Yield what was found in each frame, as it was."""
    for line, one in zip(lines, frames, strict=True):
        image = one.frame.image
        yield FoundObjects(
            np.array(line["ids"], np.int64),
            from_rle(line["masks"], image.height, image.width).numpy(),
            np.array(line["scores"], np.float64),
        )


@dataclass(frozen=True)
class _Numbers:
    """What came out; None for what was not measured.

    videos: how many were measured. per_video: name and numbers of people in each. failed: why others were not.
    """

    videos: int
    people: PeopleNumbers | None
    objects: ObjectNumbers | None
    points: PointNumbers | None
    per_video: list[JsonObject]
    failed: dict[str, str]


def _measured(dataset: VideoDataset, journals: _Journals, count: int) -> _Numbers:
    """Compare what was found with the labels, which are read once more."""
    people, objects, points = PeopleTally(), ObjectTally(), PointCounts()
    seconds, read = {"people": 0.0, "objects": 0.0}, {"people": 0, "objects": 0}
    per_video: list[JsonObject] = []
    indices = [index for index in range(count) if index in journals.done]
    for index in indices:
        record, frames, name = journals.read(index), list(dataset.frames(index)), dataset.video_name(index)
        for kind in ("people", "objects"):
            seconds[kind] += record.get(f"{kind}_seconds", 0.0)
            read[kind] += len(record.get(kind, ()))
        if "people" in record:
            found = list(_read(record["people"], frames))
            per_video.append({"name": name, "frames": len(frames), **asdict(people.add(name, frames, found))})
        if "objects" in record:
            followed = begun(frames)
            objects.add(name, followed, list(_read(record["objects"], followed)))
        points += PointCounts(**record.get("points", {}))
    names = [dataset.video_name(index) for index in range(count)]
    found_people = people.numbers(read["people"], seconds["people"])
    if dataset.of_people and indices and found_people is None:
        raise UserError(f"{dataset.name}: nobody is labelled; choose another data set")
    return _Numbers(
        videos=len(indices),
        people=found_people,
        objects=objects.numbers(read["objects"], seconds["objects"]) if read["objects"] else None,
        points=points.numbers if points.visible else None,
        per_video=per_video,
        failed={name: journals.failed[name] for name in names if name in journals.failed},
    )


def columns(numbers: PeopleNumbers | ObjectNumbers | ClickNumbers | PointNumbers) -> dict[str, str]:
    """Return numbers as they stand in a table, by the heads of its columns; shares in per cent."""
    if isinstance(numbers, PeopleNumbers):
        tracks, masks = numbers.tracks, numbers.masks
        return {
            "HOTA": _percent(tracks.hota),
            "DetA": _percent(tracks.deta),
            "AssA": _percent(tracks.assa),
            "MOTA": _percent(tracks.mota),
            "IDF1": _percent(tracks.idf1),
            "switches": str(tracks.switches),
            "AP": _percent(masks.ap if masks else None),
            "AP50": _percent(masks.ap50 if masks else None),
            "frames/s": f"{numbers.rate:.1f}",
        }
    if isinstance(numbers, ObjectNumbers):
        objects = numbers.masks
        return {
            "J&F": _percent(objects.region_and_contour if objects else None),
            "J": _percent(objects.region.mean if objects else None),
            "F": _percent(objects.contour.mean if objects else None),
            "J recall": _percent(objects.region.recall if objects else None),
            "objects": str(objects.objects if objects else 0),
            "frames/s": f"{numbers.rate:.1f}",
        }
    if isinstance(numbers, ClickNumbers):
        clicked = numbers.masks
        return {
            "J&F": _percent(clicked.region_and_contour if clicked else None),
            "J": _percent(clicked.region.mean if clicked else None),
            "clicks": str(numbers.clicks),
            "masks left as they came": _percent(numbers.untouched),
            "frames/s": f"{numbers.rate:.1f}",
        }
    return {
        "PCK at 4 px": _percent(numbers.pck),
        "right of those seen": _percent(numbers.precision),
        "points": str(numbers.visible),
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


_TITLES = {
    "people": ("People, found by the loop", "Similarity is the IoU of masks; boxes where only these are labelled."),
    "objects": (
        "Objects, their first masks given, followed by SAM-PT",
        "The first and the last labelled frame of a video do not count, as in DAVIS.",
    ),
    "points": (
        "Points, followed by the tracker",
        "Of the points that are truly visible, behind the first frame of each.",
    ),
}


_HEADER = ("video", "frames", "HOTA", "DetA", "AssA", "switches")


def _write_report(
    folder: Path, dataset: VideoDataset, settings: JsonObject, numbers: _Numbers, run: JsonObject
) -> Outcome:
    literature = [entry for entry in PUBLISHED_VIDEOS if entry.dataset == dataset.published]
    tables = []
    for kind, (title, note) in _TITLES.items():
        found: PeopleNumbers | ObjectNumbers | PointNumbers | None = getattr(numbers, kind)
        if found is not None:
            row = columns(found)
            published = [_published_row(entry, row) for entry in literature if kind == "objects"]
            tables.append(TextTable(title, ("", *row), (("BMP", *row.values()), *published), (note,)))
    videos = "1 video" if numbers.videos == 1 else f"{numbers.videos} videos"
    if not tables:
        tables.append(TextTable("Nothing was measured", ("", "videos"), (("BMP", "0"),)))
    sentence = f"{dataset.name}: {videos}; peak memory {run['peak_bytes'] / 2**20:.0f} MiB."
    failed = [f"{name}: {reason}" for name, reason in numbers.failed.items()]
    each = TextTable("People, video by video", _HEADER, _video_rows(numbers.per_video))
    parts = [
        f"# BMP on {dataset.name}\n",
        f"{sentence}\n",
        *(table.markdown() for table in tables),
        *([each.markdown()] if each.rows else []),
        *(["## Failed\n\n" + "\n".join(f"- {line}" for line in failed) + "\n"] if failed else []),
    ]
    with replacing(folder / "report.md") as file:
        file.write("\n".join(parts))
    kinds = {kind: getattr(numbers, kind) for kind in _TITLES}
    metrics = {
        "dataset": {"name": dataset.name, "videos": numbers.videos},
        **{kind: None if found is None else asdict(found) for kind, found in kinds.items()},
        "per_video": numbers.per_video,
        "published": [asdict(entry) for entry in literature],
        "failed": numbers.failed,
        "settings": settings,
        "run": run,
    }
    with replacing(folder / "metrics.json") as file:
        file.write(json.dumps(metrics, indent=2) + "\n")
    return Outcome(tables, [sentence], failed)


def _published_row(entry: PublishedVideo, row: Mapping[str, str]) -> tuple[str, ...]:
    cells = {"J&F": f"{entry.region_and_contour:.1f}"} | (
        {"frames/s": f"{entry.rate:.1f}"} if entry.rate is not None else {}
    )
    return (f"{entry.method}, published", *(cells.get(head, "") for head in row))


def _video_rows(per_video: Sequence[JsonObject]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            str(one["name"]),
            str(one["frames"]),
            *(_percent(one[name]) for name in ("hota", "deta", "assa")),
            str(one["switches"]),
        )
        for one in per_video
    )
