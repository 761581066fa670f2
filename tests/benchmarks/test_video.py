"""The benchmark of videos: what it keeps from row to row and on the disk, and how rows are compared, on fakes."""

import sys
from pathlib import Path

import pytest
import torch
from fakes import FakeDetector, FakePose, KeepAll, scene
from track_fakes import RedSegmenter, Squares, video_loop

from bmp.api import BMP
from bmp.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import video

    yield video
    sys.path.remove(str(ROOT / "benchmarks"))


def model():
    loop = BMP(FakeDetector(), FakePose(), RedSegmenter(), KeepAll())
    loop.make_video_loop = lambda: video_loop({0: (1, 0), 1: (-1, 0)}, keyframe_every=3)
    return loop


@pytest.mark.slow  # what the benchmark imports
def test_networks_answer_once_what_they_are_asked_often(benchmark):
    plain, fast = model(), model()
    benchmark.remember(fast)
    images = [scene((4, 10, 14, 30)), scene((5, 10, 15, 30), (44, 12, 54, 36))]
    for _ in range(2):
        for expected, found in zip(plain.run(images, rounds=1), fast.run(images, rounds=1), strict=True):
            assert torch.equal(found.people.masks.bits, expected.people.masks.bits)
            assert torch.equal(found.people.poses.keypoints, expected.people.poses.keypoints)
    assert len(plain.detector.calls) == 2
    assert len(fast.detector.calls) == len(fast.pose.calls) == len(images)
    (people,) = fast.detector.detect(images[:1])
    fast.pose.estimate(images[:1], [people[:0]])
    assert len(fast.pose.calls) == len(images) + 1


@pytest.mark.slow
def test_rows_are_kept_and_compared_video_by_video(benchmark, tmp_path, capsys):
    loop, path = model(), tmp_path / "rows.json"
    dataset = Squares(count=2, frames=5)
    arms = benchmark._people_arms(loop, None, dataset)
    wanted = {arm: arms[arm] for arm in ("the loop of the preset", "pairs by masks alone")}
    settings = {"device": "cpu"}
    benchmark._print_table("people", wanted, benchmark.Results(path, settings, False), timed=False)
    table = capsys.readouterr().out
    first, second = (line.split(" | ") for line in table.splitlines()[-2:])
    assert first[4:7] == ["100.0", "100.0", "0"]  # MOTA, IDF1, switches
    assert first[-1] == second[-1] == "0, 0 |"

    def never():
        raise AssertionError

    again = benchmark.Results(path, settings, True)
    benchmark._print_table("people", dict.fromkeys(wanted, never), again, timed=False)
    assert capsys.readouterr().out == table
    with pytest.raises(UserError, match="of other settings"):
        benchmark.Results(path, {"device": "cuda"}, True)
