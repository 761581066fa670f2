"""Photos with labels: which file is which image, sizes, EXIF, folders, and what a config can say."""

import hashlib
import json
from pathlib import Path

import PIL.Image
import pytest
import torch
from label_fakes import HEIGHT, POINTS, SQUARE, WIDTH, dataset, person, write

from bmp.build import build_dataset
from bmp.config import load_config
from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.evaluation.rounds import labelled_kinds
from bmp.io.annotations import labelled_mask
from bmp.io.images import ImageError


def images_in(folder, *names, size=(WIDTH, HEIGHT), colour=(10, 20, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        PIL.Image.new("RGB", size, colour).save(folder / name)
    return folder


class TestDataset:
    def test_images_are_in_the_order_of_the_file(self, tmp_path):
        images_in(tmp_path, "a.png")
        images_in(tmp_path, "b.png", colour=(1, 2, 3))
        data = PeopleDataset(write(tmp_path, dataset()), tmp_path)
        assert len(data) == 2
        assert [data.file_name(index) for index in range(2)] == ["b.png", "a.png"]
        assert data.load(0).pixels[0, 0].tolist() == [1, 2, 3]
        assert data.load(1).pixels.shape == (HEIGHT, WIDTH, 3)
        assert data.name == "people"
        assert data.published is None
        assert PeopleDataset(tmp_path / "people.json", tmp_path, name="mine").name == "mine"

    def test_a_photo_and_its_checksum_come_from_one_reading(self, tmp_path, monkeypatch):
        images_in(tmp_path, "a.png", size=(WIDTH, HEIGHT + 1))
        images_in(tmp_path, "b.png", colour=(1, 2, 3))
        data = PeopleDataset(write(tmp_path, dataset()), tmp_path)
        digest = hashlib.sha256((tmp_path / "b.png").read_bytes()).hexdigest()
        assert data.checksum(0) == digest
        opened, open_file = [], Path.open
        monkeypatch.setattr(
            Path, "open", lambda path, *args, **named: opened.append(path) or open_file(path, *args, **named)
        )
        image, found = data.load_with_checksum(0)
        assert opened == [tmp_path / "b.png"]
        assert (image.pixels[0, 0].tolist(), found) == ([1, 2, 3], digest)
        with pytest.raises(ImageError, match=r"a\.png: expected 8x6 pixels as annotated, got 8x7"):
            data.load_with_checksum(1)

    def test_images_that_are_not_there_are_counted(self, tmp_path):
        images_in(tmp_path / "photos", "a.png")
        with pytest.raises(
            UserError, match=r"photos: 1 of the 2 images in .* are not here, the first is b\.png"
        ) as caught:
            PeopleDataset(write(tmp_path, dataset()), tmp_path / "photos")
        assert "\n" not in str(caught.value)

    def test_a_broken_image_and_one_of_another_size_are_image_errors(self, tmp_path):
        images_in(tmp_path, "a.png", size=(WIDTH, HEIGHT + 1))
        (tmp_path / "b.png").write_bytes(b"no picture")
        data = PeopleDataset(write(tmp_path, dataset()), tmp_path)
        with pytest.raises(ImageError, match=r"b\.png: not a picture"):
            data.load(0)
        with pytest.raises(ImageError, match=r"a\.png: expected 8x6 pixels as annotated, got 8x7"):
            data.load(1)

    @pytest.mark.parametrize(("min_area", "kept"), [(0, [1, 2, 3, 4]), (9, [1, 2, 4]), (9.5, [2, 4]), (1000, [4])])
    def test_small_people_are_dropped_and_crowds_stay(self, tmp_path, min_area, kept):
        images_in(tmp_path, "a.png", "b.png")
        rows = [person(1), person(2, area=10), person(3, area=8.99), person(4, area=1, iscrowd=1)]
        data = PeopleDataset(write(tmp_path, dataset(annotations=rows)), tmp_path, min_area=min_area)
        assert [row["id"] for row in data.ground_truth["annotations"]] == kept
        assert len(data) == 2

    @pytest.mark.parametrize(
        ("rows", "kinds"),
        [
            ([], ["bbox"]),
            ([person()], ["bbox"]),
            ([person(segmentation=[SQUARE], keypoints=POINTS)], ["bbox", "segm", "keypoints"]),
            ([person(segmentation=[SQUARE]), person(2)], ["bbox"]),
            (
                [person(segmentation=[SQUARE]), person(2, segmentation=[SQUARE], keypoints=POINTS)],
                ["bbox", "segm", "keypoints"],
            ),
            ([person(segmentation=[], keypoints=[])], ["bbox"]),
            ([person(keypoints=[0] * 51)], ["bbox"]),
        ],
    )
    def test_what_can_be_measured_is_known(self, tmp_path, rows, kinds):
        images_in(tmp_path, "a.png", "b.png")
        data = PeopleDataset(write(tmp_path, dataset(annotations=rows)), tmp_path)
        assert labelled_kinds(data.ground_truth) == kinds

    def test_it_is_built_from_a_config(self, tmp_path):
        images_in(tmp_path, "a.png", "b.png")
        own = tmp_path / "own.py"
        own.write_text(
            f"dataset = dict(type='PeopleDataset', annotations={str(write(tmp_path, dataset()))!r}, images='gone')"
        )
        data = build_dataset(load_config(own, {"dataset.images": str(tmp_path), "dataset.min_area": 1000}))
        assert type(data) is PeopleDataset
        assert data.ground_truth["annotations"] == []

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({}, "this config has no dataset"),
            ({"dataset": None}, "this config has no dataset"),
            ({"dataset": {"root": "x"}}, "dataset: expected a type; there is: .*COCO.*OCHuman.*PeopleDataset"),
            ({"dataset": {"type": "OCHumen"}}, "dataset: there is no dataset 'OCHumen'; did you mean 'OCHuman'"),
            ({"dataset": {"type": "COCO", "rot": "x"}}, "COCO has no argument 'rot'; did you mean 'root'"),
            ({"dataset": {"type": "PeopleDataset"}}, "PeopleDataset needs annotations, images"),
        ],
    )
    def test_mistakes_in_a_config_are_one_line(self, config, words):
        with pytest.raises(UserError, match=words) as caught:
            build_dataset(config)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("folder", "count", "people"), [("ochuman_mini", 3, 5), ("coco_mini", 4, 14)])
    def test_real_annotations(self, shared, folder, count, people):
        (annotations,) = (shared / "data" / folder).glob("*.json")
        data = PeopleDataset(annotations, shared / "data" / folder)
        assert len(data) == count
        assert len(data.ground_truth["annotations"]) == people
        assert labelled_kinds(data.ground_truth) == ["bbox", "segm", "keypoints"]
        assert [
            row
            for row in json.loads(annotations.read_text())["annotations"]
            if row not in data.ground_truth["annotations"]
        ] == []
        for index in range(count):
            assert data.load(index).pixels.dtype == torch.uint8


def stored(folder, name, size, tag):
    exif = PIL.Image.Exif()
    exif[0x0112] = tag
    folder.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, "grey").save(folder / name, exif=exif)


class TestFilesAndSizes:
    def data(self, folder, *names, rows=(), **arguments):
        images = [{"id": n, "file_name": name, "height": HEIGHT, "width": WIDTH} for n, name in enumerate(names, 1)]
        path = write(folder, dataset(images=images, annotations=list(rows)))
        return PeopleDataset(path, folder / "photos", **arguments)

    def test_photos_that_are_stored_turned_are_refused_with_the_reason(self, tmp_path):
        stored(tmp_path / "photos", "a.png", (WIDTH, HEIGHT), 6)
        data = self.data(tmp_path, "a.png", rows=[person()])
        with pytest.raises(
            ImageError, match=r"a\.png: expected 8x6 pixels as annotated, got 6x8: its EXIF orientation"
        ):
            data.load(0)
        assert data.turned_photos() == ["a.png"]

    def test_labels_of_stored_pixels_are_turned_with_the_photos(self, tmp_path):
        for name, tag in (("a.png", 6), ("b.png", 3), ("c.png", 1)):
            stored(tmp_path / "photos", name, (WIDTH, HEIGHT), tag)
        rows = [person(n, n, bbox=[1, 1, 3, 2], segmentation=[[1, 1, 4, 1, 4, 3, 1, 3]]) for n in (1, 2, 3)]
        data = self.data(tmp_path, "a.png", "b.png", "c.png", rows=rows, labels_in="stored")
        boxes = [row["bbox"] for row in data.ground_truth["annotations"]]
        assert boxes == [[3, 1, 2, 3], [4, 3, 3, 2], [1, 1, 3, 2]]
        for index, (image, row) in enumerate(
            zip(data.ground_truth["images"], data.ground_truth["annotations"], strict=True)
        ):
            picture = data.load(index)
            assert (picture.height, picture.width) == (image["height"], image["width"])
            assert labelled_mask(row, picture).sum() == 6

    def test_labels_that_are_not_of_stored_pixels_fail_their_image(self, tmp_path):
        stored(tmp_path / "photos", "a.png", (HEIGHT, WIDTH), 6)  # seen, it is as wide as the labels say
        stored(tmp_path / "photos", "b.png", (WIDTH, HEIGHT), 1)
        data = self.data(tmp_path, "a.png", "b.png", rows=[person()], labels_in="stored")
        with pytest.raises(ImageError, match="labels are for the upright picture; say so"):
            data.load(0)
        assert data.load(1).width == WIDTH

    @pytest.mark.parametrize("name", ["../a.png", "/etc/hostname", "b/../../a.png", "..\\a.png", "C:\\a.png"])
    def test_names_that_lead_out_of_the_folder_are_refused_unless_asked_for(self, tmp_path, name):
        images_in(tmp_path, "a.png")
        images_in(tmp_path / "photos" / "b", "b.png")
        with pytest.raises(UserError, match=r"images\[0\]: .* leads out of the folder of images"):
            self.data(tmp_path, name)
        if name in ("../a.png", "b/../../a.png"):
            assert self.data(tmp_path, name, outside=True).load(0).width == WIDTH

    @pytest.mark.parametrize("name", ["caf\u00e9 1.png", "cafe\u0301 1.png", "caf%C3%A9%201.png", "CAF\u00c9 1.PNG"])
    def test_names_are_compared_as_people_read_them(self, tmp_path, name):
        images_in(tmp_path / "photos" / "x", "cafe\u0301 1.png", "other.png")
        data = self.data(tmp_path, f"x/{name}")
        assert data.file_name(0) == f"x/{name}"
        assert data.load(0).width == WIDTH

    def test_people_by_image(self, tmp_path):
        images_in(tmp_path / "photos", "a.png", "b.png")
        data = self.data(tmp_path, "a.png", "b.png", rows=[person(1, 1), person(2, 1, iscrowd=1), person(3, 1)])
        assert {key: [row["id"] for row in rows] for key, rows in data.people().items()} == {1: [1, 3]}
