"""Boxes from COCO JSON: which are read for which image, and what is said of files that cannot be used."""

import contextlib
import io
import json
from pathlib import Path

import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from bmp.errors import UserError
from bmp.io.boxes_file import load_boxes
from bmp.structures import Detections


class TestLoadBoxes:
    def write(self, tmp_path, data) -> Path:
        path = tmp_path / "boxes.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    def dataset(self, **more):
        return {
            "images": [{"id": 785, "file_name": "val2017/000000000785.jpg"}, {"id": 9, "file_name": "b.jpg"}],
            "annotations": [
                {"image_id": 785, "bbox": [1, 2, 3, 4], "category_id": 1},
                {"image_id": 785, "bbox": [0, 0, 5, 5], "category_id": 2},
                {"image_id": 785, "bbox": [0, 0, 50, 50], "category_id": 1, "iscrowd": 1},
                {"image_id": 785, "bbox": [10.5, 20, 0.5, 40], "category_id": 1, "score": 0.25},
            ],
            "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}],
            **more,
        }

    def test_dataset(self, tmp_path):
        boxes = load_boxes(self.write(tmp_path, self.dataset()), ["000000000785.jpg", "b.jpg", "c.jpg"]).boxes
        assert list(boxes) == ["000000000785.jpg", "b.jpg"]
        assert boxes["000000000785.jpg"].boxes.tolist() == [[1, 2, 4, 6], [10.5, 20, 11, 60]]
        assert boxes["000000000785.jpg"].scores.tolist() == [1, 0.25]
        assert len(boxes["b.jpg"]) == 0
        assert boxes["b.jpg"].boxes.shape == (0, 4)

    def test_only_category_need_not_be_called_person(self, tmp_path):
        data = self.dataset(categories=[{"id": 2, "name": "human"}])
        for row in data["annotations"]:
            row["category_id"] = 2
        assert len(load_boxes(self.write(tmp_path, data), ["b.jpg", "785.jpg"]).boxes["785.jpg"]) == 3
        del data["categories"]
        assert len(load_boxes(self.write(tmp_path, data), ["b.jpg", "785.jpg"]).boxes["785.jpg"]) == 3

    @pytest.mark.parametrize(
        "image_id", [785, "785", "000000000785", "000000000785.jpg", "x/000000000785.png", "785.jpg"]
    )
    def test_results_are_matched_by_name_stem_or_number(self, tmp_path, image_id):
        rows = [
            {"image_id": image_id, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 1},
            {"image_id": image_id, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 3},
            {"image_id": image_id, "bbox": [0, 0, 1, 1]},
        ]
        boxes = load_boxes(self.write(tmp_path, rows), ["in/000000000785.jpg", "in/b.jpg"]).boxes
        assert list(boxes) == ["in/000000000785.jpg"]
        assert boxes["in/000000000785.jpg"].boxes.tolist() == [[1, 2, 4, 6], [0, 0, 1, 1]]
        assert boxes["in/000000000785.jpg"].scores.tolist() == [0.5, 1.0]

    def test_full_paths_keep_equal_names_apart(self, tmp_path):
        rows = [{"image_id": name, "bbox": [i, 0, 1, 1]} for i, name in enumerate(["x/a.jpg", "y/a.jpg", "a.b.jpg"])]
        boxes = load_boxes(self.write(tmp_path, rows), ["y/a.jpg", "x/a.jpg", "a.b.jpg"]).boxes
        assert [boxes[name].boxes[0, 0].item() for name in ("x/a.jpg", "y/a.jpg", "a.b.jpg")] == [0, 1, 2]

    def test_real_annotations(self, shared):
        path = shared / "data" / "coco_mini" / "test_coco.json"
        names = sorted(entry.name for entry in path.parent.glob("*.jpg"))
        boxes = load_boxes(path, names).boxes
        assert list(boxes) == names
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(path))
        for image in coco.loadImgs(coco.getImgIds()):
            rows = [row for row in coco.imgToAnns[image["id"]] if not row["iscrowd"]]
            expected = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
            assert torch.allclose(boxes[image["file_name"]].boxes, torch.tensor(expected))

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ("{", "not JSON"),
            ("3", "got int"),
            ({}, "'images'"),
            ({"images": []}, "'annotations'"),
            ({"images": [3], "annotations": []}, r"images\[0\]"),
            ({"images": [{"id": 1}], "annotations": []}, r"images\[0\]: expected file_name"),
            ({"images": [{"id": [1], "file_name": "a"}], "annotations": []}, r"images\[0\]: expected id"),
            ({"images": [], "annotations": [{"image_id": 3}]}, r"annotations\[0\].*3"),
            ({"images": [], "annotations": [], "categories": [{"id": 1}, {"id": 2}]}, "called person"),
            ([{"bbox": [1, 2, 3, 4]}], r"results\[0\]: expected image_id"),
            ([{"image_id": "a"}], r"results\[0\]: expected bbox"),
            ([{"image_id": "a", "bbox": [1, 2, 3]}], r"results\[0\].*\[1, 2, 3\]"),
            ([{"image_id": "a", "bbox": [1, 2, 3, -4]}], "sizes at least 0"),
            ([{"image_id": "a", "bbox": [1, 2, 3, "4"]}], r"results\[0\]"),
            ('[{"image_id": "a", "bbox": [1, 2, NaN, 4]}]', "finite"),
            ([{"image_id": "a", "bbox": [1, 2, 3, 4], "score": 1.5}], "score"),
            ([{"image_id": "other", "bbox": [1, 2, 3, 4]}], "none of the inputs.*'other'.*'a.jpg'"),
            ([{"image_id": "a", "bbox": [0] * 4}, {"image_id": "a.png", "bbox": [0] * 4}], "both fit"),
        ],
    )
    def test_mistakes_are_one_line(self, tmp_path, data, words):
        path = self.write(tmp_path, data)
        with pytest.raises(UserError, match=words) as caught:
            load_boxes(path, ["a.jpg"])
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_one_image_for_two_inputs(self, tmp_path):
        path = self.write(tmp_path, [{"image_id": "a.jpg", "bbox": [1, 2, 3, 4]}])
        with pytest.raises(UserError, match=r"'a.jpg' fits the inputs x/a.jpg and y/a.jpg"):
            load_boxes(path, ["x/a.jpg", "y/a.jpg"])

    def test_missing_file(self, tmp_path):
        with pytest.raises(UserError, match="No such file"):
            load_boxes(tmp_path / "missing.json", ["a.jpg"])

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "person"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["images", "annotations", "categories", "id", "image_id", "file_name", "bbox", "score"]
                ),
                inner,
            )
        ),
        max_leaves=20,
    )

    @pytest.mark.slow
    @given(JSON)
    def test_any_json_gives_boxes_or_one_line(self, tmp_path_factory, data):
        path = self.write(tmp_path_factory.mktemp("any"), data if not isinstance(data, str) else json.dumps(data))
        with contextlib.suppress(UserError):
            assert all(isinstance(boxes, Detections) for boxes in load_boxes(path, ["a.jpg"]).boxes.values())


def row(**changes):
    return {"image_id": "a.jpg", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, **changes}


MMDETECTION = {"labels": [0, 16], "scores": [0.9, 0.8], "bboxes": [[1, 2, 4, 6], [0, 0, 9, 9]], "masks": []}
MMPOSE = [{"keypoints": [[0, 0]] * 17, "keypoint_scores": [1] * 17, "bbox": [[1, 2, 4, 6]], "bbox_score": 0.9}]


class TestGivenBoxes:
    def load(self, folder, data, inputs, **arguments):
        path = folder / "boxes.json"
        path.write_text(json.dumps(data))
        return load_boxes(path, inputs, **arguments)

    def test_inputs_that_the_file_is_silent_of_are_named(self, tmp_path):
        given = self.load(tmp_path, [row()], ["a.jpg", "b.jpg", "c.jpg"])
        assert given.silent == ["b.jpg", "c.jpg"]
        assert list(given.failures()) == ["b.jpg", "c.jpg"]
        assert given.failures(detect_silent=True) == {}
        assert [line for line in given.notices if "says nothing of: 2, the first is b.jpg" in line]

    @pytest.mark.parametrize(
        "name",
        [
            "A.JPG",
            "caf%C3%A9.jpg",
            "cafe\u0301.jpg",
            "x/1a2b3c4d-caf\u00e9.jpg",
            "caf\u00e9_jpg.rf.0123456789abcdef0123456789abcdef.jpg",
        ],
    )
    def test_names_of_label_tools_and_of_other_systems_are_found(self, tmp_path, name):
        inputs = ["a.jpg", "caf\u00e9.jpg"]
        given = self.load(tmp_path, [row(image_id=name)], inputs)
        (found,) = given.boxes
        assert found == ("a.jpg" if name == "A.JPG" else "caf\u00e9.jpg")
        loose = [line for line in given.notices if "spelled otherwise: 1" in line]
        assert bool(loose) == (name != "cafe\u0301.jpg")

    def test_an_exact_name_goes_before_one_without_extension(self, tmp_path):
        given = self.load(tmp_path, [row(image_id="a.jpg")], ["a.png", "a.jpg"])
        assert list(given.boxes) == ["a.jpg"]
        assert given.silent == ["a.png"]

    def test_no_results_are_nobody(self, tmp_path):
        given = self.load(tmp_path, [], ["a.jpg", "b.jpg"])
        assert [len(boxes) for boxes in given.boxes.values()] == [0, 0]
        assert given.failures() == {}
        assert len(given.notices) == 1

    def test_a_picture_with_others_only_is_known_and_empty(self, tmp_path):
        given = self.load(tmp_path, [row(), row(image_id="b.jpg", category_id=3)], ["a.jpg", "b.jpg"])
        assert {name: len(boxes) for name, boxes in given.boxes.items()} == {"a.jpg": 1, "b.jpg": 0}
        assert given.silent == []

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ([row(category_id=0)] * 3, "all 3 rows are of category 0, persons are 1"),
            ([row(category_id="1")], "category_id '1' is no number"),
            ([row(bbox=[1, 2, 1e9, 3])], "expected bbox|reaches further"),
            ([row(bbox=[1, 2, 10**400, 3])], "expected bbox"),
            ([row(score="0.5")], "expected score"),
            ([row(image_id=10**30)], "expected image_id"),
            ([{"frame_id": 0, "instances": []}], "frames of a video"),
        ],
    )
    def test_mistakes(self, tmp_path, data, words):
        with pytest.raises(UserError, match=words):
            self.load(tmp_path, data, ["a.jpg"])

    def test_boxes_outside_and_without_size_are_left_out(self, tmp_path):
        PIL.Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
        rows = [row(bbox=box) for box in ([128, 94, 20, 30], [10, 10, 0, 0], [-30, 5, 20, 20], [60, 40, 30, 30])]
        given = self.load(tmp_path, rows, ["a.jpg"], pictures=[tmp_path / "a.jpg"])
        assert given.boxes["a.jpg"].boxes.tolist() == [[60, 40, 90, 70]]
        assert [line.split(": ", 1)[1] for line in given.notices] == [
            "boxes without size, left out: 1, the first is a.jpg",
            "boxes outside their picture, left out: 2, the first is a.jpg",
        ]

    @pytest.mark.parametrize(("labelled", "works"), [((64, 48), "stored"), ((48, 64), "upright"), ((60, 60), None)])
    def test_sizes_are_compared_and_exif_is_named(self, tmp_path, labelled, works):
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        PIL.Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
        width, height = labelled
        data = {
            "images": [{"id": 1, "file_name": "a.jpg", "height": height, "width": width}],
            "annotations": [{"image_id": 1, "bbox": [1, 2, 10, 20]}],
        }
        for labels_in in ("upright", "stored"):
            given = self.load(tmp_path, data, ["a.jpg"], pictures=[tmp_path / "a.jpg"], labels_in=labels_in)
            if labels_in == works:
                expected = [1, 2, 11, 22] if works == "upright" else [26, 1, 46, 11]
                assert given.boxes["a.jpg"].boxes.tolist() == [expected]
            else:
                assert not given.boxes
                assert ("EXIF" in given.failures()["a.jpg"]) == (works is not None)

    def test_ids_are_explained_by_a_second_file(self, tmp_path):
        names = tmp_path / "names.json"
        images = [{"id": 900, "file_name": "x/b.jpg"}, {"id": 901, "file_name": "x/a.jpg"}]
        names.write_text(
            json.dumps({"images": images, "categories": [{"id": 7, "name": "person"}, {"id": 1, "name": "cat"}]})
        )
        rows = [row(image_id=901, category_id=7), row(image_id=900, category_id=1)]
        given = self.load(tmp_path, rows, ["a.jpg", "b.jpg"], names=names)
        assert {name: len(boxes) for name, boxes in given.boxes.items()} == {"b.jpg": 0, "a.jpg": 1}
        with pytest.raises(UserError, match="image_id 5 is not the id of any image"):
            self.load(tmp_path, [row(image_id=5)], ["a.jpg"], names=names)

    @pytest.mark.parametrize("data", [MMDETECTION, MMPOSE, {"meta_info": {}, "instance_info": MMPOSE}])
    def test_what_detectors_write_for_one_picture(self, tmp_path, data):
        folder = tmp_path / "preds"
        folder.mkdir()
        (folder / "results_a.json").write_text(json.dumps(data))
        for path in (folder, folder / "results_a.json"):
            given = load_boxes(path, ["x/a.jpg", "x/b.jpg"])
            assert given.boxes["x/a.jpg"].boxes.tolist() == [[1, 2, 4, 6]]
            assert given.boxes["x/a.jpg"].scores.tolist() == pytest.approx([0.9])
            assert given.silent == ["x/b.jpg"]

    def test_masks_without_boxes_have_those_around_them(self, tmp_path):
        mask = {"size": [4, 6], "counts": [5, 2, 17]}
        rows = [{"image_id": "a.jpg", "segmentation": mask}]
        assert self.load(tmp_path, rows, ["a.jpg"]).boxes["a.jpg"].boxes.tolist() == [[1, 1, 2, 3]]
