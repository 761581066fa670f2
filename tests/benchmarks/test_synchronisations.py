"""How often the loop waits for a GPU: a few times an image and round, however many people there are in it.

Each wait is a moment at which the GPU has nothing to do. The stages are those of ``benchmarks/overhead.py``: all of their
own work, with made-up answers in place of the networks'.
"""

import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from bmp.loop import Loop
from bmp.structures import Image
from bmp.suppression.oks import OKSSuppressor

pytest.importorskip("mmdet.models", reason="needs the extra openmmlab")
PACKAGE = str(Path(__file__).resolve().parents[2] / "pipeline")
MOST = 40  # waits for an image of two rounds


@pytest.fixture
def overhead(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).resolve().parents[2] / "benchmarks")])
    import overhead

    return overhead


def run(overhead, people, device="cpu"):
    """Return a function that sends a photo of 400 x 400 with so many people through the loop."""
    boxes = overhead.crowd(people, 400, 400)
    detector, segmenter = overhead.Detector(boxes, 400, 400), overhead.Segmenter(boxes, 400, 400)
    loop = Loop(detector, overhead.Pose(), segmenter, OKSSuppressor(threshold=1.0), rounds=2, device=device)
    image = Image(torch.zeros(400, 400, 3, dtype=torch.uint8))

    def once():
        detector.round = 0
        original = loop._estimate

        def estimate(*arguments):
            detector.round = 1
            return original(*arguments)

        loop._estimate = estimate
        (result,) = loop.run([image])
        assert len(result.people) == people
        loop._estimate = original

    return once


@pytest.fixture
def waits(monkeypatch):
    """Count by line what would wait for a GPU: a tensor's values that Python asks for."""
    found = Counter()
    for name in ("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "cpu", "nonzero"):
        own = getattr(torch.Tensor, name)

        def counted(*arguments, own=own, name=name, **options):
            frame = sys._getframe(1)
            while not frame.f_code.co_filename.startswith(PACKAGE):
                frame = frame.f_back
            found[f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {name}"] += 1
            return own(*arguments, **options)

        monkeypatch.setattr(torch.Tensor, name, counted)
    monkeypatch.setattr("bmp.structures.is_at_hand", lambda device: False)
    return found


@pytest.mark.slow  # mmcv and mmdet are imported
def test_more_people_are_no_reason_to_wait_more_often(overhead, waits):
    counts = []
    for people in (4, 4, 12):
        waits.clear()
        run(overhead, people)()
        counts.append(waits.copy())
    assert not counts[2] - counts[1]
    assert sum(counts[2].values()) <= MOST


@pytest.mark.cuda
def test_the_driver_counts_as_few_waits(overhead):
    counts = []
    for people in (4, 4, 12):  # the first one compiles and tunes
        once = run(overhead, people, "cuda")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                once()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(each.message) for each in caught))
    assert counts[2] <= counts[1] <= MOST
