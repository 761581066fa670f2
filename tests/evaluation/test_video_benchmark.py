"""``bmp --dataset`` on data sets of videos, with stages that cannot be wrong."""

import itertools
import json

import pytest

from bmp.cli import main
from bmp.datasets.synthcrowd_video import SynthCrowdVideo

CONFIG = """
pipeline = dict(
    rounds=1,
    detector=dict(type="fakes.FakeDetector"),
    pose=dict(type="fakes.FakePose"),
    segmenter=dict(type="track_fakes.RedSegmenter"),
    suppressor=dict(type="fakes.KeepAll"),
)
tracker = dict(type="track_fakes.FakeTracker", speeds={0: (1, 0), 1: (0, -1)})
video = dict(tracker=tracker, keyframe_every=3)
sam_pt = dict(tracker=tracker, refinements=1)
dataset = dict(type="track_fakes.Squares")
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "squares.py"
    path.write_text(CONFIG)
    return path


def measure(config, output, *options):
    code = main(["--config", str(config), "--output", str(output), "--device", "cpu", *map(str, options)])
    path = output / "metrics.json"
    return code, json.loads(path.read_text()) if path.exists() else {}


def found_in(output):
    """What each line says of each video, but for seconds."""
    lines = [json.loads(line) for line in (output / "videos.0.jsonl").read_text().splitlines()[1:]]
    return [{key: value for key, value in line.items() if "seconds" not in key and key != "crc32"} for line in lines]


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "out"
    code, metrics = measure(config, output)
    assert code == 0
    return output, metrics


@pytest.mark.slow
def test_people_objects_and_points_are_measured(whole):
    output, metrics = whole
    assert metrics["dataset"] == {"name": "squares", "videos": 3}
    people, objects, points = (metrics[name] for name in ("people", "objects", "points"))
    assert people["frames"] == objects["frames"] == 18
    assert [people["tracks"][name] for name in ("hota", "assa", "mota", "switches")] == [1, 1, 1, 0]
    assert people["masks"]["ap"] == 1
    assert objects["masks"]["region"]["mean"] == 1
    assert objects["masks"]["objects"] == 6
    assert points == {"pck": 1, "precision": 1, "visible": 2 * 5 * 3}
    assert [one["name"] for one in metrics["per_video"]] == ["video 0", "video 1", "video 2"]
    assert metrics["run"]["peak_bytes"] > 1 << 20
    report = (output / "report.md").read_text()
    assert "| BMP | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 | 0 |" in report
    assert "| video 2 | 6 | 100.0 | 100.0 | 100.0 | 0 |" in report
    assert "squares: 3 videos; peak memory" in report


@pytest.mark.slow
def test_a_killed_run_goes_on(whole, config, tmp_path, capsys):
    output, metrics = whole
    folder = tmp_path / "out"
    folder.mkdir()
    lines = (output / "videos.0.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "videos.0.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:50])
    assert measure(config, folder)[0] == 2
    assert "has an evaluation; go on with --resume" in capsys.readouterr().err
    code, resumed = measure(config, folder, "--resume")
    assert code == 0
    assert "1 of 3 videos were done before" in capsys.readouterr().out
    assert found_in(folder) == found_in(output)
    assert resumed["per_video"] == metrics["per_video"]
    assert measure(config, folder, "--resume", "--set", "video.keyframe_every=2")[0] == 2
    assert "settings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_video_that_is_broken_is_said_and_stops_no_other(config, tmp_path, capsys):
    code, metrics = measure(config, tmp_path / "out", "--set", "dataset.broken=1", "--limit", 2)
    assert code == 1
    assert metrics["dataset"]["videos"] == 1
    assert metrics["failed"] == {"video 1": "this one is broken"}
    assert "video 1: this one is broken" in capsys.readouterr().err
    assert "- video 1: this one is broken" in (tmp_path / "out" / "report.md").read_text()


def test_objects_that_are_no_people_stand_beside_published_numbers(config, tmp_path):
    code, metrics = measure(config, tmp_path / "out", "--set", "dataset.type=track_fakes.Things", "--limit", 1)
    assert code == 0
    assert metrics["people"] is None
    assert metrics["objects"]["masks"]["objects"] == 2
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| BMP | 100.0 |" in report
    assert "| SAM-PT, PIPS, SAM ViT-B, published | 72.2 |" in report


@pytest.mark.slow
def test_a_segmenter_that_takes_no_points_measures_people_alone(config, tmp_path, capsys):
    options = "--set", "pipeline.segmenter.type=fakes.FakeSegmenter", "--limit", 1
    code, metrics = measure(config, tmp_path / "out", *options)
    assert code == 0
    assert metrics["objects"] is None
    assert metrics["people"]["tracks"]["hota"] == 1
    assert "objects are not measured" in capsys.readouterr().err


@pytest.mark.slow
def test_a_data_set_of_videos_by_its_name(config, tmp_path, monkeypatch):
    every, split = SynthCrowdVideo.frames, ("--set", "dataset.split=video-val", "--limit", 1)
    monkeypatch.setattr(SynthCrowdVideo, "frames", lambda self, index: itertools.islice(every(self, index), 2))
    code, metrics = measure(config, tmp_path / "out", "--dataset", "synthcrowd-video", *split)
    assert code == 0
    assert metrics["dataset"] == {"name": "SynthCrowd video-val", "videos": 1}
    assert metrics["people"]["frames"] == 2
    assert metrics["points"]["visible"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "synthcrowd-vidoe"], "no such file, nor a data set of videos; did you mean 'synthcrowd-video'"),
        (["--dataset", "synthcrowd-video", "--images", "."], "--images has no effect"),
        (["--dataset", "synthcrowd-video", "--set", "dataset.split=val"], "video-test"),
        (["--dataset", "davis", "--images", "gone"], "gone"),
        (["--dataset", "mots", "--keypoints", "aic"], "--keypoints"),
        (["--dataset", "davis.json"], "--dataset needs --images"),
        (["--set", "sam_pt.positives=0"], "positives: expected at least 1"),
    ],
)
def test_wrong_use_is_one_line(config, tmp_path, capsys, options, words):
    assert measure(config, tmp_path / "out", *options)[0] == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
