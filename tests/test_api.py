"""The library face: what a model takes, what it refuses, and people as a collection."""

import copy
import io
import json
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, detections, scene

import bmp
from bmp.api import BMP, People, Person, PicturesError
from bmp.errors import UserError
from bmp.io.images import ImageError
from bmp.structures import Detections, Image, Instances

FRONT, BEHIND = (20, 10, 30, 20), (15, 5, 40, 30)
TWO = ((5, 5, 15, 25), (30, 10, 60, 40))


def new_model(**options) -> BMP:
    return BMP(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll(), **options)


@pytest.fixture
def model() -> BMP:
    return new_model()


@pytest.fixture
def people(model) -> People:
    return model(scene(*TWO))


@pytest.fixture
def folder(tmp_path):
    for name, squares in (("b.png", TWO), ("a.png", ()), ("c.png", TWO[:1])):
        PIL.Image.fromarray(scene(*squares).pixels.numpy()).save(tmp_path / name)
    (tmp_path / "clip.mp4").touch()
    return tmp_path


class TestOnePicture:
    @pytest.mark.slow
    def test_all_kinds_give_the_same(self, model, folder):
        path = folder / "b.png"
        pixels = scene(*TWO).pixels
        expected = model(Image(pixels))
        with path.open("rb") as file:
            for source in (
                path,
                str(path),
                path.read_bytes(),
                io.BytesIO(path.read_bytes()),
                file,
                PIL.Image.open(path),
                pixels,
                pixels.numpy(),
                pixels.numpy() / 255,
                pixels.numpy().astype(np.float32) / 255,
                pixels.permute(2, 0, 1),
                pixels.permute(2, 0, 1).float() / 255,
            ):
                found = model(source)
                assert isinstance(found, People)
                assert found == expected
                assert torch.equal(found.image.pixels, pixels)
        assert len(expected) == 2

    def test_bgr(self, model):
        flipped = scene(*TWO).pixels.numpy()[..., ::-1]
        assert len(model(flipped)) == 0
        assert model(flipped, bgr=True) == model(scene(*TWO))

    def test_a_file_whose_name_is_a_pattern(self, model, folder):
        (folder / "b.png").rename(folder / "b[1].png")
        assert len(model(folder / "b[1].png")) == 2

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("missing.jpg", "missing.jpg"),
            (np.full((4, 4, 3), 2.0), "0..1, got 2..2"),
            (np.zeros((4, 4, 3), np.int64), "got int64"),
            (b"", "empty"),
            ("http://127.0.0.1:1/a.jpg", "cannot be fetched"),
        ],
    )
    def test_what_cannot_be_read_is_a_value_error_of_one_line(self, model, source, words):
        with pytest.raises(ValueError, match=words) as caught:
            model(source)
        assert isinstance(caught.value, ImageError)
        assert "\n" not in str(caught.value)

    def test_other_objects(self, model):
        with pytest.raises(TypeError, match="got int"):
            model(5)

    @pytest.mark.slow
    def test_rounds_min_score_and_trace(self, model):
        image = scene(BEHIND, FRONT)
        assert model(image).round.tolist() == [1, 2]
        assert model(image, rounds=1, trace=True).round.tolist() == [1]
        assert len(model(image, trace=True).trace) == 2
        assert len(model(image, min_score=0.9)) == 2
        kept = model(image, min_score=0.95, trace=True)
        assert len(kept) == 0
        assert len(kept.trace[-1].people) == 2
        assert model(image).trace == []


class TestBoxes:
    def test_scores_and_only_given(self, model):
        image = scene(BEHIND, FRONT)
        given = model(image, boxes=[[1, 1, 9, 9, 0.25]], only_given=True)
        assert given.boxes.tolist() == [[1, 1, 9, 9]]
        assert given.scores.tolist() == [0.25]
        assert len(model(image, boxes=[[1, 1, 9, 9]])) > 1
        for boxes in (np.array([[1, 1, 9, 9]]), torch.tensor([[1.0, 1, 9, 9]]), detections((1, 1, 9, 9))):
            assert model(image, boxes=boxes, only_given=True).scores.tolist() == [1]

    def test_none_means_detect_and_empty_means_nobody(self, model):
        images = [scene(*TWO)] * 3
        counts = [len(p) for p in model(images, boxes=[None, [], [[1, 1, 9, 9]]], only_given=True)]
        assert counts == [2, 0, 1]

    @pytest.mark.parametrize(
        ("boxes", "words"),
        [
            ([1, 2, 30, 40], r"got \(4,\); for one box write \[\[x1"),
            ([[1, 2, 3]], r"got \(1, 3\)"),
            ([[1, 2, 30, 40, 0.5, 6]], r"got \(1, 6\)"),
            ([[1, 2, 30, 40, 1.5]], r"Detections.scores: expected values in \[0.0, 1.0\]"),
            ([[30, 2, 1, 40]], "x1 <= x2"),
            ([[1, 2, float("nan"), 40]], "finite"),
            ([["a", 2, 3, 4]], r"expected numbers \(N, 4\)"),
            ([[1, 2, 30, 40], [1, 2]], r"expected numbers \(N, 4\)"),
        ],
    )
    def test_wrong_ones(self, model, boxes, words):
        for call in (lambda: model(scene(), boxes=boxes), lambda: model([scene()], boxes=[boxes])):
            with pytest.raises(ValueError, match=words):
                call()

    @pytest.mark.parametrize("count", [0, 1, 3, 5])
    def test_lengths_are_compared(self, model, count):
        images, boxes = [scene()] * 4, [[[1, 1, 9, 9]]] * count
        with pytest.raises(ValueError, match=f"4 pictures, got {count}"):
            model(images, boxes=boxes)
        with pytest.raises(ValueError, match="expected one entry a picture"):
            list(model(iter(images), boxes=iter(boxes), stream=True))

    def test_those_outside_or_without_size_are_left_out_and_said(self, model, caplog):
        boxes = [[1, 1, 9, 9], [-9, 0, 0, 9], [3, 3, 3, 9], [64, 0, 70, 9]]
        assert len(model(scene(), boxes=boxes, only_given=True)) == 1
        assert "left out 3 without size or outside the 64x48 pixels of the picture: rows 1, 2, 3" in caplog.text


class TestSeveralPictures:
    @pytest.mark.slow
    def test_folder_glob_list_generator_and_batch_give_lists_in_order(self, model, folder, caplog):
        counts = [0, 2, 1]
        paths = [folder / name for name in ("a.png", "b.png", "c.png")]
        batch = np.stack([scene(*squares).pixels.numpy() for squares in ((), TWO, TWO[:1])])
        for source in (
            folder,
            str(folder),
            f"{folder}/*.png",
            paths,
            tuple(map(str, paths)),
            (path.read_bytes() for path in paths),
            batch,
            torch.from_numpy(batch).permute(0, 3, 1, 2),
        ):
            found = model(source, batch_size=2)
            assert isinstance(found, list)
            assert [len(people) for people in found] == counts
        assert [people.source for people in model(folder)] == list(map(str, paths))
        assert "clip.mp4" in caplog.text
        assert model([]) == []

    @pytest.mark.slow
    def test_stream_yields_as_it_goes_and_reads_no_further(self):
        model, read = new_model(), []

        def pictures():
            for number in range(1000):
                read.append(number)
                yield scene(*TWO)

        stream = model(pictures(), stream=True, batch_size=3)
        assert read == []
        assert len(next(stream)) == 2
        assert len(read) == 3
        next(stream), next(stream), next(stream)
        assert len(read) == 6

    def test_one_picture_can_be_streamed(self, model):
        assert [len(people) for people in model(scene(*TWO), stream=True)] == [2]

    @pytest.mark.slow
    @pytest.mark.parametrize("batch_size", [1, 2, 4])
    def test_a_broken_picture_stops_no_other_and_nothing_is_lost(self, model, folder, batch_size, caplog):
        pictures = [folder / name for name in ("b.png", "clip.mp4", "c.png")] + [None, folder / "a.png"]
        boxes = [None, None, None, None, [[1, 2]]]
        for options, counts in (({}, [2, None, 1, None, 0]), ({"boxes": boxes}, [2, None, 1, None, None])):
            with pytest.raises(PicturesError) as caught:
                model(pictures, batch_size=batch_size, **options)
            found = [None if people is None else len(people) for people in caught.value.people]
            assert found == counts
            assert list(caught.value.failed) == [i for i, count in enumerate(counts) if count is None]
            words = f"{counts.count(None)} of 5 pictures failed, the first is number 1: {folder / 'clip.mp4'}: "
            assert str(caught.value).startswith(words)
            assert isinstance(caught.value.failed[1], ImageError)
        assert "picture 1 failed: " in caplog.text

    def test_a_stream_tells_what_failed_at_its_end(self, model, folder):
        stream = model([folder / "b.png", folder / "clip.mp4", folder / "c.png"], stream=True, batch_size=1)
        assert [len(next(stream)), len(next(stream))] == [2, 1]
        with pytest.raises(PicturesError, match=r"1 of 3 pictures failed, .*clip\.mp4") as caught:
            next(stream)
        assert caught.value.people == []
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    def test_a_picture_that_a_stage_fails_on_fails_alone(self, folder, monkeypatch):
        model = new_model()
        detect = model.detector.detect

        def fail_on_three(images):
            found = detect(images)
            if any(len(people) == 1 for people in found):
                raise RuntimeError("no memory")
            return found

        monkeypatch.setattr(model.detector, "detect", fail_on_three)
        with pytest.raises(PicturesError, match="number 2: no memory") as caught:
            model(folder)
        assert [people and people.source for people in caught.value.people][2] is None
        assert [len(people) for people in caught.value.people[:2]] == [0, 2]

    def test_progress_is_shown(self, model, capsys):
        model([scene()] * 3, progress=True)
        assert "BMP" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"batch_size": 0}, "batch_size: expected a whole number from 1, got 0"),
            ({"batch_size": -1}, "batch_size"),
            ({"batch_size": 2.0}, "batch_size"),
            ({"batch_size": True}, "batch_size"),
            ({"batch_size": None}, "batch_size"),
            ({"min_score": 50}, "min_score: expected a number from 0 to 1, got 50"),
            ({"min_score": "0.5"}, "min_score"),
            ({"min_score": float("nan")}, "min_score"),
            ({"rounds": 0}, "rounds: expected a whole number, at least 1, got 0"),
            ({"rounds": "2"}, "rounds"),
            ({"rounds": 1.5}, "rounds"),
            ({"boxes": 5}, "boxes: expected one entry a picture, got int"),
        ],
    )
    def test_options_are_checked(self, model, options, words):
        with pytest.raises(ValueError, match=words):
            model([scene()], **options)


class TestCollection:
    def test_rows_slices_and_masks(self, people):
        assert len(people) == 2
        assert [person.box.tolist() for person in people] == people.boxes.tolist()
        assert people[-1] == people[1] != people[0]
        assert people[np.int64(1)] == people[1]
        for rows in (
            slice(1, None),
            [1],
            [False, True],
            np.array([1]),
            np.array([False, True]),
            torch.tensor([1]),
            people.boxes[:, 0] > 20,
        ):
            part = people[rows]
            assert isinstance(part, People)
            assert part.boxes.tolist() == [list(TWO[1])]
            assert part[0] == people[1]
        assert len(people[:0]) == len(people[[]]) == len(people[people.scores > 0.95]) == 0
        assert people[:2] == people != people[:1]
        assert people[[1, 0]] != people
        assert people != "people"

    @pytest.mark.parametrize("rows", [2, -3, [2], [True], torch.ones(3, dtype=torch.bool), [[0]]])
    def test_rows_that_there_are_not(self, people, rows):
        with pytest.raises(IndexError):
            people[rows]

    def test_a_person_has_all_columns(self, people):
        person = people[1]
        assert isinstance(person, Person)
        assert person.box.tolist() == list(TWO[1])
        assert person.score == pytest.approx(0.9)
        assert person.mask.shape == (48, 64)
        assert person.area == int(people.masks[1].sum())
        assert person.mask_score == pytest.approx(float(people.mask_scores[1]))
        assert person.round == 1
        assert person.keypoints.shape == (17, 2)
        for name in ("keypoint_scores", "visibility", "presence"):
            assert torch.equal(getattr(person, name), getattr(people, name)[1])
        assert "0.90" in repr(person)

    def test_keypoints_by_name(self, people):
        assert torch.equal(people.keypoint("left_wrist"), people.keypoints[:, 9])
        assert torch.equal(people[1].keypoint("nose"), people.keypoints[1, 0])
        with pytest.raises(UserError, match="did you mean 'left_wrist'"):
            people.keypoint("left_wirst")

    def test_crops(self, people):
        assert people.crop(0).size == (10, 20)
        cut = people[1].crop(masked=True)
        assert cut.mode == "RGBA"
        assert cut.size == (30, 30)
        mask = people.masks[1, 10:40, 30:60].numpy()
        assert ((np.asarray(cut)[..., 3] == 255) == mask).all()
        with pytest.raises(IndexError):
            people.crop(2)

    @pytest.mark.parametrize("box", [(-20, -20, 5, 5), (60, 40, 90, 90), (3.5, 3.5, 3.5, 3.5), (64, 48, 70, 70)])
    def test_crops_at_the_edge_have_pixels(self, model, box):
        empty = model(scene())
        one = Instances.concat([model(scene(), boxes=[[1, 1, 9, 9]], only_given=True).instances])
        rows = Detections(torch.tensor([box], dtype=torch.float32), torch.ones(1))
        people = People(empty.image, Instances(rows, one.poses, one.masks, one.round), empty.keypoint_set)
        assert min(people.crop(0, masked=True).size) >= 1

    def test_numpy_json_and_files(self, people, tmp_path):
        values = people.numpy()
        assert values["keypoints"].shape == (2, 17, 2)
        assert values["masks"].dtype == bool
        content = json.loads(people.to_json())
        assert [row["bbox"] for row in content["annotations"]] == [[5, 5, 10, 20], [30, 10, 30, 30]]
        assert content["images"][0]["width"] == 64
        people.save(tmp_path / "a.json")
        assert json.loads((tmp_path / "a.json").read_text()) == content
        people.save(tmp_path / "a.PNG")
        assert (np.asarray(PIL.Image.open(tmp_path / "a.PNG")) == np.asarray(people.plot())).all()
        for name, words in (("a.txt", "ends in .json"), ("a", "ends in .json"), ("no/a.png", "cannot be written")):
            with pytest.raises(UserError, match=words):
                people.save(tmp_path / name)

    @pytest.mark.slow
    def test_dataframe(self, people, monkeypatch):
        table = people.to_dataframe()
        assert table["x2"].tolist() == [15, 60]
        assert table["left_wrist_x"].tolist() == people.keypoint("left_wrist")[:, 0].tolist()
        assert table["area"].tolist() == people.masks.sum(dim=(1, 2)).tolist()
        assert people[:0].to_dataframe().shape == (0, table.shape[1])
        monkeypatch.setitem(__import__("sys").modules, "pandas", None)
        with pytest.raises(ImportError, match="pip install pandas"):
            people.to_dataframe()

    def test_supervision(self, people):
        found, points = people.to_supervision()
        assert found.xyxy.tolist() == people.boxes.tolist()
        assert found.mask.shape == (2, 48, 64)
        assert found.confidence.tolist() == people.scores.tolist()
        assert points.xy.shape == (2, 17, 2)
        assert len(people[:0].to_supervision()[0]) == 0

    def test_plot_leaves_out_what_it_is_told_to(self, people):
        def ink(**options):
            return int((np.asarray(people.plot(**options)) != people.image.pixels.numpy()).any(axis=2).sum())

        nothing = dict(boxes=False, masks=False, skeletons=False, labels=False)
        assert ink(**nothing) == 0
        for name in nothing:
            assert 0 < ink(**{**nothing, name: True}) < ink()
        assert ink(min_score=0.95) == 0
        assert ink(line_width=6) > ink(line_width=1)
        with pytest.raises(ValueError, match="min_score"):
            people.plot(min_score=2)

    @pytest.mark.slow
    def test_a_notebook_shows_a_light_picture(self, model):
        big = model(torch.zeros(3000, 4000, 3, dtype=torch.uint8), boxes=[[100, 100, 2000, 2900]])
        shown = PIL.Image.open(io.BytesIO(big._repr_png_()))
        assert shown.size == (1000, 750)
        assert len(big._repr_png_()) < 300_000
        assert PIL.Image.open(io.BytesIO(big[0]._repr_png_())).size == (1000, 750)

    def test_show_opens_a_viewer_outside_notebooks(self, people, monkeypatch):
        shown = []
        monkeypatch.setattr(PIL.Image.Image, "show", lambda self: shown.append(self.size))
        people.show()
        assert shown == [(64, 48)]


class Net(FakeDetector):
    def __init__(self):
        super().__init__()
        self.parts = [torch.nn.Linear(3, 4), {"not": "looked into"}]


class TestModel:
    def test_info(self, model):
        info = BMP(Net(), FakePose(), FakeSegmenter(), KeepAll(), rounds=3).info()
        assert [(s.role, s.type, s.device, s.parameters) for s in info.stages][:2] == [
            ("detector", "Net", "cpu", 16),
            ("pose", "FakePose", None, 0),
        ]
        assert info.rounds == 3
        assert "detector" in str(info)
        assert "3 rounds" in str(info)

    def test_info_names_weights(self):
        class Weighted(FakeDetector):
            def __init__(self, weights="given/by_default.tflite"):
                super().__init__()

        model = BMP(Weighted(), FakePose(), FakeSegmenter(), KeepAll())
        assert model.info().stages[0].weights == ("given/by_default.tflite",)
        model.weights = {"detector": ("own.pth",)}
        assert model.info().stages[0].weights == ("own.pth",)

    @pytest.mark.slow
    def test_info_of_a_built_model(self):
        stages = {stage.role: stage for stage in bmp.load("nano.py", device="cpu").info().stages}
        assert stages["pose"].weights == ("nano/pmpose-nano.safetensors",)
        assert stages["segmenter"].weights == ("nano/sam-pose2seg-nano.safetensors",)
        assert 2_000_000 < stages["pose"].parameters < 2_500_000
        assert stages["pose"].device == "cpu"
        assert stages["suppressor"].parameters == 0

    def test_models_and_people_pickle_and_copy(self, model, people):
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert other(scene(*TWO)) == people
        assert pickle.loads(pickle.dumps(people)) == copy.deepcopy(people) == people
        assert pickle.loads(pickle.dumps(people[1])) == people[1]

    def test_presets(self):
        presets = bmp.presets()
        assert {"lite.py", "nano.py", "bmp_v2.py"} <= set(presets)
        assert all(20 < len(text) < 200 and "\n" not in text for text in presets.values())
