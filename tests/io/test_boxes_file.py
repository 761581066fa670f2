"""Boxes from COCO JSON: which are read for which image, and what is said of files that cannot be used."""

import contextlib
import io
import json
from pathlib import Path

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

    @given(JSON)
    def test_any_json_gives_boxes_or_one_line(self, tmp_path_factory, data):
        path = self.write(tmp_path_factory.mktemp("any"), data if not isinstance(data, str) else json.dumps(data))
        with contextlib.suppress(UserError):
            assert all(isinstance(boxes, Detections) for boxes in load_boxes(path, ["a.jpg"]).boxes.values())
