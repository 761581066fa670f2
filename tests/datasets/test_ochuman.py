"""OCHuman in its published layout: splits, variants, and what a missing part is answered with."""

import json

import PIL.Image
import pytest

from bmp.build import build_dataset
from bmp.config import load_config
from bmp.datasets.ochuman import OCHuman
from bmp.errors import UserError


def labels(*areas):
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "000001.jpg", "height": 6, "width": 8}],
            "annotations": [
                {"id": n, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": area}
                for n, area in enumerate(areas, 1)
            ],
            "categories": [{"id": 1, "name": "person"}],
        }
    )


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "OCHuman"
    (folder / "images").mkdir(parents=True)
    PIL.Image.new("RGB", (8, 6)).save(folder / "images" / "000001.jpg")
    (folder / "ochuman_coco_format_val_range_0.00_1.00.json").write_text(labels(4))
    (folder / "ochuman_coco_format_test_range_0.00_1.00.json").write_text(labels(4, 4))
    (folder / "everybody.json").write_text(labels(4, 4, 4))
    return folder


@pytest.mark.parametrize(
    ("arguments", "name", "published", "people"),
    [
        ({}, "OCHuman test", "ochuman_test", 2),
        ({"split": "val"}, "OCHuman val", "ochuman_val", 1),
        ({"variant": "FL", "annotations": "everybody.json"}, "OCHuman-FL test", None, 3),
        ({"split": "val", "variant": "Pose", "annotations": "everybody.json"}, "OCHuman-Pose val", None, 3),
        ({"annotations": "everybody.json"}, "OCHuman test", "ochuman_test", 3),
    ],
)
def test_splits_and_variants(root, arguments, name, published, people):
    data = OCHuman(root, **arguments)
    assert (data.name, data.published) == (name, published)
    assert len(data.ground_truth["annotations"]) == people
    assert data.load(0).width == 8


def test_the_config_needs_a_root_only(root):
    data = build_dataset(load_config("ochuman.py", {"dataset.root": str(root), "dataset.split": "val"}))
    assert data.name == "OCHuman val"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "OCHuman test: no root is given; expected a folder with ochuman_coco_format_test_range_0.00_1.00.json, images in it, as .*Pose2Seg.*; give it with --set dataset.root=DIR"),
        ({"root": "nowhere"}, "nowhere is not a folder; expected"),
        ({"root": "OCHuman", "split": "train"}, "there is no split 'train'; there is: val, test"),
        ({"root": "OCHuman", "variant": "FL"}, "OCHuman-FL test: its labels are a file of their own; give it with --set dataset.annotations=FILE"),
        ({"root": "OCHuman", "annotations": "gone.json"}, "OCHuman has no gone.json; expected a folder with gone.json, images in it"),
    ],
)  # fmt: skip
def test_mistakes_give_the_layout_in_one_line(root, monkeypatch, arguments, words):
    monkeypatch.chdir(root.parent)
    with pytest.raises(UserError, match=words) as caught:
        OCHuman(**arguments)
    assert "\n" not in str(caught.value)
