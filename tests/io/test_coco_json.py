"""COCO-format labels: what is kept, what is filled in or left out and said, and which mistakes are named."""

import contextlib
import copy
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_fakes import HEIGHT, POINTS, SQUARE, WIDTH, dataset, person, write
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from bmp.errors import UserError
from bmp.io.coco_json import read_labels


@pytest.fixture
def labels(tmp_path):
    return lambda **changes: read_labels(write(tmp_path, dataset(**changes)))


@pytest.fixture
def read(labels):
    return lambda **changes: labels(**changes).dataset


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
        assert len(read_labels(write(tmp_path, data)).dataset["annotations"]) == 1

    def test_what_is_optional_is_absent_or_filled_for_all(self, read):
        rows = [person(1), person(2, keypoints=POINTS), person(3, keypoints=POINTS, num_keypoints=1, segmentation=None)]
        del rows[0]["iscrowd"]
        first, second, third = read(annotations=rows)["annotations"]
        assert first["iscrowd"] == 0
        assert first["keypoints"] == [0] * 51
        assert [row["num_keypoints"] for row in (first, second, third)] == [0, 2, 2]
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
        read = read_labels(write(folder, dataset(annotations=rows))).dataset["annotations"]
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
            (dict(images=[dict(id=1, height=1, width=1)]), r"images\[0\]: expected file_name to be the name of a file, found only 'id', 'height', 'width'"),
            (dict(images=[dict(id=1.5, file_name="a", height=1, width=1)]), "expected id to be a name or whole number, got 1.5"),
            (dict(images=[dict(id=1, file_name="a", height=0, width=1)]), "expected height to be pixels, a whole number from 1 to 65535, got 0"),
            (dict(images=[dict(id=1, file_name=name, height=1, width=1) for name in "ab"]), r"images\[1\]: id 1 was given to an image before"),
            (dict(images=[dict(id=n, file_name="a", height=1, width=1) for n in (1, 2)]), r"images\[1\]: 'a' is listed twice"),
            (dict(annotations=[person(image_id=2)]), r"annotations\[0\]: image_id 2 is not the id of any of its images"),
            (dict(annotations=[person(image_id=[1])]), "image_id .* is not the id of any"),
            (dict(annotations=[person(), person()]), r"annotations\[1\]: id 1 was given to an annotation before"),
            (dict(annotations=[person("1")]), "expected id to be a whole number, got '1'"),
            (dict(annotations=[person(bbox=[1, 1, -3, 3])]), "expected bbox to be .x, y, width, height. in pixels, finite, sizes at least 0, got"),
            (dict(annotations=[person(bbox=[1, 1, float("nan"), 3])]), "expected bbox to be"),
            (dict(annotations=[person(bbox=[1, 1, 3])]), "expected bbox to be"),
            (dict(annotations=[person(area=-1)]), "expected area to be square pixels, from 0 to .*, got -1"),
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
            read_labels(path)

    def test_a_file_that_does_not_exist_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"gone\.json: cannot be read, No such file"):
            read_labels(tmp_path / "gone.json")
