"""COCO-format ground truth: what is kept, what is brought to one form, and which mistakes are named."""

import contextlib
import copy
import io
import json

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from bmp.build import build_dataset
from bmp.config import load_config
from bmp.datasets.people import PeopleDataset, read_people
from bmp.errors import UserError
from bmp.evaluation.rounds import labelled_kinds
from bmp.io.images import ImageError
from bmp.label_sets import COCO_KEYPOINTS

HEIGHT, WIDTH = 6, 8
SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]
POINTS = [2, 2, 2, 3, 3, 1] + [0] * 45


def person(number=1, image_id=1, **changes):
    row = {"id": number, "image_id": image_id, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
    return row | changes


def dataset(**changes):
    data = {
        "images": [{"id": number, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH} for number, name in ((7, "b"), (1, "a"))],
        "annotations": [person()],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip
    return data | changes


def write(folder, data):
    path = folder / "people.json"
    path.write_text(json.dumps(data))
    return path


def images_in(folder, *names, size=(WIDTH, HEIGHT), colour=(10, 20, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        PIL.Image.new("RGB", size, colour).save(folder / name)
    return folder


@pytest.fixture
def read(tmp_path):
    return lambda **changes: read_people(write(tmp_path, dataset(**changes)))


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


class TestReading:
    def test_only_persons_are_read_and_all_images_stay(self, read):
        categories = [{"id": 5, "name": "dog"}, {"id": 3, "name": "person"}]
        ground_truth = read(
            categories=categories, annotations=[person(1, category_id=5), person(2, category_id=3, parts=[4])]
        )
        assert [row["id"] for row in ground_truth["annotations"]] == [2]
        assert ground_truth["annotations"][0]["category_id"] == 1
        assert ground_truth["annotations"][0]["parts"] == [4]
        assert [image["id"] for image in ground_truth["images"]] == [7, 1]
        (category,) = ground_truth["categories"]
        assert (category["id"], category["name"], len(category["keypoints"])) == (1, "person", 17)

    @pytest.mark.parametrize("categories", [[], [{"id": 9, "name": "pedestrian"}], None])
    def test_without_a_choice_of_categories_everybody_is_a_person(self, tmp_path, categories):
        data = dataset(categories=categories, annotations=[person(category_id=9)])
        if categories is None:
            del data["categories"]
        assert len(read_people(write(tmp_path, data))["annotations"]) == 1

    def test_what_is_optional_is_absent_or_filled_for_all(self, read):
        rows = [person(1), person(2, keypoints=POINTS), person(3, keypoints=POINTS, num_keypoints=1, segmentation=None)]
        del rows[0]["iscrowd"]
        first, second, third = read(annotations=rows)["annotations"]
        assert first["iscrowd"] == 0
        assert first["keypoints"] == [0] * 51
        assert [row["num_keypoints"] for row in (first, second, third)] == [0, 2, 1]
        assert not any("segmentation" in row for row in (first, second, third))
        assert "keypoints" not in read(annotations=[person(keypoints=[], num_keypoints=0)])["annotations"][0]

    def test_an_id_that_pycocotools_takes_for_nothing_is_replaced(self, read):
        assert [row["id"] for row in read(annotations=[person(0), person(3), person(1)])["annotations"]] == [4, 3, 1]

    def test_pieces_without_area_leave_a_polygon(self, read):
        (row,) = read(annotations=[person(segmentation=[[1, 1, 2, 2], SQUARE, []])])["annotations"]
        assert row["segmentation"] == [SQUARE]

    @given(st.integers(0, 2**32 - 1))
    def test_run_lengths_of_any_kind_mean_the_same_mask(self, tmp_path_factory, seed):
        folder = tmp_path_factory.mktemp("rle")
        mask = np.random.default_rng(seed).integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8)
        flat = mask.ravel(order="F")
        ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
        counts = [0] * int(flat[0]) + np.diff(ends).tolist()
        compressed = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
        rows = [
            person(number, segmentation={"size": [HEIGHT, WIDTH], "counts": kind})
            for number, kind in enumerate((counts, compressed), 1)
        ]
        read = read_people(write(folder, dataset(annotations=rows)))["annotations"]
        assert read[0]["segmentation"] == {"size": [HEIGHT, WIDTH], "counts": compressed}
        assert read[1]["segmentation"] == read[0]["segmentation"]

    def test_pycocotools_takes_the_truth(self, read):
        rle = {"size": [HEIGHT, WIDTH], "counts": [7, 3, HEIGHT * WIDTH - 10]}
        ground_truth = read(annotations=[person(1, segmentation=[SQUARE]), person(2, segmentation=rle, iscrowd=1)])
        coco = COCO()
        coco.dataset = copy.deepcopy(ground_truth)
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
            assert len(coco.loadRes([dict(row, score=0.5) for row in ground_truth["annotations"]]).anns) == 2
        assert coco.annToMask(ground_truth["annotations"][0])[1:4, 1:4].all()
        assert coco.annToMask(ground_truth["annotations"][1]).sum() == 3

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            (dict(images=None), "expected a COCO dataset with a list 'images'"),
            (dict(annotations={}), "expected a COCO dataset with a list 'annotations'"),
            (dict(images=["a.png"]), r"images\[0\]: expected an object with named fields, got 'a.png'"),
            (dict(images=[dict(id=1, height=1, width=1)]), r"images\[0\]: expected file_name to be a name, found only id, height, width"),
            (dict(images=[dict(id=1.5, file_name="a", height=1, width=1)]), "expected id to be a name or whole number, got 1.5"),
            (dict(images=[dict(id=1, file_name="a", height=0, width=1)]), "expected height to be pixels, a whole number from 1, got 0"),
            (dict(images=[dict(id=1, file_name=name, height=1, width=1) for name in "ab"]), r"images\[1\]: id 1 was given to an image before"),
            (dict(images=[dict(id=n, file_name="a", height=1, width=1) for n in (1, 2)]), r"images\[1\]: a is listed twice"),
            (dict(annotations=[person(image_id=2)]), r"annotations\[0\]: image_id 2 is not the id of any of its images"),
            (dict(annotations=[person(image_id=[1])]), "image_id .* is not the id of any"),
            (dict(annotations=[person(), person()]), r"annotations\[1\]: id 1 was given to an annotation before"),
            (dict(annotations=[person("1")]), "expected id to be a whole number, got '1'"),
            (dict(annotations=[person(bbox=[1, 1, -3, 3])]), "expected bbox to be .x, y, width, height. in pixels, sizes at least 0, got"),
            (dict(annotations=[person(bbox=[1, 1, float("nan"), 3])]), "expected bbox to be"),
            (dict(annotations=[person(bbox=[1, 1, 3])]), "expected bbox to be"),
            (dict(annotations=[person(area=None)]), "expected area to be square pixels, at least 0, got None"),
            (dict(annotations=[person(iscrowd=2)]), "expected iscrowd to be 0 or 1, got 2"),
            (dict(annotations=[person(keypoints=POINTS[3:])]), "expected keypoints to be x, y, v for each of COCO's 17, 51 numbers"),
            (dict(annotations=[person(keypoints=[2, 2, 9, *POINTS[3:]])]), "v from 0 to 3"),
            (dict(annotations=[person(segmentation="x")]), "expected segmentation to be polygons or run lengths"),
            (dict(annotations=[person(segmentation=[1, 2, 3])]), "expected segmentation to be polygons"),
            (dict(annotations=[person(segmentation=[SQUARE[:7]])]), "expected segmentation to be polygons"),
            (dict(annotations=[person(segmentation=[[1, 1, 2, 2]])]), "none of its polygons has three corners"),
            (dict(annotations=[person(segmentation=dict(size=[3, 3], counts="0"))]), r"its mask is of size \[3, 3\], its image is \[6, 8\]"),
            (dict(annotations=[person(segmentation=dict(size=[6, 8], counts=[1, 2]))]), "do not add up to the 48 pixels"),
            (dict(categories=[dict(id=1, name="dog"), dict(id=2, name="cat")]), "none of its 2 categories is called person"),
            (dict(categories=[dict(id=1, name="person", keypoints=list(COCO_KEYPOINTS.names)[::-1])]), "expected COCO's 17 keypoints in COCO's order"),
        ],
    )  # fmt: skip
    def test_mistakes_are_named_with_their_place(self, read, changes, words):
        with pytest.raises(UserError, match=words) as caught:
            read(**changes)
        assert "\n" not in str(caught.value)
        assert "people.json: " in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "words"), [("{", "not JSON"), ("[]", "expected a COCO dataset, .* got \\[\\]"), ("\udcff", "not JSON")]
    )
    def test_a_file_that_is_something_else_is_refused(self, tmp_path, text, words):
        path = tmp_path / "x.json"
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match=f"x.json: {words}"):
            read_people(path)

    def test_a_file_that_does_not_exist_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"gone\.json: cannot be read, No such file"):
            read_people(tmp_path / "gone.json")
