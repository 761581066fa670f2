import errno
import io
import json
import shutil
import signal
import socket
import tarfile
from types import SimpleNamespace

import pytest
from fakes import FakeDetector, scene
from PIL import Image
from program import CONFIG, ENVIRONMENT, begin, together
from pycocotools.coco import COCO

from bmp.cli import main
from bmp.errors import UserError
from bmp.inference import ray_engine
from bmp.inference.label import Job, LabelSettings, Shard, to_shards
from bmp.io.label_shards import COCO_SHARDS, TRIES, Tries, read_shard, read_shards, shards_in
from bmp.io.photo_sources import Photo, list_photos, read_bytes

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

SMALL = "label = dict(photos=4, batch_photos=2)\n"


def picture(number):
    """A picture with a person, or two where the number is odd; numbers of three are another shape."""
    squares = [(2 + number, 4, 22 + number, 40), (40, 10, 56, 40)][: 1 + number % 2]
    stream = io.BytesIO()
    height = 48 if number % 3 else 60
    Image.fromarray(scene(*squares, height=height).pixels.numpy()).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def photos(tmp_path):
    """Ten photos, one of them broken, in two folders."""
    for number in range(10):
        path = tmp_path / "photos" / ("a" if number < 6 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number) if number != 7 else b"no picture")
    (tmp_path / "photos" / "notes.txt").write_text("none")
    (tmp_path / "config.py").write_text(CONFIG + SMALL)
    return tmp_path / "photos"


def label(photos, *more, inputs=None):
    folder = photos.parent
    return main(["label", *map(str, inputs or [photos]), "-o", f"{folder}/labels", "-c", f"{folder}/config.py", *more])


def rows_of(photos):
    return list(read_shards(photos.parent / "labels"))


@pytest.mark.slow
def test_every_photo_is_a_row_and_failures_have_reasons(photos, capsys):
    assert label(photos) == 1
    said = capsys.readouterr()
    rows = rows_of(photos)
    assert [row["id"].rpartition("/")[2] for row in rows] == [f"{number}.png" for number in range(10)]
    assert [len(row["people"]) for row in rows] == [1, 2, 1, 2, 1, 2, 1, 0, 1, 2]
    assert [row["error"] is None for row in rows] == [number != 7 for number in range(10)]
    assert "13 people in 9 photos" in said.out
    assert said.err.count("failed:") == 1
    assert "7.png" in said.err
    assert "left out 1" in said.err  # notes.txt
    assert len(shards_in(photos.parent / "labels")) == 3
    assert not list((photos.parent / "labels" / TRIES).iterdir())


@pytest.mark.slow
def test_labels_are_those_of_the_plain_program(photos):
    assert label(photos) == 1
    assert main([str(photos), "-o", f"{photos.parent}/plain", "-c", f"{photos.parent}/config.py"]) == 1
    assert main(["merge", f"{photos.parent}/labels", "-o", f"{photos.parent}/merged.json"]) == 0
    plain = json.loads((photos.parent / "plain" / "people.json").read_text())
    merged = json.loads((photos.parent / "merged.json").read_text())
    names = (
        {row["id"]: row["file_name"] for row in plain["images"]},
        {row["id"]: row["file_name"] for row in merged["images"]},
    )
    assert sorted(names[0].values()) == sorted(names[1].values())
    assert [row["file_name"] for row in merged["failed"]] == ["b/7.png"]
    ours = [{**row, "id": 0, "image_id": names[1][row["image_id"]]} for row in merged["annotations"]]
    theirs = [{**row, "id": 0, "image_id": names[0][row["image_id"]]} for row in plain["annotations"]]
    assert ours == theirs
    assert len(COCO(str(photos.parent / "merged.json")).getImgIds()) == 9


@pytest.mark.slow
@pytest.mark.parametrize("calls", [2, 5])
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_set(photos, monkeypatch, calls):
    assert label(photos) == 1
    whole = {row["id"]: row for row in rows_of(photos)}
    names = [path.name for path in shards_in(photos.parent / "labels")]
    for path in shards_in(photos.parent / "labels"):
        path.unlink()
    detect, left = FakeDetector.detect, [calls]

    def killed(self, images):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return detect(self, images)

    monkeypatch.setattr(FakeDetector, "detect", killed)
    assert label(photos) == 130
    before = {path.name: path.stat().st_mtime_ns for path in shards_in(photos.parent / "labels")}
    monkeypatch.setattr(FakeDetector, "detect", detect)
    assert label(photos) == 1
    assert {row["id"]: row for row in rows_of(photos)} == whole
    assert [path.name for path in shards_in(photos.parent / "labels")] == names
    assert all((photos.parent / "labels" / "shards" / name).stat().st_mtime_ns == time for name, time in before.items())


@pytest.mark.slow
def test_nothing_is_done_again_and_new_photos_are_added(photos, capsys):
    assert label(photos) == 1
    capsys.readouterr()
    assert label(photos) == 1  # what failed is still no label
    said = capsys.readouterr()
    assert "10 photos were done before" in said.out
    assert "nothing is left to do" in said.out
    assert "1 photos failed before, see the column error" in said.err
    (photos / "a" / "new.png").write_bytes(picture(1))
    assert label(photos) == 1
    rows = rows_of(photos)
    assert len(rows) == len({row["id"] for row in rows}) == 11


@pytest.mark.slow
def test_a_photo_whose_workers_die_is_given_up_and_takes_nobody_along(photos):
    ids = [str(path) for path in sorted((photos / "a").iterdir())]
    (shard, *_) = to_shards([Photo(name, name) for name in ids], set(), 4)
    folder = photos.parent / "labels"
    open_notes = []
    for number in range(3):
        # The first time two were worked on together, then the suspects alone.
        dead = Tries(folder, shard.name).working_on(ids[1:3] if number == 0 else ids[1:2])
        dead.__enter__()
        open_notes.append(dead)  # as long as it lives, nobody ends it
    assert label(photos, inputs=[photos / "a"]) == 1
    rows = rows_of(photos)
    assert "3 processes were killed" in rows[1]["error"]
    assert [row["error"] is None for row in rows] == [True, False, True, True, True, True]
    assert not list((folder / TRIES).iterdir())


@pytest.mark.slow
def test_a_photo_that_breaks_the_model_breaks_no_other(photos):
    (photos.parent / "config.py").write_text(CONFIG.replace("fakes.FakeDetector", "fakes.FussyDetector") + SMALL)
    assert label(photos) == 1
    rows = rows_of(photos)
    assert [row["error"] for row in rows if "1.png" in row["id"]] == ["out of memory"]
    assert [len(row["people"]) for row in rows] == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]


@pytest.mark.slow
def test_tars_parquet_files_and_addresses(photos, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for number in range(3):
            for name, content in ((f"x/{number}.png", picture(number)), (f"x/{number}.json", b"{}")):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    plain = pa.table({"key": ["a", "b"], "image": [picture(1), picture(2)]})
    parquet.write_table(plain, tmp_path / "plain.parquet", row_group_size=1)
    nested = pa.table({"image": [{"bytes": picture(4), "path": "x.png"}]})
    parquet.write_table(nested, tmp_path / "nested.parquet")
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/a/0.png": picture(0), "/bucket/b.txt": b""})
    memory.pipe("/bucket/a/more.tar", (tmp_path / "in.tar").read_bytes())
    listed = list_photos([str(tmp_path / "in.tar"), str(tmp_path / "*.parquet"), "memory://bucket"])
    names = [photo.id.removeprefix(str(tmp_path)) for photo in listed.photos]
    assert names == [
        "/in.tar/x/0.png", "/in.tar/x/1.png", "/in.tar/x/2.png", "/nested.parquet#0", "/plain.parquet#0", "/plain.parquet#1",
        "memory:///bucket/a/0.png", "memory:///bucket/a/more.tar/x/0.png", "memory:///bucket/a/more.tar/x/1.png", "memory:///bucket/a/more.tar/x/2.png",
    ]  # fmt: skip
    assert listed.left_out == {"not a picture": 1}
    contents = [picture(number) for number in (0, 1, 2, 4, 1, 2, 0, 0, 1, 2)]
    assert [read_bytes(photo) for photo in listed.photos] == contents
    assert label(photos, inputs=[tmp_path / "in.tar", tmp_path / "plain.parquet", "memory://bucket/a/*.png"]) == 0
    assert [len(row["people"]) for row in rows_of(photos)] == [1, 2, 1, 2, 1, 1]


@pytest.mark.slow
def test_merging_filters_and_splits(photos, tmp_path, capsys):
    assert label(photos) == 1
    labels = str(tmp_path / "labels")
    assert main(["merge", labels]) == 0
    everybody = json.loads((tmp_path / "labels" / "people.json").read_text())["annotations"]
    least = max(row["agreement"] for row in everybody)
    assert main(["merge", labels, "-o", str(tmp_path / "sure.json"), "--min-agreement", str(least)]) == 0
    sure = json.loads((tmp_path / "sure.json").read_text())
    assert len(sure["annotations"]) == sum(row["agreement"] >= least for row in everybody) < len(everybody)
    assert len(sure["images"]) == 9
    assert sure["info"]["min_agreement"] == least
    assert main(["merge", labels, "-o", str(tmp_path / "none.json"), "--min-score", "0.95"]) == 0
    assert json.loads((tmp_path / "none.json").read_text())["annotations"] == []
    assert main(["merge", labels, "-o", str(tmp_path / "part.json"), "--split", "4"]) == 0
    parts = [json.loads((tmp_path / f"part-{number:05d}.json").read_text()) for number in range(3)]
    assert [len(part["images"]) for part in parts] == [4, 3, 2]
    numbers = [row["id"] for part in parts for row in part["images"]]
    assert len(set(numbers)) == 9
    assert [{**row, "id": 0} for part in parts for row in part["annotations"]] == [
        {**row, "id": 0} for row in everybody
    ]
    assert main(["merge", labels]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere"),
        (["{0}", "--workers", "2"], "add --engine ray"),
        (["{0}", "--set", "label.shots=3"], "label has no 'shots'"),
        (["{0}", "--set", "label.photos=0"], "expected a whole number from 1"),
        ([], "nothing to do"),
        (["{0}", "-o", "s3://bucket/labels"], "--output s3://bucket/labels: expected a folder"),
    ],
)
def test_mistakes_are_one_line(photos, capsys, arguments, complaint):
    folder = photos.parent
    given = [argument.format(photos) for argument in arguments]
    assert main(["label", "-o", f"{folder}/labels", "-c", f"{folder}/config.py", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_said_at_once(scheme):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--address {address}: nobody answers there"):
            ray_engine.check_reachable(address)
        taken.listen()
        ray_engine.check_reachable(address)
    ray_engine.check_reachable("auto")


def test_a_cluster_that_does_not_start_is_one_line(monkeypatch):
    def fail(**_):
        raise Exception("The current node timed out\nduring startup.")  # as Ray does

    monkeypatch.setattr(ray_engine, "_import_ray", lambda: SimpleNamespace(init=fail))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "any")
    job = Job({}, "cpu", "labels", LabelSettings())
    with pytest.raises(UserError, match=r"^Ray: The current node timed out during startup\.$"):
        list(ray_engine.RayEngine(None, 1)([Shard("a", [])], job))


@pytest.mark.slow
@pytest.mark.parametrize(
    "write", ["filelock.FileLock.acquire", "json.dump", "pathlib.Path.write_text", "pyarrow.parquet.write_table"]
)
def test_a_disk_that_is_full_is_one_line_and_the_same_command_goes_on(photos, monkeypatch, capsys, write):
    """For the lock, the settings, the notes of what is worked on, and the shards."""

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(write, fail)
        assert label(photos, "--quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "labels" in line
    assert "cannot be written, No space left on device" in line
    assert label(photos) == 1
    assert len(rows_of(photos)) == 10


@pytest.mark.slow
def test_labels_of_other_settings_are_not_mixed(photos, capsys):
    assert label(photos) == 1
    capsys.readouterr()
    assert label(photos, "--set", "pipeline.rounds=1") == 2
    assert "other settings (pipeline)" in capsys.readouterr().err
    assert main(["merge", str(photos)]) == 2
    assert "holds no labels" in capsys.readouterr().err


def test_shards_are_the_same_in_every_run_and_rows_of_a_group_stay_together():
    photos = [Photo(f"{number}.jpg", f"{number}.jpg") for number in range(10)]
    whole = to_shards(photos, set(), 4)
    assert [len(shard.photos) for shard in whole] == [4, 4, 2]
    assert to_shards(photos, {"0.jpg", "1.jpg", "2.jpg", "3.jpg"}, 4) == whole[1:]
    rows = [Photo(f"p#{row}", "p", group=row // 6, row=row % 6, column="image") for row in range(12)]
    assert [len(shard.photos) for shard in to_shards(rows, set(), 4)] == [6, 6]


@pytest.mark.parametrize("section", [{"shots": 3}, {"workers": 0}, {"num_gpus": -1}, {"num_cpus": "2"}, [1]])
def test_settings_that_make_no_sense_are_refused(section):
    assert LabelSettings.of({"workers": 3, "num_gpus": 0.25}).num_gpus == 0.25
    with pytest.raises(UserError, match="label"):
        LabelSettings.of(section)


@pytest.mark.slow
def test_coco_files_of_shards_are_complete_in_themselves_and_follow_the_shards(photos):
    folder = photos.parent / "labels"
    assert label(photos) == 1
    assert not (folder / COCO_SHARDS).exists()
    (folder / COCO_SHARDS).mkdir()
    (folder / COCO_SHARDS / "00000000-0123456789ab.json").write_text("of a shard that is gone")
    shards_in(folder)[1].unlink()
    assert label(photos, "--coco") == 1
    paths = sorted((folder / COCO_SHARDS).iterdir())
    assert [path.stem for path in paths] == [path.stem for path in shards_in(folder)]
    for path, shard in zip(paths, shards_in(folder), strict=True):
        rows, data = read_shard(shard), json.loads(path.read_text())
        done = [row for row in rows if row["error"] is None]
        assert [image["file_name"] for image in data["images"]] == [row["id"] for row in done]
        assert len(data["failed"]) == len(rows) - len(done)
        assert [row["id"] for row in data["annotations"]] == [*range(1, sum(len(row["people"]) for row in rows) + 1)]
        assert len(COCO(str(path)).getAnnIds()) == len(data["annotations"])


@pytest.mark.slow
def test_what_a_killed_worker_left_beside_the_shards_is_no_shard(photos):
    assert label(photos) == 1
    (first, *_) = shards_in(photos.parent / "labels")
    whole, left = rows_of(photos), first.with_name(f"{first.stem}.4711.parquet")
    left.write_bytes(first.read_bytes())
    assert first.parent.joinpath(left) not in shards_in(photos.parent / "labels")
    assert label(photos) == 1
    assert not left.exists()
    assert rows_of(photos) == whole


@pytest.mark.slow  # Ray takes 10 s and more to start, twice
@pytest.mark.timeout(300)
def test_on_ray_nothing_is_lost_or_twice_when_a_worker_and_the_driver_are_killed(photos, monkeypatch):
    pytest.importorskip("ray")
    assert label(photos, "--set", "label.photos=1") == 1
    folder = photos.parent / "labels"
    whole, names = rows_of(photos), [path.name for path in shards_in(folder)]
    shutil.rmtree(folder)
    orders = photos.parent / "orders"
    orders.mkdir()
    killers = CONFIG.replace('"fakes.FakeDetector"', f'"fakes.MortalDetector", orders="{orders}", labels="{folder}"')
    (photos.parent / "config.py").write_text(killers + SMALL)
    command = ["label", photos, "-o", folder, "-c", "config.py", "--set", "label.photos=1", "--engine", "ray"]
    command += ["--workers", "2", "--quiet"]
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])  # of the workers, which Ray starts
    driver = begin(photos.parent, *command, main=main)
    (orders / "2").write_text("worker")  # once there are so many shards
    (orders / "5").write_text(str(driver.pid))
    driver.join(150)
    driver.kill()
    assert driver.exitcode == -signal.SIGKILL
    assert not list(orders.iterdir())  # it was the order that killed it
    before = {path.name: path.stat().st_mtime_ns for path in shards_in(folder)}
    assert 5 <= len(before) < 10
    ((code, _, err),) = together(photos.parent, *command, main=main, count=1)
    assert code in (0, 1), err  # 1 where the photo that fails was left to this run
    after = {path.name: path.stat().st_mtime_ns for path in shards_in(folder)}
    assert before.items() <= after.items()  # none was done again
    rows = [row for path in shards_in(folder) for row in read_shard(path)]
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in whole)
    assert rows_of(photos) == whole
    assert list(after) == names
