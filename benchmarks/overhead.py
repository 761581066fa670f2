"""Measures what lies around the networks: the loop with its own stages, whose networks are replaced by made-up answers.

    python benchmarks/overhead.py --megapixels 1 12 --people 5 20

For each size and number of people: CPU seconds of an image through two rounds, by stage, what follows the loop (run
lengths, drawing), and the peak of memory above the start. CPU seconds on one thread hardly depend on what else the
machine does.
"""

from __future__ import annotations

import argparse
import gc
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from common import as_command, write
from torch import Tensor

from bmp.api import People
from bmp.detectors.mmdet import MMDetDetector
from bmp.detectors.mmdet_inputs import Letterbox
from bmp.evaluation.timing import machine
from bmp.io.annotations import to_annotations
from bmp.label_sets import COCO_KEYPOINTS
from bmp.loop import Loop
from bmp.models.rtmdet_ins import RawDetections
from bmp.models.sam2 import to_input
from bmp.poses.crops import Windows
from bmp.poses.mmpose import MMPoseEstimator
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.segmenters.prompting import MaxVisibility
from bmp.structures import Detections, Image, Poses, Prompts
from bmp.suppression.oks import OKSSuppressor

_CELLS = 256


def crowd(count: int, height: int, width: int, size: float = 1 / 3) -> Tensor:
    """Boxes float32 (count, 4) of so large a share of the height, half as wide, scattered with a fixed seed."""
    generator = torch.Generator().manual_seed(1)
    sides = torch.tensor([height * size / 2, height * size])
    corners = torch.rand(count, 2, generator=generator) * (torch.tensor([width, height]) - sides)
    return torch.cat([corners, corners + sides], dim=1)


def ovals(boxes: Tensor, height: int, width: int, rows: int, columns: int) -> Tensor:
    """Soft masks float32 (N, rows, columns) of an image of that size, above 0 within the oval of each box."""
    y = (torch.arange(rows) + 0.5)[:, None] * (height / rows)
    x = (torch.arange(columns) + 0.5) * (width / columns)
    centres, radii = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    across = (x - centres[:, :1]) / radii[:, :1]
    down = (y[:, 0] - centres[:, 1:]) / radii[:, 1:]
    return 1 - across[:, None] ** 2 - down[:, :, None] ** 2


class Detector(MMDetDetector):
    """RTMDet-Ins as it is read and prepared for, with made-up answers: all but one person first, then one a round."""

    def __init__(self, boxes: Tensor, height: int, width: int, rounds: int = 2) -> None:
        self._inputs = Letterbox((640, 640), True, size=(640, 640), padding=(114.0, 114.0, 114.0))
        self._device = torch.device("cpu")
        self._score_threshold, self._nms_iou, self._batch_size, self._mask_bytes = 0.3, 1.0, 1, 256 << 20
        scale = 640 / max(height, width)
        self._rows = max(1, round(height * scale)), max(1, round(width * scale))
        first = len(boxes) - rounds + 1
        self._rounds = [boxes[:first], *torch.split(boxes[first:], 1)]
        self._size = height, width
        self.round = 0

    def _detect(self, images: Sequence[Image]) -> Iterator[Detections]:
        for image in images:
            self._inputs.prepare(image)
            boxes = self._rounds[self.round]
            scores = torch.linspace(0.9, 0.5, len(boxes))
            soft = partial(self._soft, boxes)
            yield self._to_people(image, RawDetections(boxes, scores, soft, 0.0))

    def _soft(self, boxes: Tensor, rows: Tensor) -> Tensor:
        return ovals(boxes[rows], *self._size, *self._rows)


class Pose(MMPoseEstimator):
    """PMPose as it is prepared for, with keypoints at the same places of every crop."""

    keypoints = COCO_KEYPOINTS

    def __init__(self) -> None:
        self._device, self._batch_size, self._alpha, self._without_mask = torch.device("cpu"), 32, 0.25, "box"
        self._width, self._height, self._unbiased = 192, 256, True

    def _to_poses(self, crops: Tensor, windows: Windows) -> Poses:
        share = torch.linspace(0.3, 0.7, len(self.keypoints))
        places = torch.stack((share * self._width, share * self._height), dim=1).expand(len(crops), -1, -1)
        sure = torch.full(places.shape[:2], 0.9)
        return Poses(windows.to_image(places, self._width, self._height), sure, sure, sure)


class Segmenter(PromptedSegmenter):
    """SAM 2 as it is prepared for and read, with ovals for masks."""

    def __init__(self, boxes: Tensor, height: int, width: int) -> None:
        super().__init__(MaxVisibility(count=3), device="cpu", hole_area=10, speck_area=50)
        self._size, self.logit_size = 1024, (_CELLS, _CELLS)
        self._answers, self._next = 10 * ovals(boxes, height, width, _CELLS, _CELLS), 0

    def _encode(self, images: Sequence[Image]) -> tuple[Tensor, ...]:
        pixels = torch.stack([to_input(image, self._size, self.device) for image in images])
        return (pixels[:, :, :1, :1],)

    def _to_network(self, points: Tensor, height: int, width: int) -> Tensor:
        return points / points.new_tensor([width, height]) * self._size

    def _decode(
        self, features: tuple[Tensor, ...], prompts: Prompts, previous: Tensor | None = None, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        rows = torch.arange(self._next, self._next + len(prompts)) % len(self._answers)
        self._next = (self._next + len(prompts)) % len(self._answers)
        return self._answers[rows], torch.linspace(0.7, 0.95, len(prompts))


class Clock:
    """Adds up CPU seconds of this process by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, name: str, _: int = 1) -> Iterator[None]:
        """Add the CPU seconds of the block to ``name``."""
        started = time.process_time()
        yield
        self.seconds[name] += time.process_time() - started


def measure(megapixels: float, count: int, draw: bool, size: float = 1 / 3, rounds: int = 2) -> dict[str, Any]:
    """Send a made-up photo through the loop twice, the second time measured."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    boxes = crowd(count, height, width, size)
    pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image(pixels)
    detector, segmenter = Detector(boxes, height, width, rounds), Segmenter(boxes, height, width)
    loop = Loop(detector, Pose(), segmenter, OKSSuppressor(threshold=1.0), rounds=rounds)
    small = Image(pixels[: height // 8, : width // 8].contiguous())
    _once(loop, detector, small, Clock(), False)  # what is imported or compiled on first use
    gc.collect()
    before = _peak()
    clock = Clock()
    people = _once(loop, detector, image, clock, draw)
    return {
        "megapixels": megapixels,
        "people": len(people),
        "height": height,
        "width": width,
        "box share": size,
        "rounds": rounds,
        "seconds": dict(clock.seconds),
        "peak": _peak() - before,
    }


def _once(loop: Loop, detector: Detector, image: Image, clock: Clock, draw: bool) -> People:
    loop.clock = clock.time
    detector.round = 0
    original = loop._estimate

    def estimate(*arguments: Any) -> Any:
        detector.round += 1
        return original(*arguments)

    loop._estimate = estimate  # type: ignore[assignment,method-assign]
    with clock.time("whole loop"):
        (result,) = loop.run([image])
    loop._estimate = original  # type: ignore[method-assign]
    people = People(image, result.people, COCO_KEYPOINTS)
    with clock.time("run lengths"):
        to_annotations(people.instances, 1, COCO_KEYPOINTS)
    if draw:
        with clock.time("drawing"):
            people.plot()
    return people


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    if len(list(_cases(options))) == 1:
        rows = [measure(options.megapixels[0], options.people[0], options.draw, options.size[0], options.rounds[0])]
    else:
        rows = [_apart(options, *case) for case in _cases(options)]
    for row in rows:
        _print(row)
    if options.output:
        write(options.output, {"settings": vars(options), "machine": machine("cpu"), "rows": rows})


def _cases(options: argparse.Namespace) -> Iterator[tuple[float, int, float, int]]:
    return product(options.megapixels, options.people, options.size, options.rounds)


def _apart(options: argparse.Namespace, megapixels: float, people: int, size: float, rounds: int) -> dict[str, Any]:
    """Measure a case in a process of its own: the peak of memory never falls within one."""
    import json
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.json"
        command = [sys.executable, __file__, "--megapixels", str(megapixels), "--people", str(people)]
        command += [
            "--size",
            str(size),
            "--rounds",
            str(rounds),
            "--threads",
            str(options.threads),
            "--output",
            str(path),
        ]
        subprocess.run(command + ["--draw"] * options.draw, check=True, stdout=subprocess.DEVNULL)
        (row,) = json.loads(path.read_text())["rows"]
    return dict(row)


def _print(row: dict[str, Any]) -> None:
    seconds = row["seconds"]
    inside = sum(seconds.get(name, 0.0) for name in _STAGES)
    loop_itself = seconds["whole loop"] - inside
    total = seconds["whole loop"] + seconds["run lengths"]
    print(f"{row['megapixels']:g} MP, {row['people']} people: {total:.3f} s of CPU, peak {row['peak'] / 2**20:.0f} MiB")
    for name in (*_STAGES, "run lengths", "drawing"):
        if name in seconds:
            print(f"  {name:20} {1000 * seconds[name]:8.1f} ms")
    print(f"  {'loop itself':20} {1000 * loop_itself:8.1f} ms")


_STAGES = ("detector", "pose", "suppressor", "segmenter: encode", "segmenter: decode")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[12.0])
    parser.add_argument("--people", type=int, nargs="+", default=[20])
    parser.add_argument("--size", type=float, nargs="+", default=[1 / 3], help="height of a person, share of the image")
    parser.add_argument("--rounds", type=int, nargs="+", default=[2], help="one person is found in each but the first")
    parser.add_argument("--draw", action="store_true", help="draw the people as well")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, metavar="JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(as_command(main))
