"""The run over a data set: what journals hold, which batches the networks see, and how processes find together."""

import contextlib
import json
from types import SimpleNamespace

import pytest
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, FussyDetector, scene

from bmp.api import BMP
from bmp.distributed import Processes
from bmp.errors import UserError
from bmp.evaluation.run import Journals, Task, prepare_folder, run
from bmp.io.images import ImageError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.suppression.oks import OKSSuppressor

FRONT, BEHIND = (20, 10, 30, 20), (15, 5, 40, 30)
SCENES = [[BEHIND, FRONT], [FRONT], [], [FRONT], [BEHIND, FRONT], [FRONT], [FRONT]]


class Scenes:
    """A data set of squares; images in ``broken`` cannot be read."""

    name, published = "scenes", None

    def __init__(self, broken=()):
        self.broken = set(broken)
        self.loaded = {}
        self.changed = {}
        self.ground_truth = {
            "images": [{"id": f"i{n}", "file_name": f"{n}.png", "height": 48, "width": 64} for n in range(len(SCENES))],
            "annotations": [],
            "categories": [{"id": 1, "name": "person"}],
        }

    def __len__(self):
        return len(SCENES)

    def file_name(self, index):
        return f"{index}.png"

    def load(self, index):
        if index in self.broken:
            raise ImageError(f"{index}.png: broken\npicture")
        image = scene(*SCENES[index])
        self.loaded[id(image.pixels)] = index, image
        return image

    def load_with_checksum(self, index):
        return self.load(index), self.checksum(index)

    def checksum(self, index):
        return self.changed.get(index, f"sha256 of {index}")

    def batches(self, detector):
        """Which images the detector saw together in round 1; later ones are painted copies."""
        calls = [[self.loaded.get(id(image.pixels), (None,))[0] for image in call] for call in detector.calls]
        return [call for call in calls if call != [None] * len(call)]


def model(detector=None):
    return BMP(detector or FakeDetector(), FakePose(), FakeSegmenter(), OKSSuppressor())


@contextlib.contextmanager
def silence(total):
    yield lambda line: None, lambda: None


def work(folder, task, loop=None, processes=None):
    loop = loop or model()
    run(loop, task, folder, processes or Processes(), silence)
    return loop


def rows(folder, task, number=2):
    with Journals(folder, task.settings()) as found:
        return list(found.rows(task.ground_truth, number))


def task(broken=(), **options):
    return Task(Scenes(broken), {"rounds": 2}, **{"batch_size": 2, **options})


@pytest.mark.slow
def test_people_after_each_round(tmp_path):
    work(tmp_path, task())
    first, second = rows(tmp_path, task(), 1), rows(tmp_path, task(), 2)
    # Image i2 is finished after round 1, images of one person after round 2; round 3 adds nothing to what is known.
    assert [row["image_id"] for row in first] == ["i0", "i1", "i3", "i4", "i5", "i6"]
    assert [row["image_id"] for row in second] == ["i0", "i0", "i1", "i3", "i4", "i4", "i5", "i6"]
    assert rows(tmp_path, task(), 3) == second
    assert [row["round"] for row in second[:2]] == [1, 2]


def test_numbers_keep_all_their_digits(tmp_path):
    loop = model(FakeDetector(score=1 / 3))
    work(tmp_path, task(), loop)
    row = rows(tmp_path, task())[0]
    assert row["score"] == float(torch.tensor(1 / 3))
    steps = torch.linspace(0, 1, len(COCO_KEYPOINTS)) * 10 + 20
    assert row["keypoints"][0::3] == steps.tolist()


@pytest.mark.slow
def test_a_resumed_run_feeds_the_networks_the_same_batches(tmp_path):
    (tmp_path / "whole").mkdir()
    job = task()
    assert job.dataset.batches(work(tmp_path / "whole", job).detector) == [[0, 1], [2, 3], [4, 5], [6]]
    lines = (tmp_path / "whole" / "journal.0.jsonl").read_text().splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        folder, job = tmp_path / str(count), task()
        folder.mkdir()
        (folder / "journal.0.jsonl").write_text("".join(lines[:count]))
        done = {json.loads(line).get("image") for line in lines[1:count]}
        batches = job.dataset.batches(work(folder, job).detector)
        # A batch with an image to do is run whole.
        expected = [[0, 1], [2, 3], [4, 5], [6]]
        assert batches == [batch for batch in expected if any(f"i{index}" not in done for index in batch)]
        assert rows(folder, job) == rows(tmp_path / "whole", job)
        written = [json.loads(line).get("image") for line in (folder / "journal.0.jsonl").open()]
        assert sorted(filter(None, written)) == [f"i{n}" for n in range(len(SCENES))]


def test_a_run_whose_photos_changed_is_not_gone_on_with(tmp_path):
    work(tmp_path, task(limit=3))
    job = task(limit=3)
    job.dataset.changed = {1: "another", 2: None, 5: "beyond the limit"}
    before = (tmp_path / "journal.0.jsonl").read_text()
    with pytest.raises(UserError, match=r"2 of 3 photos changed .* first 1\.png; .*--overwrite"):
        work(tmp_path, job)
    assert (tmp_path / "journal.0.jsonl").read_text() == before
    job.dataset.changed = {}
    assert not work(tmp_path, job).detector.calls


@pytest.mark.parametrize("count", [*(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 5)), 3])
@pytest.mark.parametrize("later", [*(pytest.param(later, marks=pytest.mark.slow) for later in (1, 2)), 4])
def test_processes_share_and_any_number_of_them_goes_on(tmp_path, count, later):
    (tmp_path / "one").mkdir()
    work(tmp_path / "one", task())
    folder = tmp_path / "shared"
    folder.mkdir()
    for rank in range(count - 1):  # the last one never starts, unless it is alone
        work(folder, task(), processes=Processes(rank, count))
    for rank in range(later):
        work(folder, task(), processes=Processes(rank, later))
    assert rows(folder, task()) == rows(tmp_path / "one", task())


@pytest.mark.slow
def test_failures_are_kept_and_tried_again(tmp_path):
    work(tmp_path, task(broken=[1, 6]))
    with Journals(tmp_path, task().settings()) as found:
        assert found.failed == {"i1": "1.png: broken picture", "i6": "6.png: broken picture"}
        assert [found.done(f"i{n}") for n in range(7)] == [n not in (1, 6) for n in range(7)]
    work(tmp_path, task(broken=[6]))
    with Journals(tmp_path, task().settings()) as found:
        assert set(found.failed) == {"i6"}
        assert found.done("i1")


def test_an_image_that_breaks_the_model_does_not_take_its_batch_along(tmp_path):
    work(tmp_path, task(), model(FussyDetector()))
    with Journals(tmp_path, task().settings()) as found:
        assert found.failed == {"i0": "out of memory", "i4": "out of memory"}
    with pytest.raises(RuntimeError, match="out of"):
        run(model(FussyDetector()), task(), tmp_path, Processes(), silence, debug=True)


@pytest.mark.slow
def test_seconds_add_up_over_batches(tmp_path):
    work(tmp_path, task())
    with Journals(tmp_path, task().settings()) as found:
        assert set(found.seconds) >= {"detector", "pose", "segmenter: encode", "segmenter: decode", "suppressor", "all"}
        assert found.seconds["all"] >= sum(value for name, value in found.seconds.items() if name != "all")


def test_a_limit_takes_the_first_images(tmp_path):
    few = task(limit=3)
    assert (len(few), len(task(limit=99))) == (3, 7)
    work(tmp_path, few)
    assert {row["image_id"] for row in rows(tmp_path, few)} == {"i0", "i1"}
    with pytest.raises(UserError, match=r"other settings \(dataset\)"):
        work(tmp_path, task())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "changed"),
    [
        (Task(Scenes(), {"rounds": 3}, 2), "pipeline"),
        (Task(Scenes(), {"rounds": 2}, 3), "batch_size"),
    ],
)
def test_other_settings_are_refused(tmp_path, other, changed):
    work(tmp_path, task())
    with pytest.raises(UserError, match=rf"other settings \({changed}\)"):
        work(tmp_path, other)


def test_other_truth_is_another_data_set():
    dataset = Scenes()
    dataset.ground_truth["annotations"] = [{"id": 1, "image_id": "i0", "category_id": 1, "bbox": [0, 0, 1, 1]}]
    assert Task(dataset, {}).settings()["dataset"] != Task(Scenes(), {}).settings()["dataset"]


@pytest.mark.slow
def test_prepare(tmp_path):
    folder = tmp_path / "new" / "folder"
    prepare_folder(folder, resume=False, overwrite=False)
    work(folder, task())
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        prepare_folder(folder, resume=False, overwrite=False)
    prepare_folder(folder, resume=True, overwrite=False)
    assert rows(folder, task())
    prepare_folder(folder, resume=False, overwrite=True)
    assert rows(folder, task()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        prepare_folder(tmp_path / "file", resume=False, overwrite=False)


class TestProcesses:
    def test_alone(self, monkeypatch):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        with Processes.joined() as processes:
            assert processes == Processes(0, 1, 0)
            assert processes.together(lambda: 3) == 3
            with pytest.raises(UserError, match="no"):
                processes.first(lambda: _raise(UserError("no")))

    @pytest.mark.parametrize("environment", [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2"}])
    def test_a_strange_environment_is_one_line(self, monkeypatch, environment):
        monkeypatch.delenv("RANK", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match="start with torchrun"), Processes.joined():
            pass

    def test_each_has_a_gpu_of_its_own(self, monkeypatch):
        monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: True, device_count=lambda: 2))
        assert [Processes(rank, 4, rank).device("auto") for rank in range(4)] == [
            "cuda:0",
            "cuda:1",
            "cuda:0",
            "cuda:1",
        ]
        assert Processes(1, 2, 1).device("cpu") == "cpu"
        assert Processes().device("auto") == "auto"

    def test_what_one_cannot_do_ends_all(self, monkeypatch):
        for rank, gathered, ends in [
            (0, [None, "disk full"], (UserError, "process 1: disk full")),
            (0, ["wrong", "wrong"], (UserError, "^wrong")),
            (1, ["wrong", "wrong"], (SystemExit, "2")),
            (1, ["wrong", None], (SystemExit, "2")),
        ]:
            monkeypatch.setattr(Processes, "_gathered", lambda self, value, answer=gathered: answer)
            with pytest.raises(ends[0], match=ends[1]):
                Processes(rank, 2, rank).together(lambda: 3)


def _raise(error):
    raise error
