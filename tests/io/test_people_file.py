"""COCO files: what is in an annotation, that kills lose nothing, and which boxes are read for which image."""

import contextlib
import io
import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bmp.errors import UserError
from bmp.io.annotations import category, to_annotations
from bmp.io.boxes_file import load_boxes
from bmp.io.people_file import ImageEntry, PeopleFile
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.structures import Detections, Image, Instances, Masks, Poses

K = len(COCO_KEYPOINTS)
HEIGHT, WIDTH = 40, 60


def some_people(count: int, seed: int = 0) -> Instances:
    """Boxes whose masks fill them, with keypoints inside."""
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=random).sort(dim=1).values * torch.tensor([WIDTH - 4.0, HEIGHT - 4.0])
    corners = corners.floor()
    corners[:, 1] += 3
    boxes = corners.flatten(1)
    x, y = torch.arange(WIDTH), torch.arange(HEIGHT)[:, None]
    x1, y1, x2, y2 = (side[:, None, None] for side in boxes.unbind(1))
    bits = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    scores = torch.rand(4, count, K, generator=random)
    places = boxes[:, None, :2] + torch.rand(count, K, 2, generator=random) * (boxes[:, None, 2:] - boxes[:, None, :2])
    return Instances(
        Detections(boxes, torch.rand(count, generator=random)),
        Poses(places, scores[0], scores[1], scores[2]),
        Masks(bits, torch.rand(count, generator=random)),
        torch.randint(1, 3, (count,), generator=random),
    )


def quiet_coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


class TestAnnotations:
    def test_one_person_by_hand(self):
        keypoints = KeypointSet(("head", "hand", "foot", "tail"), (0.1,) * 4, (), ((0, 1), (1, 2)))
        bits = torch.zeros(1, 4, 6, dtype=torch.bool)
        bits[0, 1:3, 2:6] = True
        bits[0, 1, 2] = False
        person = Instances(
            Detections(torch.tensor([[2.0, 1.0, 6.008, 3.0]]), torch.tensor([0.3])),
            Poses(
                torch.tensor([[[2.126, 1.0], [-0.001, 2.0], [3.0, 900.25], [5.0, 1.5]]]),
                torch.tensor([[0.1, 0.2, 1 / 3, 0.4]]),
                torch.tensor([[0.5, 0.49, 1.0, 0.0]]),
                torch.tensor([[0.9, 0.5, 0.49, 0.6]]),
            ),
            Masks(bits, torch.tensor([0.98768])),
            torch.tensor([2]),
        )
        (row,) = to_annotations(person, 7, keypoints, first_id=5)
        rle = row.pop("segmentation")
        assert row == {
            "id": 5,
            "image_id": 7,
            "category_id": 1,
            "bbox": [2.0, 1.0, 4.01, 2.0],
            "area": 7,
            "iscrowd": 0,
            "score": 0.3,
            "mask_score": 0.9877,
            "keypoints": [2.13, 1.0, 2, 0.0, 2.0, 1, 3.0, 900.25, 0, 5.0, 1.5, 1],
            "num_keypoints": 3,
            "keypoint_scores": [0.1, 0.2, 0.3333, 0.4],
            "keypoint_visibility": [0.5, 0.49, 1.0, 0.0],
            "keypoint_presence": [0.9, 0.5, 0.49, 0.6],
            "round": 2,
        }
        assert rle["size"] == [4, 6]
        assert isinstance(rle["counts"], str)
        # As JSON: no -0.0, and flags are whole numbers.
        assert "-0.0" not in json.dumps(row)
        assert '"keypoints": [2.13, 1.0, 2, 0.0, 2.0, 1,' in json.dumps(row)

    def test_nobody(self):
        image = Image(torch.zeros(3, 3, 3, dtype=torch.uint8))
        assert to_annotations(Instances.empty(image, K), 1, COCO_KEYPOINTS) == []

    def test_wrong_keypoint_set(self):
        nobody = Instances.empty(Image(torch.zeros(3, 3, 3, dtype=torch.uint8)), 3)
        with pytest.raises(ValueError, match="17 keypoints, got 3"):
            to_annotations(nobody, 1, COCO_KEYPOINTS)

    @given(st.integers(0, 6), st.integers(0, 100))
    def test_json_tells_what_the_records_hold(self, count, seed):
        people = some_people(count, seed)
        rows = json.loads(json.dumps(to_annotations(people, 3, COCO_KEYPOINTS, first_id=10), allow_nan=False))
        assert [row["id"] for row in rows] == list(range(10, 10 + count))
        for i, row in enumerate(rows):
            x, y, width, height = row["bbox"]
            assert [x, y, x + width, y + height] == pytest.approx(people.detections.boxes[i].tolist(), abs=0.011)
            assert row["area"] == people.masks.bits[i].sum()
            points = np.reshape(row["keypoints"], (K, 3))
            assert np.abs(points[:, :2] - people.poses.keypoints[i].numpy()).max() <= 0.0051
            assert row["num_keypoints"] == (points[:, 2] > 0).sum() == (people.poses.presence[i] >= 0.5).sum()
            assert row["keypoint_scores"] == pytest.approx(people.poses.scores[i].tolist(), abs=5.1e-5)


class TestPeopleFile:
    NAMES = ("a.jpg", "sub/b.jpg", "ünïcode.png", "d.jpg")

    def fill(self, path, names=NAMES, **options):
        with PeopleFile(path, COCO_KEYPOINTS, names, **options) as file:
            for number, name in enumerate(names):
                file.add(name, HEIGHT, WIDTH, some_people(number % 3, number))

    def test_pycocotools_reads_and_scores_it(self, tmp_path):
        names = [f"{i}.jpg" for i in range(4)]
        with PeopleFile(tmp_path / "people.json", COCO_KEYPOINTS, names) as file:
            for seed, name in enumerate(names):
                people = some_people(3, seed)
                present = replace(people.poses, presence=torch.ones(3, K))
                file.add(name, HEIGHT, WIDTH, replace(people, poses=present))
        coco = quiet_coco(tmp_path / "people.json")
        assert [(row["id"], row["file_name"]) for row in coco.loadImgs(coco.getImgIds())] == list(enumerate(names, 1))
        assert coco.loadCats([1])[0]["keypoints"][0] == "nose"
        for image_id in coco.getImgIds():
            people = some_people(3, image_id - 1)
            rows = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
            assert len(rows) == 3
            for i, row in enumerate(rows):
                assert (coco.annToMask(row) == people.masks.bits[i].numpy()).all()
        # Against itself as ground truth everything is right, whatever is compared.
        for kind in ("bbox", "segm", "keypoints"):
            with contextlib.redirect_stdout(io.StringIO()):
                evaluation = COCOeval(coco, coco.loadRes(list(coco.anns.values())), kind)
                evaluation.evaluate()
                evaluation.accumulate()
                evaluation.summarize()
            assert evaluation.stats[0] == pytest.approx(1.0), kind

    def test_contents(self, tmp_path):
        path = tmp_path / "new" / "people.json"
        info = {"config": "lite.py", "rounds": 2}
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES, info=info) as file:
            file.add("d.jpg", HEIGHT, WIDTH, some_people(2))
            file.add("a.jpg", 10, 20, some_people(0))
            file.fail("ünïcode.png", "broken")
        data = json.loads(path.read_text())
        assert data["info"] == info
        assert data["categories"] == [category(COCO_KEYPOINTS)]
        assert data["images"] == [
            {"id": 1, "file_name": "a.jpg", "height": 10, "width": 20},
            {"id": 4, "file_name": "d.jpg", "height": HEIGHT, "width": WIDTH},
        ]
        assert data["failed"] == [{"file_name": "ünïcode.png", "reason": "broken"}]
        assert data["annotations"] == to_annotations(some_people(2), 4, COCO_KEYPOINTS)
        assert [entry.name for entry in path.parent.iterdir()] == ["people.json"]

    def test_skeleton_counts_from_one(self):
        assert category(COCO_KEYPOINTS)["skeleton"][0] == [16, 14]

    def test_resume_tries_failures_again(self, tmp_path):
        path = tmp_path / "people.json"
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES) as file:
            file.add("a.jpg", HEIGHT, WIDTH, some_people(1))
            file.fail("sub/b.jpg", "cut short")
            assert [file.done(name) for name in self.NAMES] == [True, False, False, False]
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES, resume=True) as file:
            assert [file.done(name) for name in self.NAMES] == [True, False, False, False]
            # Not tried yet, it stays on the list.
            assert json.loads(path.read_text())["failed"] == [{"file_name": "sub/b.jpg", "reason": "cut short"}]
            file.add("sub/b.jpg", HEIGHT, WIDTH, some_people(0))
        data = json.loads(path.read_text())
        assert data["failed"] == []
        assert [row["id"] for row in data["images"]] == [1, 2]

    def test_what_was_put_down_by_hand_comes_back_and_new_images_join(self, tmp_path):
        path = tmp_path / "people.json"
        self.fill(path)
        review = {"revision": 3, "deleted": {"0": 2}}
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES, resume=True) as file:
            entry = file.entry(self.NAMES[2])
            assert "id" not in entry.rows[0]
            changed = replace(entry, rows=[{**entry.rows[0], "edited": ["box"]}], review=review)
            file.put(self.NAMES[2], changed)
            file.include(["new.jpg"])
            file.put("new.jpg", ImageEntry(HEIGHT, WIDTH, [], None, [], {}))
            file.write()
            assert json.loads(path.read_text())["images"][-1]["file_name"] == "new.jpg"
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES, resume=True) as file:
            assert file.entry(self.NAMES[2]) == changed
            assert file.entry("a.jpg").review == {}
            assert file.done("new.jpg")
            with pytest.raises(KeyError):
                file.entry("never.jpg")
        data = json.loads(path.read_text())
        assert [row["review"] for row in data["images"] if "review" in row] == [review]
        assert [row["id"] for row in data["annotations"]] == list(range(1, len(data["annotations"]) + 1))

    def test_without_resume_everything_starts_anew(self, tmp_path):
        path = tmp_path / "people.json"
        self.fill(path)
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES) as file:
            assert not any(map(file.done, self.NAMES))
        assert json.loads(path.read_text())["images"] == []

    def test_resume_keeps_images_of_other_inputs_behind_its_own(self, tmp_path):
        path = tmp_path / "people.json"
        self.fill(path, ["x.jpg", "y.jpg", "z.jpg"])
        self.fill(path, ["new.jpg", "z.jpg"], resume=True)
        images = json.loads(path.read_text())["images"]
        assert [row["file_name"] for row in images] == ["new.jpg", "z.jpg", "x.jpg", "y.jpg"]
        assert [row["id"] for row in images] == [1, 2, 3, 4]

    def test_resume_refuses_other_settings(self, tmp_path):
        path = tmp_path / "people.json"
        self.fill(path, info={"config": "lite.py", "rounds": 2})
        before = path.read_bytes()
        with pytest.raises(UserError, match=r"other settings \(rounds\)"):
            PeopleFile(path, COCO_KEYPOINTS, self.NAMES, resume=True, info={"config": "lite.py", "rounds": 1})
        assert path.read_bytes() == before
        other = replace(COCO_KEYPOINTS, names=(*COCO_KEYPOINTS.names[:-1], "toe"))
        with pytest.raises(UserError, match=r"other settings \(keypoints\)"):
            PeopleFile(path, other, self.NAMES, resume=True, info={"config": "lite.py", "rounds": 2})
        # The refusal leaves nothing behind that would spoil the right resume.
        self.fill(path, resume=True, info={"config": "lite.py", "rounds": 2})
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        ("text", "words"),
        [("[1", "not written"), ("[]", "not written"), ("null", "not written"), ('{"images": []}', "not written")],
    )
    def test_resume_refuses_strange_files(self, tmp_path, text, words):
        path = tmp_path / "people.json"
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            PeopleFile(path, COCO_KEYPOINTS, self.NAMES, resume=True)
        assert path.read_text() == text

    @pytest.mark.parametrize("text", ["hello\n", "3\n", '{"info": 3, "keypoints": []}\n'])
    def test_resume_refuses_a_strange_journal(self, tmp_path, text):
        (tmp_path / "people.json.partial").write_text(text)
        with pytest.raises(UserError, match="not a journal"):
            PeopleFile(tmp_path / "people.json", COCO_KEYPOINTS, self.NAMES, resume=True)

    def test_names_are_known_up_front_and_distinct(self, tmp_path):
        with pytest.raises(ValueError, match="every file name once"):
            PeopleFile(tmp_path / "people.json", COCO_KEYPOINTS, ["a", "a"])
        with (
            PeopleFile(tmp_path / "people.json", COCO_KEYPOINTS, ["a"]) as file,
            pytest.raises(ValueError, match="'b'"),
        ):
            file.fail("b", "why not")

    @pytest.mark.slow
    def test_images_are_cheap_between_writings(self, tmp_path, monkeypatch):
        writings = []
        monkeypatch.setattr(os, "fsync", writings.append)
        names = [str(number) for number in range(100)]
        with PeopleFile(tmp_path / "people.json", COCO_KEYPOINTS, names, interval=1e6) as file:
            started = len(writings)
            for name in names:
                file.add(name, HEIGHT, WIDTH, some_people(1))
            assert len(writings) == started
        assert len(writings) == started + 1

    def test_the_file_is_up_to_date_after_the_interval(self, tmp_path):
        path = tmp_path / "people.json"
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES, interval=0.0) as file:
            deadline = time.monotonic() + 30
            while not json.loads(path.read_text())["images"]:
                file.add("a.jpg", HEIGHT, WIDTH, some_people(1))
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert len(json.loads(path.read_text())["annotations"]) == 1

    def test_interrupted_in_the_middle_of_a_writing(self, tmp_path, monkeypatch):
        path = tmp_path / "people.json"

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        def work() -> None:
            with PeopleFile(path, COCO_KEYPOINTS, self.NAMES) as file, monkeypatch.context() as patch:
                patch.setattr(os, "fsync", interrupt)
                file._due = 0.0
                file.add("a.jpg", HEIGHT, WIDTH, some_people(1))

        with pytest.raises(KeyboardInterrupt):
            work()
        assert [row["file_name"] for row in json.loads(path.read_text())["images"]] == ["a.jpg"]
        assert [entry.name for entry in tmp_path.iterdir()] == ["people.json"]

    def test_full_disk_is_one_line_and_loses_nothing(self, tmp_path, monkeypatch):
        path = tmp_path / "people.json"
        file = PeopleFile(path, COCO_KEYPOINTS, self.NAMES)
        file.add("a.jpg", HEIGHT, WIDTH, some_people(1))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(UserError, match="No space left on device") as caught:
                file.close()
        assert "\n" not in str(caught.value)
        assert json.loads(path.read_text())["images"] == []
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES, resume=True) as resumed:
            assert resumed.done("a.jpg")

    def test_unwritable_folder_is_one_line(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot be written") as caught:
            PeopleFile(tmp_path / "file" / "people.json", COCO_KEYPOINTS, self.NAMES)
        assert "\n" not in str(caught.value)
        (tmp_path / "people.json").mkdir()
        with pytest.raises(UserError, match=r"people\.json"):
            PeopleFile(tmp_path / "people.json", COCO_KEYPOINTS, self.NAMES)

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
    def test_read_only_folder_is_one_line(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(UserError, match="Permission denied"):
            PeopleFile(tmp_path / "people.json", COCO_KEYPOINTS, self.NAMES)

    @pytest.mark.slow
    @settings(max_examples=40, deadline=None)
    @given(
        stops=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2000), st.booleans(), st.sampled_from([0.0, 1e9]))),
        failing=st.sets(st.integers(0, 7)),
    )
    def test_killed_and_resumed_equals_undisturbed(self, tmp_path_factory, stops, failing):
        """Each stop: images done before the kill, bytes torn off the journal's end, closed in order, interval."""
        folder = tmp_path_factory.mktemp("kill")
        names = [f"{number}.jpg" for number in range(8)]

        def work(file: PeopleFile, count: int) -> None:
            for number, name in enumerate(names):
                if not file.done(name) and count > 0:
                    count -= 1
                    if number in failing:
                        file.fail(name, "broken")
                    else:
                        file.add(name, HEIGHT, WIDTH, some_people(number % 3, number))

        with PeopleFile(folder / "undisturbed.json", COCO_KEYPOINTS, names) as file:
            work(file, len(names))
        path, partial = folder / "people.json", folder / "people.json.partial"
        for count, torn, closed, interval in stops:
            file = PeopleFile(path, COCO_KEYPOINTS, names, resume=True, interval=interval)
            before = partial.read_bytes()
            work(file, count)
            json.loads(path.read_text())
            if closed:
                file.close()
                assert not partial.exists()
                continue
            file._journal.close()
            # The kill came while the last line was on its way.
            last = partial.read_bytes()[len(before) :].splitlines(keepends=True)[-1:]
            lost = min(torn, len(last[0])) if last else 0
            os.truncate(partial, partial.stat().st_size - lost)
        with PeopleFile(path, COCO_KEYPOINTS, names, resume=True) as file:
            work(file, len(names))
        assert path.read_bytes() == (folder / "undisturbed.json").read_bytes()

    def test_a_spoilt_line_costs_one_image(self, tmp_path):
        path, partial = tmp_path / "people.json", tmp_path / "people.json.partial"
        file = PeopleFile(path, COCO_KEYPOINTS, self.NAMES)
        for name in self.NAMES[:3]:
            file.add(name, HEIGHT, WIDTH, some_people(1))
        file._journal.close()
        lines = partial.read_bytes().splitlines(keepends=True)
        partial.write_bytes(b"".join([*lines[:2], b"\0" * 50 + b"\n", lines[3]]))
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES, resume=True) as resumed:
            assert [resumed.done(name) for name in self.NAMES] == [True, False, True, False]

    def test_a_torn_line_costs_one_image(self, tmp_path):
        path, partial = tmp_path / "people.json", tmp_path / "people.json.partial"
        file = PeopleFile(path, COCO_KEYPOINTS, self.NAMES)
        for name in self.NAMES[:3]:
            file.add(name, HEIGHT, WIDTH, some_people(1))
        file._journal.close()
        os.truncate(partial, partial.stat().st_size - 1)
        with PeopleFile(path, COCO_KEYPOINTS, self.NAMES, resume=True) as resumed:
            assert [resumed.done(name) for name in self.NAMES] == [True, True, False, False]

    @pytest.mark.slow
    def test_a_real_kill(self, tmp_path):
        path = tmp_path / "people.json"
        context = multiprocessing.get_context("fork")
        reader, writer = context.Pipe(duplex=False)

        def work():
            with PeopleFile(path, COCO_KEYPOINTS, [str(i) for i in range(100_000)], interval=0.0) as file:
                for i in range(100_000):
                    file.add(str(i), HEIGHT, WIDTH, some_people(1))
                    writer.send(i)

        process = context.Process(target=work)
        process.start()
        writer.close()
        while reader.recv() < 60:
            pass
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        json.loads(path.read_text())
        with PeopleFile(path, COCO_KEYPOINTS, [str(i) for i in range(100_000)], resume=True) as file:
            assert all(file.done(str(i)) for i in range(60))


def test_a_file_of_ours_gives_back_its_boxes(tmp_path):
    people = some_people(3)
    with PeopleFile(tmp_path / "people.json", COCO_KEYPOINTS, ["a.jpg", "b.jpg"]) as file:
        file.add("b.jpg", HEIGHT, WIDTH, people)
    boxes = load_boxes(tmp_path / "people.json", ["a.jpg", "b.jpg"]).boxes
    assert list(boxes) == ["b.jpg"]
    assert torch.allclose(boxes["b.jpg"].boxes, people.detections.boxes, atol=0.011)
    assert torch.allclose(boxes["b.jpg"].scores, people.detections.scores, atol=5.1e-5)
