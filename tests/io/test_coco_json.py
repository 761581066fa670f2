"""COCO-format labels: what is kept, what is filled in or left out and said, and which mistakes are named."""

import contextlib
import copy
import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_fakes import HEIGHT, POINTS, SQUARE, WIDTH, dataset, person, write
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from bmp.errors import UserError
from bmp.io.coco_json import read_labels
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS


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

    @pytest.mark.slow
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


PERSON_AND_CAR = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
H36M = ["pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "neck"]
CROWDPOSE = [
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
]


def packed(mask):
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


class TestFilledInAndLeftOut:
    def said(self, labels, words, count, first=None):
        (line,) = [line for line in labels.notices if words in line]
        assert f": {count}, the first is {first or 'annotations[0]'}" in line
        assert "\n" not in line

    def test_nothing_is_said_of_a_file_that_has_everything(self, labels):
        assert labels(annotations=[person(segmentation=[SQUARE], keypoints=POINTS, num_keypoints=2)]).notices == []

    @pytest.mark.parametrize("area", [0, 0.0, None, ...])
    def test_an_area_is_that_of_the_mask_or_else_of_the_box(self, labels, area):
        rows = [person(1, bbox=[1, 1, 4, 4], area=area), person(2, area=area, segmentation=[SQUARE])]
        if area is ...:
            for row in rows:
                del row["area"]
        read = labels(annotations=rows)
        assert [row["area"] for row in read.dataset["annotations"]] == [16, 9]
        self.said(read, "without an area", 2)

    def test_labelled_keypoints_are_counted_anew(self, labels):
        read = labels(annotations=[person(1, keypoints=POINTS, num_keypoints=0), person(2, keypoints=POINTS)])
        assert [row["num_keypoints"] for row in read.dataset["annotations"]] == [2, 2]
        self.said(read, "num_keypoints", 1)

    def test_other_categories_are_counted_by_name(self, labels):
        read = labels(
            categories=PERSON_AND_CAR, annotations=[person(1), person(2, category_id=2), person(3, category_id=2)]
        )
        assert len(read.dataset["annotations"]) == 1
        self.said(read, "other categories left out (car 2)", 2, "annotations[1]")

    @pytest.mark.parametrize("name", ["person", "human", "Person"])
    @pytest.mark.parametrize("names", [CROWDPOSE, [*H36M, *"abcdefgh"], list(COCO_KEYPOINTS.names)[::-1]])
    def test_other_keypoints_are_left_out_and_the_rest_is_read(self, labels, name, names):
        rows = [person(keypoints=[2, 2, 2] * len(names), num_keypoints=len(names), segmentation=[SQUARE])]
        read = labels(categories=[{"id": 1, "name": name, "keypoints": names}], annotations=rows)
        (row,) = read.dataset["annotations"]
        assert "keypoints" not in row
        assert "num_keypoints" not in row
        assert row["segmentation"] == [SQUARE]
        self.said(read, f"not COCO's 17 in COCO's order (but {len(names)}", 1)

    def test_cocos_keypoints_may_be_spelled_otherwise(self, labels):
        names = [name.replace("_", " ").title() for name in COCO_KEYPOINTS.names]
        rows = [person(keypoints=POINTS)]
        read = labels(categories=[{"id": 1, "name": "person", "keypoints": names}], annotations=rows)
        assert read.dataset["annotations"][0]["keypoints"] == POINTS
        assert read.notices == []

    @pytest.mark.parametrize("name", [name for name in KEYPOINT_SETS if name not in ("mpii", "humanart")])
    def test_each_published_set_is_read_by_its_names(self, labels, name):
        known = KEYPOINT_SETS[name]
        points = [2, 2, 2, *[0] * (3 * len(known) - 6), 3, 3, 1]
        rows = [person(1, keypoints=points), person(2)]
        found = labels(categories=[{"id": 1, "name": "person", "keypoints": list(known.names)}], annotations=rows)
        assert (found.keypoints.name, found.unknown_keypoints, found.notices) == (name, "", [])
        assert found.dataset["categories"][0]["keypoints"] == list(known.names)
        first, second = found.dataset["annotations"]
        assert (first["keypoints"], first["num_keypoints"]) == (points, 2)
        assert (second["keypoints"], second["num_keypoints"]) == ([0] * 3 * len(known), 0)

    @pytest.mark.parametrize("name", ["jhmdb", "ochuman19", "humanart21", "pmpose", "halpe26", "coco_wholebody"])
    def test_a_number_that_one_set_has_names_it_and_is_said(self, labels, name):
        rows = [person(n, keypoints=[2, 2, 2] * len(KEYPOINT_SETS[name])) for n in (1, 2)]
        found = labels(annotations=rows)
        assert found.keypoints.name == name
        self.said(found, f"keypoints without names, taken for {KEYPOINT_SETS[name]}", 2)

    def test_further_fields_tell_sets_of_as_many_keypoints(self, labels):
        def named(count, images=(), **more):
            rows = [person(n, keypoints=[2, 2, 2] * count, **more) for n in (1, 2)]
            data = dataset(annotations=rows)
            for image in data["images"]:
                image |= dict(images)
            return labels(annotations=rows, images=data["images"]).keypoints.name

        assert named(14, {"crowdIndex": 0.3}) == "crowdpose"
        assert named(16) == "mhp"
        assert named(16, bbox_head=[1, 1, 2, 2]) == named(16, head_size=3.5) == "mpii"
        assert named(17, bbox_head=[1, 1, 2, 2]) == "posetrack18"
        assert named(17) == "coco"

    def test_the_set_may_be_given(self, tmp_path):
        rows = [person(n, keypoints=[2, 2, 2] * 14) for n in (1, 2)]
        path = write(tmp_path, dataset(annotations=rows))
        assert read_labels(path, "aic").keypoints.name == "aic"
        with pytest.raises(UserError, match="expected keypoints to be x, y, v for each of Halpe's 26, 78 numbers"):
            read_labels(path, "halpe26")
        with pytest.raises(UserError, match="there is no set 'aci'; did you mean 'aic'"):
            read_labels(path, "aci")

    def test_crowdpose_counts_visible_keypoints(self, labels):
        names = list(KEYPOINT_SETS["crowdpose"].names)
        rows = [
            person(1, keypoints=[2, 2, 1] * 14, num_keypoints=0),
            person(2, keypoints=[2, 2, 2, *[2, 2, 1] * 13], num_keypoints=1),
            person(3, keypoints=[2, 2, 2, *[2, 2, 1] * 13], num_keypoints=5),
        ]
        found = labels(categories=[{"id": 1, "name": "person", "keypoints": names}], annotations=rows)
        assert [row["num_keypoints"] for row in found.dataset["annotations"]] == [0, 1, 14]
        self.said(found, "num_keypoints", 1, "annotations[2]")

    def test_the_parts_of_a_whole_body_are_joined(self, labels):
        parts = {"foot_kpts": [3, 3, 1] * 6, "lefthand_kpts": [0.0] * 63}
        rows = [person(1, keypoints=POINTS, num_keypoints=2, face_valid=False, **parts), person(2)]
        found = labels(annotations=rows)
        assert (found.keypoints.name, found.notices) == ("coco_wholebody", [])
        first, second = found.dataset["annotations"]
        assert (first["keypoints"], first["num_keypoints"]) == ([*POINTS, *[3, 3, 1] * 6, *[0] * 330], 8)
        assert second["keypoints"] == [0] * 399
        with pytest.raises(UserError, match="expected foot_kpts to be x, y, v for each of 6 keypoints"):
            labels(annotations=[person(foot_kpts=[1, 1, 2])])

    def test_heads_that_make_no_sense_are_left_out_and_said(self, labels):
        rows = [person(1, bbox_head=[1, 1, -2, 3]), person(2, head_size="large"), person(3, bbox_head=[1, 1, 2, 3])]
        found = labels(annotations=rows)
        assert [set(row) & {"bbox_head", "head_size"} for row in found.dataset["annotations"]] == [
            set(),
            set(),
            {"bbox_head"},
        ]
        self.said(found, "boxes of heads", 1, "annotations[0]")
        self.said(found, "sizes of heads", 1, "annotations[1]")

    def test_why_keypoints_are_unknown_is_kept(self, labels):
        rows = [person(keypoints=[2, 2, 2] * 2)]
        found = labels(categories=[{"id": 1, "name": "person", "keypoints": ["snout", "tail"]}], annotations=rows)
        assert found.keypoints.name == "coco"
        assert "but 2: snout, tail" in found.unknown_keypoints
        assert "say which (--keypoints NAME" in found.unknown_keypoints

    def test_as_many_other_keypoints_without_names_are_left_out(self, labels):
        read = labels(annotations=[person(n, keypoints=[2, 2, 2] * 14) for n in (1, 2)])
        self.said(read, "but 14 without names", 2)

    def test_who_has_no_mask_or_cannot_be_found_is_said(self, labels):
        rows = [person(n, segmentation=[SQUARE]) for n in (1, 2, 3)] + [person(4), person(5, bbox=[100, 1, 3, 3])]
        read = labels(annotations=rows)
        self.said(read, "people without a mask, while 3 have one", 2, "annotation 4")
        self.said(read, "no size or is outside the image", 1, "annotation 5")

    def test_ids_and_boxes_are_filled_in(self, labels):
        rows = [person(7), {"image_id": 1, "segmentation": [SQUARE]}, {"image_id": 1, "bbox": [1, 2, 3, 4]}]
        del rows[0]["category_id"]
        read = labels(annotations=rows)
        assert [row["id"] for row in read.dataset["annotations"]] == [7, 8, 9]
        assert read.dataset["annotations"][1]["bbox"] == [1, 1, 3, 3]
        self.said(read, "without an id", 2, "annotations[1]")
        self.said(read, "without a box", 1, "annotations[1]")

    @pytest.mark.parametrize("crowd", [True, 1])
    def test_a_crowd_may_be_called_true(self, labels, crowd):
        assert labels(annotations=[person(iscrowd=crowd)]).dataset["annotations"][0]["iscrowd"] == 1

    def test_scores_of_another_kind_are_left_out(self, labels):
        read = labels(annotations=[person(1, score=0.5), person(2, score=87), person(3, score="high")])
        assert [row.get("score") for row in read.dataset["annotations"]] == [0.5, None, None]
        self.said(read, "scores that are no numbers in [0, 1], left out", 2, "annotations[1]")

    def test_runs_of_nothing_do_not_matter(self, read):
        rows = [person(segmentation=dict(size=[HEIGHT, WIDTH], counts=[7, 3, 0, 2, 5, 0, HEIGHT * WIDTH - 17, 0]))]
        mask = np.zeros(HEIGHT * WIDTH, np.uint8)
        mask[7:12] = 1
        expected = packed(mask.reshape(WIDTH, HEIGHT).T)
        assert read(annotations=rows)["annotations"][0]["segmentation"]["counts"] == expected


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            *[(dict(annotations=[person(segmentation=dict(size=[HEIGHT, WIDTH], counts=counts))]), rf"annotations\[0\]: {words}") for counts, words in (
                ("zz~~$$abc", "its run lengths are broken, its text has characters that mean nothing, such as 'z'"),
                ("", "its run lengths are broken, they are empty"),
                ("é0", "its run lengths are broken, its text has letters outside ASCII"),
                ("a\0", "its run lengths are broken"),
                ("oooooooo1", "its run lengths are broken, a run is longer than any image"),
                ("o", "its run lengths are broken, its text is cut off"),
                ("1" * 5000, "its run lengths do not add up"),
                ("K", "its run lengths do not add up"),
                (packed(np.ones((20, 20))), "its run lengths do not add up to the 48 pixels"),
                ([], "its run lengths do not add up"),
                ([-1, 49], "its run lengths do not add up"),
                ([10**400], "its run lengths are broken, expected whole numbers"),
                ([48.0], "its run lengths are broken, expected whole numbers"),
            )],
            *[(dict(annotations=[person(segmentation=[polygon])]), r"annotations\[0\]: ") for polygon in (
                [1e9, 1, 4, 1, 4, 4], [1, -1e9, 4, 1, 4, 4], [1e308, 1, 4, 1, 4, 4], [1, 1, 4, 10**400, 4, 4],
                [1, 1, 1e6, 1, 4, 4], [float("inf"), 1, 4, 1, 4, 4], [0, 0, 800, 800] * 200,
            )],
            (dict(annotations=[person(bbox=[1, 1, 10**400, 3])]), "expected bbox to be"),
            (dict(annotations=[person(bbox=[-1e308, 0, 1e308, 1])]), "expected bbox to be"),
            (dict(annotations=[person(bbox=[1, 1, 1e6, 3])]), "bbox .* reaches further than 1080 pixels out of its image"),
            (dict(annotations=[person(area=10**400)]), "expected area to be square pixels"),
            (dict(annotations=[person(area=1e308)]), "expected area to be square pixels"),
            (dict(annotations=[person(keypoints=[1e308, 1, 2, *POINTS[3:]])]), "expected keypoints to be"),
            (dict(annotations=[person(keypoints=3)]), "expected keypoints to be"),
            (dict(annotations=[person(10**30)]), "expected id to be a whole number"),
            (dict(annotations=[person(category_id="1")], categories=PERSON_AND_CAR), r"annotations\[0\]: expected category_id to be the id of a category: 1 \(person\), 2 \(car\), got '1'"),
            (dict(annotations=[{"id": 1, "image_id": 1, "bbox": [1, 1, 2, 2]}], categories=PERSON_AND_CAR), "expected category_id to be"),
            (dict(annotations=[person(category_id=3)], categories=PERSON_AND_CAR), "expected category_id to be .* got 3"),
            (dict(annotations=[person(iscrowd="0")]), "expected iscrowd to be 0 or 1, got '0'"),
            (dict(annotations=[person(n, category_id=2) for n in (1, 2)], categories=PERSON_AND_CAR), "none of its 2 annotations is of a person; they are of car 2"),
            (dict(annotations=[person(image_id="1")]), "image_id '1' is not the id of any of its images"),
            (dict(images=[dict(id=n, file_name=f"{n}.png", height=6, width=8) for n in (1, "x")]), r"images\[1\]: its id 'x' is of another kind than those before, which are numbers"),
            (dict(images=[dict(id=1, file_name="a", height=10**30, width=8)]), "expected height to be pixels"),
            (dict(images=[dict(id=1, file_name="a", height=65000, width=65000)]), "more than 268435456; cut it up"),
            *[(dict(images=[dict(id=1, file_name=name, height=6, width=8)]), r"images\[0\]: expected file_name to be the name of a file") for name in ("", "a\0.png", "a" * 300, "/".join("ab" * 3000), "\ud800", 3)],
            (dict(categories=[dict(id=[1], name="person")]), r"categories\[0\]: expected id"),
            (dict(categories=[dict(id=1, name=3)]), r"categories\[0\]: expected name"),
            (dict(categories={}), "expected a COCO dataset with a list 'categories'"),
        ],
    )  # fmt: skip
    def test_what_would_do_harm_is_refused_by_name(self, labels, changes, words):
        with pytest.raises(UserError, match=words) as caught:
            labels(**changes)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"[" * 100_000, "nested too deeply"),
            (b'{"images": [' + b"1" * 5000 + b"]}", "not JSON|expected an object"),
            (b'{"images": 1e400}', "expected a COCO dataset with a list 'images'"),
        ],
    )
    def test_json_that_is_hard_to_read(self, tmp_path, content, words):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_labels(tmp_path / "x.json")

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.json")
        with pytest.raises(UserError, match="no regular file"):
            read_labels(tmp_path / "pipe.json")


class TestOCHumansOwnFile:
    def read(self, folder, **changes):
        person = {
            "bbox": [1, 1, 5, 4],
            "keypoints": [2, 2, 1, 3, 3, 2, 4, 3, 3, *[0] * 48],
            "segms": {"outer": [SQUARE], "inner": []},
        }
        image = {
            "image_id": "000007",
            "file_name": "000007.jpg",
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": [person | changes],
        }
        data = {"keypoint_names": list(KEYPOINT_SETS["ochuman19"].names), "keypoint_visible": {}, "images": [image]}
        return read_labels(write(folder, data))

    def test_it_is_read_with_its_19_keypoints_and_cocos_flags(self, tmp_path):
        found = self.read(tmp_path)
        assert found.keypoints.name == "ochuman19"
        (row,) = found.dataset["annotations"]
        assert row["bbox"] == [1, 1, 4, 3]
        assert row["keypoints"][:9] == [2, 2, 2, 3, 3, 2, 4, 3, 1]
        assert (row["num_keypoints"], row["segmentation"]) == (3, [SQUARE])
        assert found.dataset["images"][0]["file_name"] == "000007.jpg"

    def test_holes_are_cut_out(self, tmp_path):
        whole = [0, 0, 8, 0, 8, 6, 0, 6]
        row = self.read(tmp_path, segms={"outer": [whole], "inner": [[2, 2, 4, 2, 4, 4, 2, 4]]}).dataset["annotations"][
            0
        ]
        assert coco_mask.area(row["segmentation"]) == 48 - 4

    def test_people_without_labels_keep_their_boxes(self, tmp_path):
        (row,) = self.read(tmp_path, keypoints=None, segms=None).dataset["annotations"]
        assert set(row) & {"keypoints", "segmentation"} == set()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"bbox": [1, 2]}, r"images\[0\].annotations\[0\]: expected bbox to be \[left, top"),
            ({"keypoints": [1, 1, 4] * 19}, r"images\[0\].annotations\[0\]: expected keypoints to be x, y and 0 to 3"),
            ({"keypoints": [1, 1, 2] * 3}, "expected keypoints to be x, y, v for each of OCHuman's 19"),
            ({"segms": "all"}, "expected segms to be the polygons"),
            ({"segms": {"outer": [[1e9] * 6], "inner": [SQUARE]}}, r"annotations\[0\].segms: "),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, change, message):
        with pytest.raises(UserError, match=message):
            self.read(tmp_path, **change)
