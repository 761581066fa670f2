"""Measures how much of the work that follows on the networks is done beside them; all of it sleeps.

    python benchmarks/overlap.py --batch-size 1 4 12

For each size of a batch: seconds an image that a run over files and an evaluation take, over those of the networks
alone. 1 is the best that can be; at the end the last images are drawn while no network works.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import PIL.Image
import torch
from common import as_command, write

from bmp.api import BMP, People
from bmp.evaluation import run as evaluation
from bmp.inference import files
from bmp.io import images
from bmp.io.people_file import PeopleFile
from bmp.label_sets import COCO_KEYPOINTS
from bmp.loop import Loop, Result
from bmp.structures import Image, Instances


@dataclass(frozen=True)
class Seconds:
    """What an image takes: in the networks, to be drawn, and to have its masks described."""

    networks: float = 0.5
    drawing: float = 0.4
    describing: float = 0.12


class Sleeper:
    """A loop whose networks sleep, and that finds nobody."""

    def __init__(self, seconds: Seconds) -> None:
        self.seconds = seconds
        self.pose = SimpleNamespace(keypoints=COCO_KEYPOINTS)

    def run(self, batch: Sequence[Image], *_: Any, **__: Any) -> Iterator[Result]:
        """Sleep for all images of the batch, then return them."""
        time.sleep(self.seconds.networks * len(batch))
        for index, image in enumerate(batch):
            yield Result(index, Instances.empty(image, len(COCO_KEYPOINTS)), [], image)


def over_files(seconds: Seconds, count: int, batch_size: int) -> float:
    """Return seconds of a run over so many files, as ``bmp --input`` makes it."""
    names = [f"{number}.jpg" for number in range(count)]

    def plot(*_: Any, **__: Any) -> PIL.Image.Image:
        time.sleep(seconds.drawing)
        return PIL.Image.new("RGB", (8, 8))

    def described(*_: Any, **__: Any) -> list[Any]:
        time.sleep(seconds.describing)
        return []

    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(People, "plot", plot),
        patch.object(PeopleFile, "described", described),
        patch.object(images, "load_with_checksum", lambda *_, **__: (_picture(), "")),
        PeopleFile(Path(folder) / "people.json", COCO_KEYPOINTS, names) as people_file,
    ):
        jobs = [files.Job(name, name) for name in names]
        settings = files.RunSettings(Path(folder), batch_size, quiet=True)
        started = time.perf_counter()
        files.work_through(cast(BMP, Sleeper(seconds)), jobs, people_file, settings)
        return time.perf_counter() - started


def over_data_set(seconds: Seconds, count: int, batch_size: int) -> float:
    """Return seconds of an evaluation's run over so many images; an image has run lengths for each of two rounds."""
    dataset = SimpleNamespace(
        name="sleep",
        ground_truth={"images": [{"id": number} for number in range(count)], "annotations": [], "categories": []},
        load_with_checksum=lambda _: (_picture(), None),
        checksum=lambda _: None,
    )
    task = SimpleNamespace(
        dataset=dataset, ground_truth=dataset.ground_truth, batch_size=batch_size, settings=lambda: {}
    )

    class _Task(SimpleNamespace):
        def __len__(self) -> int:
            return count

    def record(*_: Any) -> dict[str, Any]:
        time.sleep(2 * seconds.describing)
        return {"rounds": [[]]}

    @contextlib.contextmanager
    def silence(_: int) -> Iterator[Any]:
        yield lambda _: None, lambda: None

    with tempfile.TemporaryDirectory() as folder, patch.object(evaluation, "_record", record):
        started = time.perf_counter()
        one = SimpleNamespace(rank=0, count=1)
        evaluation.run(
            cast(Loop, Sleeper(seconds)), cast(Any, _Task(**vars(task))), Path(folder), cast(Any, one), silence
        )
        return time.perf_counter() - started


def _picture() -> Image:
    return Image(torch.zeros(8, 8, 3, dtype=torch.uint8))


def main() -> None:
    options = _options()
    seconds = Seconds()
    rows = []
    for size in options.batch_size:
        for name, measured in (("files", over_files), ("data set", over_data_set)):
            taken = measured(seconds, options.images, size)
            ratio = taken / (seconds.networks * options.images)
            print(
                f"{name}, batches of {size}: {taken / options.images:.3f} s an image, {ratio:.2f} of the networks' own"
            )
            rows.append({"over": name, "batch size": size, "seconds": taken, "ratio": ratio})
    if options.output:
        write(options.output, {"settings": vars(options), "seconds": vars(seconds), "rows": rows})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 4, 12])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
